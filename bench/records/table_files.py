"""Published tables and summaries, read again: somebody may have changed or replaced the files."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.records.schema import Protocol
from safs import checked
from safs.errors import SafsError, did_you_mean, shown
from safs.files import read_text

MAX_BYTES = 64 * 2**20
"""Of a table; those of the repository have less than 300,000."""


def read_table(
    path: Path, keys: Sequence[str], numbers: Sequence[str], needed: Sequence[str] = ()
) -> pd.DataFrame:
    """The rows of a table, as numbers where it has such columns and as texts in all others.

    What older editions call ``method`` is ``arm``. An empty number is NaN.

    Args:
        path: the file.
        keys: columns that it must have and every row must fill, no two rows alike.
        numbers: columns that hold numbers, if they are there.
        needed: further columns that it must have.

    Raises:
        SafsError: one line that names the file, and the line and the column where there is one.
        OSError: it is not there, or cannot be opened.
    """
    texts = _texts(path)
    for name in (*keys, *needed):
        if name not in texts:
            raise SafsError(f"{path}: no column {name!r}{did_you_mean(name, texts.columns)}")
    found = {name: _numbers(path, texts[name]) for name in numbers if name in texts}
    table = texts.assign(**found)
    _check_keys(path, texts[list(keys)], table[list(keys)])
    return table.reset_index(drop=True)


def protocol_version(summary: str, source: object) -> int:
    """The protocol's version, as the text of a ``summary.json`` has it. Raises SafsError."""
    values = checked.plain(summary, source)
    told = values.get("protocol") if isinstance(values, dict) else None
    return checked.typed(Protocol, json.dumps(told), f"{source}: protocol").version


def _texts(path: Path) -> pd.DataFrame:
    """Every field as it stands; the index is the line at which its row ends."""
    reader = csv.reader(io.StringIO(read_text(path, MAX_BYTES), newline=""), strict=True)
    try:
        head, *rows = [(reader.line_num, row) for row in reader if row] or [(1, [])]
    except csv.Error as error:
        raise SafsError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    columns = ["arm" if name == "method" else name for name in head[1]]
    for name, count in Counter(columns).items():
        if count > 1:
            raise SafsError(f"{path}: column {shown(name)} stands twice; expected each once")
    for line, row in rows:
        if len(row) != len(columns):
            raise SafsError(f"{path}:{line}: {len(row)} fields; expected {len(columns)}")
    lines = [line for line, _ in rows]
    return pd.DataFrame([row for _, row in rows], lines, columns, dtype="str")


def _check_keys(path: Path, texts: pd.DataFrame, keys: pd.DataFrame) -> None:
    """No key is empty, no row stands twice; .99 and .990 are one number."""
    for name, column in texts.items():
        for line in column.index[column == ""][:1]:
            raise SafsError(f"{path}:{line}: {name}: got nothing; expected a value")
    for line in keys.index[keys.duplicated()][:1]:
        told = ", ".join(f"{name} {shown(value)}" for name, value in keys.loc[line].items())
        raise SafsError(f"{path}:{line}: {told}: stands twice; expected each once")


def _numbers(path: Path, texts: pd.Series[str]) -> pd.Series[float]:
    found = pd.to_numeric(texts.mask(texts == ""), errors="coerce")
    for line, text in texts[found.isna() & (texts != "")].items():
        raise SafsError(f"{path}:{line}: {texts.name}: got {shown(text)}; expected a number")
    return found
