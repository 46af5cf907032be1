"""Published tables and summaries, read again."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.records.schema import Protocol
from safs import checked
from safs.errors import SafsError, did_you_mean, shown
from safs.files import read_text

MAX_BYTES = 64 * 2**20
"""Of a table; those of the repository have less than 300,000."""


def read_table(path: Path, columns: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """The rows of a table, as numbers where it has such columns and as texts in all others.

    Args:
        path: the file.
        columns: what it must have.
        numbers: columns that hold numbers, if they are there; an empty one is NaN.

    Raises:
        SafsError: one line that names the file, and the column where there is one.
        OSError: it is not there, or cannot be opened.
    """
    content = io.BytesIO(read_text(path, MAX_BYTES).encode())
    try:  # pandas' own engine takes rows of other lengths
        table = pd.read_csv(content, dtype=str, keep_default_na=False, engine="pyarrow")
    except ValueError as error:
        raise SafsError(f"{path}: {' '.join(str(error).split())}") from None
    for name in columns:
        if name not in table:
            raise SafsError(f"{path}: no column {name!r}{did_you_mean(name, table.columns)}")
    return table.assign(**{name: _numbers(path, table[name]) for name in numbers if name in table})


def protocol_version(summary: str, source: object) -> int:
    """The protocol's version, as the text of a ``summary.json`` has it. Raises SafsError."""
    values = checked.plain(summary, source)
    told = values.get("protocol") if isinstance(values, dict) else None
    return checked.typed(Protocol, json.dumps(told), f"{source}: protocol").version


def _numbers(path: Path, texts: pd.Series[str]) -> pd.Series[float]:
    found = pd.to_numeric(texts, errors="coerce")
    for text in texts[found.isna() & (texts != "")]:
        raise SafsError(f"{path}: {texts.name}: got {shown(text)}; expected a number")
    return found
