"""What all figures share: the kinds of figure, panels, bands, legends."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from bench.context import Context
from bench.figures import style
from bench.records.collection import Collection
from bench.records.traces import Traces
from bench.tables.comparisons import Comparisons
from safs.rows import SearchTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Frame = pd.DataFrame

HANDLE, LETTER = 0.6, 0.078
"""Inches that the handle of a legend's entry takes with its gaps, and a letter of its label."""
AXES = 0.8
"""Share of a panel's width that its axes have, over which its title stands."""
LINE, LINES = 0.2, 5
"""Inches of a legend's line, and how many lines leave the panels above it high enough."""
BAND = "The line is the mean over replicates, the band their range."


class Source(NamedTuple):
    """Everything that figures and a report are made from.

    Attributes:
        collection: all expected runs.
        comparisons: what :func:`bench.tables.comparisons.compare` made of them.
        traces: the searches' traces.
        context: the profile.
    """

    collection: Collection
    comparisons: Comparisons
    traces: Traces
    context: Context

    @property
    def own_searches(self) -> list[SearchTrace]:
        """The searches by the algorithm that the profile has for the pair."""
        return [t for t in self.traces.search if t.algorithm == self.context.search(t.pair)]


@dataclass(frozen=True)
class Plot:
    """A kind of figure: its words, its data and how the data are drawn.

    ``data`` makes the frame that is written as CSV; ``draw`` and ``words``, which stand under the
    figure, get that frame alone. ``needs`` says what a profile must run to have the figure.
    """

    name: str
    title: str
    how_to_read: str
    needs: str
    data: Callable[[Source], Frame]
    draw: Callable[[Frame, Context], Figure]
    words: Callable[[Frame, Context], str] = lambda frame, context: ""


class Panel(NamedTuple):
    """One panel of a grid and the rows drawn in it; ``key`` and ``column`` are its place."""

    ax: Axes
    rows: Frame
    key: tuple[Any, ...]
    column: Any


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    """A figure without a window and its axes, shape ``(rows, columns)``; inches per panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def pair_panels(
    frame: Frame, context: Context, height: float, draw: Callable[[Axes, Frame], None]
) -> Figure:
    """A wide panel per pair, drawn from the pair's rows, the legend at the right."""
    pairs = list(dict.fromkeys(frame["pair"]))
    figure, axes = panels(len(pairs), 1, 8.2, height)
    for ax, pair in zip(axes[:, 0], pairs, strict=True):
        draw(ax, frame[frame["pair"] == pair])
        ax.set_title(context.label(pair))
    legend(figure, loc="outside right upper")
    return figure


def grid(
    frame: Frame,
    by: Sequence[str],
    width: float,
    height: float,
    across: str = "ratio",
    *,
    xlabel: str = "",
    ylabel: str = "",
) -> tuple[Figure, Any, list[Panel]]:
    """A row of panels per value of the columns ``by``, a column per value of ``across``.

    A cell without data gets no panel.
    """
    keys = list(frame[list(by)].drop_duplicates().itertuples(index=False, name=None))
    columns = sorted(set(frame[across]))
    figure, axes = panels(len(keys), len(columns), width, height)
    cells = []
    for row, key in zip(axes, keys, strict=True):
        for ax, column in zip(row, columns, strict=True):
            own = (frame[list(by)] == list(key)).all(axis=1)
            rows = frame[own & (frame[across] == column)]
            ax.set_visible(not rows.empty)
            if not rows.empty:
                ax.set_xlabel(xlabel)
                cells.append(Panel(ax, rows, key, column))
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel)
    return figure, axes, cells


def legend(figure: Figure, ncols: int = 1, **place: Any) -> None:
    """One legend for all panels, each label once, with as many of ``ncols`` columns as fit."""
    found: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if not found:
        return
    if ncols > 1:
        column = HANDLE + LETTER * max(map(len, found))
        figure.set_figwidth(max(figure.get_figwidth(), column))
        ncols = max(1, min(ncols, int(figure.get_figwidth() / column)))
        lines = math.ceil(len(found) / ncols)
        if lines > LINES:
            figure.set_figheight(figure.get_figheight() + LINE * lines)
    figure.legend(list(found.values()), list(found), ncols=ncols, **place)


def wrap_titles(figure: Figure) -> None:
    """Break the titles of panels that are wider than these."""
    for ax in figure.axes:
        spec = ax.get_subplotspec()
        columns = spec.get_gridspec().ncols if spec else 1
        letters = int(AXES * figure.get_figwidth() / columns / LETTER)
        for loc in ("left", "center"):
            lines = ax.get_title(loc).split("\n")
            if any(len(line) > letters for line in lines):
                ax.set_title("\n".join(_broken(line, letters) for line in lines), loc=loc)


def _broken(line: str, letters: int) -> str:
    """A line in lines of so many letters, broken after blanks and underscores."""
    lines = [""]
    for word in re.findall(r"[^ _]*[ _]|[^ _]+$", line):
        if lines[-1] and len(lines[-1] + word.rstrip()) > letters:
            lines.append("")
        lines[-1] += word
    return "\n".join(part.rstrip() for part in lines)


def bands(frame: Frame, by: Sequence[str], value: str) -> Frame:
    """Mean, range (``low``, ``high``) and number ``n`` of ``value`` over replicates.

    Rows without a value are left out. One row per combination of the columns ``by``.
    """
    groups = frame.dropna(subset=[value]).groupby(list(by), sort=False)[value]
    return groups.agg(mean="mean", low="min", high="max", n="count").reset_index()


def draw_band(ax: Axes, rows: Frame, x: str, label: str, place: int, **line: Any) -> None:
    """The mean of ``rows`` over ``x`` as a line, their range as a band."""
    colour = style.colour(place)
    line |= {"marker": style.marker(place), "markevery": max(1, len(rows) // 8), "markersize": 4}
    ax.plot(rows[x], rows["mean"], label=label, color=colour, **line)
    ax.fill_between(rows[x], rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)


def main_ratio(frame: Frame) -> Frame:
    """The rows at each pair's highest pruning ratio."""
    return frame[frame["ratio"] == frame.groupby("pair")["ratio"].transform("max")]


def in_order(found: Iterable[str], known: Iterable[str]) -> list[str]:
    """Names as a registry has them; those that it does not know come last."""
    names = set(found)
    listed = [name for name in known if name in names]
    return listed + sorted(names - set(listed))
