"""Reading a lab file that somebody else wrote: bounded, data only, every fault with its line.

Nothing is believed before it is checked: size and number of keys are bounded before and while the
text is parsed, so that no file takes long or much memory. No fault of a file raises anything but
SafsError. A record alone is read in the same way.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bench.labs.cards import CardFile
from bench.labs.file import LabFile
from bench.records.archive import Replicate
from bench.records.record import Record
from safs import sealed
from safs.checked import MAX_BYTES, KeyPath, plain, typed
from safs.errors import SafsError
from safs.files import read_text

M = TypeVar("M", LabFile, CardFile)

LABS = Path("results/labs")
"""Where reviewed files lie in the repository: ``<lab>/<profile>.json``."""
CARDS = Path("results/gpu")
"""Where files of GPUs lie: ``<card>.json``."""
MAX_KEYS = 10_000
"""Of one run with all that is in it, and of everything beside the runs; so many can be wrong."""

_BETWEEN = re.compile(r"[\s,:]*")


def validate(path: Path) -> list[str]:
    """Faults of a record, a replicate's file of records, a lab file or a card file.

    One line each, of the last two with its number.
    """
    try:
        text = _text(path)
        values = plain(text, path)
        if isinstance(values, dict) and "lab_file" in values:
            _lab_file(text, values, str(path))
        elif isinstance(values, dict) and "card_file" in values:
            _card_file(text, values, str(path))
        elif isinstance(values, dict) and "records_file" in values:
            Replicate.parse(text, path)
        else:
            _few_keys(values, str(path))
            Record.parse(text, path)
    except SafsError as error:
        return str(error).splitlines()
    return []


def read(path: Path) -> LabFile:
    """Read and check a lab file. Raises SafsError, one line per fault."""
    return parse(_text(path), str(path))


def parse(text: str, source: str) -> LabFile:
    """A lab file from its text. Raises SafsError, one line per fault, each with ``source``."""
    return _lab_file(text, plain(text, source), source)


def _lab_file(text: str, values: Any, source: str) -> LabFile:
    parts = dict(values) if isinstance(values, dict) else {}
    runs = parts.pop("runs", ())
    every = parts, *(runs if isinstance(runs, list) else ())
    return _sealed(LabFile, text, values, source, every)


def read_card(path: Path) -> CardFile:
    """Read and check a card file. Raises SafsError, one line per fault."""
    text = _text(path)
    return _card_file(text, plain(text, path), str(path))


def _card_file(text: str, values: Any, source: str) -> CardFile:
    return _sealed(CardFile, text, values, source, (values,))


def _sealed(model: type[M], text: str, values: Any, source: str, parts: Iterable[Any]) -> M:
    """A file of few keys in each of its parts, whose content fits its digest."""
    for part in parts:
        _few_keys(part, source)
    file = typed(model, text, source, partial(lines, text))
    if sealed.seal(values)[sealed.DIGEST] != file.digest:
        line = lines(text, ())["digest",]
        raise SafsError(
            f"{source}:{line}: digest: got {file.digest}; expected the digest of the content: the "
            "file was changed after safs-bench wrote it"
        )
    return file


def _text(path: Path) -> str:
    try:
        return read_text(path, MAX_BYTES)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; expected a record or a lab file (JSON)"
        raise SafsError(f"{path}: {reason}") from None


def _few_keys(value: Any, source: str) -> None:
    if _keys(value) > MAX_KEYS:
        raise SafsError(f"{source}: more than {MAX_KEYS} keys in one part; expected fewer")


def _keys(value: Any) -> int:
    """The keys of all objects in plain data."""
    count, waiting = 0, [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            count += len(inner)
            inner = list(inner.values())
        waiting += inner if isinstance(inner, list) else ()
    return count


def lines(text: str, paths: Collection[KeyPath]) -> dict[KeyPath, int]:
    """The line of every key of a JSON object, and of those entries in it that the paths lead to.

    A run, a cell, an environment or a pair is such an entry; in a lab file it has one line.
    """
    found: dict[KeyPath, int] = {}
    line, last = 1, 0

    def note(path: KeyPath, at: int) -> None:
        nonlocal line, last
        line, last = line + text.count("\n", last, at), at
        found[path] = line

    inside: dict[str, set[str]] = {}
    for first, second, *_ in (path for path in paths if len(path) > 1):
        inside.setdefault(first, set()).add(second)
    for name, at, value in _entries(text, _skip(text, 0)):
        note((name,), at)
        waiting = inside.get(name, set())
        for inner, at, _ in _entries(text, value) if waiting else ():
            if inner in waiting:
                note((name, inner), at)
                waiting.remove(inner)
            if not waiting:
                break
    return found


def _entries(text: str, at: int) -> Iterator[tuple[str, int, int]]:
    """Name, place and place of the value of every entry of the object or array at ``at``."""
    decoder, kind, at = json.JSONDecoder(), text[at], _skip(text, at + 1)
    for index in itertools.count():
        if kind not in "{[" or text[at] in "}]":
            return
        start, name = at, index
        if kind == "{":
            name, at = decoder.raw_decode(text, at)
            at = _skip(text, at)
        yield str(name), start, at
        _, at = decoder.raw_decode(text, at)
        at = _skip(text, at)


def _skip(text: str, at: int) -> int:
    """The next place that is no blank, comma or colon."""
    return _BETWEEN.match(text, at).end()  # type: ignore[union-attr]


def by_lab(folder: Path, profile: str) -> dict[str, LabFile]:
    """The files ``<folder>/<lab>/<profile>.json`` by lab, in order.

    Raises:
        SafsError: for a file with a fault, or one that lies in the wrong place.
    """
    found: dict[str, LabFile] = {}
    for path in sorted(folder.glob(f"*/{profile}.json")):
        file = found[path.parent.name] = read(path)
        if (file.lab.name, file.profile) != (path.parent.name, profile):
            place = f"{file.lab.name}/{file.profile}.json"
            raise SafsError(f"{path}: in the wrong place; expected {place}, as the file says")
    return found


def by_name(paths: Iterable[Path]) -> dict[str, LabFile]:
    """Lab files by the lab's name, in order. Raises SafsError where two have the same."""
    found: dict[str, LabFile] = {}
    for path in paths:
        file = read(path)
        if file.lab.name in found:
            raise SafsError(f"{path}: lab.name: {file.lab.name!r} is given twice; expected once")
        found[file.lab.name] = file
    return found
