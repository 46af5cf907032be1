"""Records in the open: all that tables, figures and page are made of, in one file per replicate.

``records/<pair>/r<replicate>.json`` holds the records of a replicate's runs at every pruning ratio,
its searches and tunings, and what predictors said of its candidates. It is JSON under its digest,
one entry a line; what the entries of a list have in common stands once, under ``common``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from bench.records.predictions import Predictions
from bench.records.record import Record
from safs import checked, sealed
from safs.arms import ARMS
from safs.errors import SafsError
from safs.files import read_text, write_text
from safs.rows import Candidate, SearchTrace, Trace, TuneTrace
from safs.spec import Count, Items, Spec, Text

VERSION = 1
"""Version of the file; a reader knows exactly one."""
COMMON, EACH = "common", "each"
_LINKS = {"search": "candidates", "tune": "trials"}
"""The links of a chain that are the trainings of a trace."""


class Search(Spec):
    """A search of stage 1 under its name (:attr:`safs.arms.Arm.search`, or its algorithm's).

    ``compared`` says whether it is one of those that are held against each other at equal budget.
    """

    name: Text
    compared: bool
    trace: SearchTrace


class Replicate(Spec):
    """Everything that is known of one replicate of a pair.

    ``identity`` is the digest of all that decides it before anything is trained, as far as one is
    given.
    """

    profile: Text
    pair: Text
    replicate: Count
    identity: Text | None = None
    records: Items[Record]
    searches: Items[Search]
    tunings: Items[TuneTrace]
    predictions: Items[Predictions]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a file. Raises SafsError, one line per fault, or OSError."""
        return cls.parse(read_text(path, checked.MAX_BYTES), path)

    @classmethod
    def parse(cls, text: str, source: object) -> Self:
        """The content of a file that :meth:`write` made. Raises SafsError, one line per fault."""
        values = checked.plain(text, source)
        if not isinstance(values, dict) or values.get("records_file") != VERSION:
            raise SafsError(f"{source}: records_file: expected a file of version {VERSION}")
        try:
            whole = _fits(values) and _text(values) == text
            content = {key: value for key, value in _unfolded(values).items() if key not in _HEAD}
        except RecursionError:
            raise SafsError(f"{source}: nested too deeply for a file of records") from None
        if not whole:
            raise SafsError(f"{source}: its content does not fit its digest: damaged or edited")
        found = checked.typed(cls, json.dumps(content), source)
        traces: list[Trace] = [*found.tunings, *(search.trace for search in found.searches)]
        places = {(record.pair, record.replicate) for record in found.records}
        places |= {(trace.pair, trace.replicate) for trace in traces}
        places |= {(told.pair, told.replicate) for told in found.predictions}
        for pair, replicate in places - {(found.pair, found.replicate)}:
            raise SafsError(f"{source}: has a run of {pair}, replicate {replicate}")
        for profile in {record.profile for record in found.records} - {found.profile}:
            raise SafsError(f"{source}: has a run of profile {profile!r}, not {found.profile!r}")
        for problem in found._contradictions():
            raise SafsError(f"{source}: {problem}")
        return found

    def _contradictions(self) -> Iterator[str]:
        """What entries say twice, or otherwise than others; each alone may be right."""
        named: list[tuple[str, object]] = [
            *((f"the run {record.arm}", record.ratio) for record in self.records),
            *((f"the search {search.name}", search.trace.ratio) for search in self.searches),
            *((f"the tuning of {tuning.arm}", tuning.ratio) for tuning in self.tunings),
            *(("predictions", told.ratio) for told in self.predictions),
        ]
        for (what, ratio), count in Counter(named).items():
            if count > 1:
                yield f"{what} at ratio {ratio} stands {count} times; expected once"
        traced = [(f"search {each.name}", each.trace) for each in self.searches]
        for what, trace in [*traced, *((f"tuning of {each.arm}", each) for each in self.tunings)]:
            known = {row.index for row in trace.rows}
            if not known or trace.best not in {None, *known}:
                expected = "one of its rows" if known else "rows"
                yield f"{what} at ratio {trace.ratio}: best: {trace.best}; expected {expected}"
        for record in self.records:
            yield from self._unlike(record)

    def _unlike(self, record: Record) -> Iterator[str]:
        """Where the traces behind a record have other trainings than its chain."""
        for purpose, trace in self.traces(record):
            said = [row.outcome for row in trace.rows]
            links = getattr(record.chain, _LINKS[purpose], None)
            if links is not None and None not in said and tuple(said) != tuple(links):
                yield (
                    f"run {record.arm} at ratio {record.ratio}: chain.{_LINKS[purpose]}: "
                    f"other trainings than its {purpose} has"
                )

    def write(self, path: Path) -> Path:
        """Write the file, atomically."""
        content = _folded(self.model_dump(mode="json", by_alias=True))
        sealed_content = sealed.seal({"records_file": VERSION, **content})
        return write_text(path, _text(sealed_content))

    def traces(self, record: Record) -> Iterator[tuple[str, Trace]]:
        """The traces behind a record by purpose: ``search`` and ``tune``."""
        name = ARMS[record.arm].search
        for search in self.searches:
            if (search.name, search.trace.ratio) == (name, record.ratio):
                yield "search", search.trace
        for tuning in self.tunings:
            if (tuning.arm, tuning.ratio) == (record.arm, record.ratio):
                yield "tune", tuning

    def reached(self, record: Record) -> dict[str, list[float | None]]:
        """Training losses of the ``candidates`` and validation accuracies of the ``trials``."""
        return {
            _LINKS[purpose]: [
                row.energy if isinstance(row, Candidate) else row["validation_top1"]
                for row in trace.rows
            ]
            for purpose, trace in self.traces(record)
        }


_HEAD = ("records_file", sealed.DIGEST)


def _fits(content: Mapping[str, Any]) -> bool:
    """Whether the content of a file fits the digest in it."""
    try:
        return sealed.seal(content) == content
    except ValueError:  # NaN or infinity, which is never written
        return False


def _folded(value: Any) -> Any:
    """Plain data in which the objects of a list stand with what they have in common once."""
    if isinstance(value, dict):
        return {key: _folded(inner) for key, inner in value.items()}
    if not isinstance(value, list):
        return value
    entries = [_folded(inner) for inner in value]
    if len(entries) < 2 or not all(isinstance(inner, dict) for inner in value):
        return entries
    first, *others = entries
    common = {
        key: inner
        for key, inner in first.items()
        if all(key in entry and _same(entry[key], inner) for entry in others)
    }
    each = [{key: entry[key] for key in entry if key not in common} for entry in entries]
    return {COMMON: common, EACH: each}


def _same(a: object, b: object) -> bool:
    """Whether two values are written the same: 1 is neither 1.0 nor true."""
    return a == b and json.dumps(a) == json.dumps(b)


def _unfolded(value: Any) -> Any:
    """What :func:`_folded` was made from; what it cannot have made stays as it is."""
    if isinstance(value, list):
        return [_unfolded(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {COMMON, EACH} and isinstance(value[EACH], list):
        common, *each = map(_unfolded, (value[COMMON], *value[EACH]))
        if all(isinstance(entry, dict) for entry in (common, *each)):
            return [common | entry for entry in each]
    return {key: _unfolded(inner) for key, inner in value.items()}


def _text(content: Mapping[str, Any]) -> str:
    """The file's text: a line for each entry of the lists."""
    parts = (f"{json.dumps(key)}: {_lines(value)}" for key, value in content.items())
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {COMMON, EACH}:
        return f'{{"{COMMON}": {_line(value[COMMON])},\n"{EACH}": {_lines(value[EACH])}}}'
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(map(_line, value)) + "\n]"
    return _line(value)


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
