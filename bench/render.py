"""One table type, three renderers: CSV (raw numbers), Markdown and LaTeX (for people)."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from tabulate import tabulate

from safs.files import write_text

ABSENT = "-"
"""Shown where there is no value; never 0."""
UNBOUNDED = "unbounded, n < 6"
"""Shown for an exact 95% interval of fewer replicates than exclude anything."""

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
        "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "α": r"$\alpha$",
        "β": r"$\beta$",
    }
)  # fmt: skip


Facts = Mapping[Any, Any]
"""A row of a table: every fact by its key."""


@dataclass(frozen=True)
class Column:
    """A column for people: its heading, and what its cell says of a row."""

    heading: str
    text: Callable[[Facts], str]


@dataclass(frozen=True)
class Table:
    """A table for machines and people.

    ``frame`` has the raw numbers (one fact a cell, NaN where there is none), ``view`` the same
    rows as text under readable headings, ``caption`` says what is shown and how spread is defined.
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    view: pd.DataFrame

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        caption: str,
        rows: Sequence[Facts],
        columns: Sequence[Column],
        bare: Sequence[str] = (),
    ) -> Table:
        """A table of ``rows`` as ``columns`` show them; ``bare`` heads the CSV without any row."""
        frame = pd.DataFrame(rows, columns=list(rows[0] if rows else bare))
        return cls(name, title, caption, frame, view_of(rows, columns))

    def csv(self) -> str:
        """Raw numbers; an empty cell is an absent value."""
        return csv_text(self.frame)

    def markdown(self) -> str:
        """Heading, table and caption."""
        body = _text(self.view.map(_markdown_cell).rename(columns=_markdown_cell), "pipe")
        title, caption = _markdown_cell(self.title), _markdown_cell(self.caption)
        return f"## {title}\n\n{body if len(self.view) else 'none'}\n\n{caption}\n"

    def plain(self) -> str:
        """Title, table and caption for a terminal; a wide table wraps, nothing is cut off.

        Control characters, which could make a terminal do things, become question marks.
        """
        body = _text(self.view, "simple")
        text = f"{self.title}\n\n{body}\n\n{textwrap.fill(self.caption, 100)}\n"
        return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", "?", text)

    def latex(self) -> str:
        """A ``table`` environment ready to be included."""
        body = _text(self.view.map(_latex_cell).rename(columns=_latex_cell), "latex_raw")
        caption = _latex_cell(f"{self.title}. {self.caption}")
        inside = body if len(self.view) else "none"
        label = f"\\label{{tab:{self.name}}}"
        lines = ["\\begin{table}", "\\centering", f"\\caption{{{caption}}}", label]
        return "\n".join([*lines, inside, "\\end{table}", ""])

    def write(self, folder: Path) -> dict[str, Path]:
        """Write ``<name>.csv``, ``.md`` and ``.tex``; returns the paths by file name."""
        texts = {"csv": self.csv(), "md": self.markdown(), "tex": self.latex()}
        files = {f"{self.name}.{suffix}": text for suffix, text in texts.items()}
        return {name: write_text(folder / name, text) for name, text in files.items()}


def view_of(rows: Iterable[Facts], columns: Sequence[Column]) -> pd.DataFrame:
    """The text of every row under the columns' headings, which also stand where no row does."""
    texts = [[column.text(row) for column in columns] for row in rows]
    return pd.DataFrame(texts, columns=[column.heading for column in columns], dtype=object)


class Written(Protocol):
    """A table or a figure."""

    def write(self, folder: Path) -> dict[str, Path]:
        """Write its files; returns the paths by file name."""
        ...


def write_all(parts: Iterable[Written], folder: Path) -> dict[str, Path]:
    """Write the files of all tables or figures; returns the paths by file name."""
    return {name: path for part in parts for name, path in part.write(folder).items()}


def _text(cells: pd.DataFrame, form: str) -> str:
    return str(tabulate(cells, "keys", form, showindex=False, disable_numparse=True))


def _markdown_cell(value: object) -> str:
    text = " ".join(str(value).split())
    for mark in ("\\", "|", "<", ">", "*", "_", "`"):
        text = text.replace(mark, f"\\{mark}")
    return text


def _latex_cell(value: object) -> str:
    return " ".join(str(value).split()).translate(_LATEX)


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV of ten digits; an empty cell is an absent value."""
    return str(frame.to_csv(index=False, lineterminator="\n", float_format="%.10g"))


def number(value: float, digits: int = 2, sign: bool = False) -> str:
    """``value`` with ``digits`` decimals, :data:`ABSENT` if it is not finite."""
    if not math.isfinite(value):
        return ABSENT
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def significant(value: float) -> str:
    """``value`` with three significant digits, :data:`ABSENT` if it is not finite."""
    if not math.isfinite(value) or not value:
        return number(value, 0)
    return number(value, max(0, 2 - math.floor(math.log10(abs(value)))))


def spread_text(mean: float, sd: float, digits: int = 2) -> str:
    """``mean ± sd``, the mean alone where there is no spread, :data:`ABSENT` without a mean."""
    if not math.isfinite(mean):
        return ABSENT
    return number(mean, digits) + (f" ± {number(sd, digits)}" if math.isfinite(sd) else "")


def interval_text(low: float, high: float, digits: int = 2, sign: bool = True) -> str:
    """``low to high``, :data:`UNBOUNDED` or, where there is no interval, :data:`ABSENT`."""
    if math.isinf(low) and math.isinf(high):
        return UNBOUNDED
    if not (math.isfinite(low) and math.isfinite(high)):
        return ABSENT
    return f"{number(low, digits, sign)} to {number(high, digits, sign)}"


def hours_text(hours: float) -> str:
    """A time as people say it: in seconds, minutes or hours."""
    if not math.isfinite(hours):
        return ABSENT
    if hours < 1 / 60:
        return f"{3600 * hours:.1f} seconds"
    return f"{60 * hours:.1f} minutes" if hours < 1 else f"{hours:.1f} hours"


def p_text(p: float) -> str:
    """A p value with its natural precision; no stars."""
    if not math.isfinite(p):
        return ABSENT
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def ratio_text(ratio: float) -> str:
    """A pruning ratio in percent, ``dense`` for 0."""
    return f"{100 * ratio:.4g}%" if ratio else "dense"
