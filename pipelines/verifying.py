"""``verify``: whether a finished run is the published one, link by link.

What is published is what the last commit has in ``results/``: a run writes its own there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bench.chains import Chains
from bench.identity import Agreement, compare
from bench.record import Record
from pipelines.config.study import Study
from pipelines.engine import environment
from pipelines.engine.behind import Behind
from pipelines.publishing import collection, results
from safs.errors import SafsError
from safs.rows import Candidate
from safs.settings import PROTOCOL_VERSION

CHAINS = "chains.json"


class NothingToCompare(SafsError):
    """One of the two sides is missing, or of another version of the protocol."""


def verify(study: Study) -> Agreement:
    """Hold the records of a profile and its readings to the published ones.

    Raises:
        NothingToCompare: in one line, why.
        SafsError: what is published is damaged, or records contradict each other.
    """
    told, place = published(study), Path("runs") / study.profile.profile
    records = [record for record in _records(study) if record.chain]
    if not records:
        raise NothingToCompare(f"{place}: no records; `safs-bench run` makes them")
    here = Chains.of(records, _searched)
    if here.protocol.version != PROTOCOL_VERSION:
        made = f"made by protocol version {here.protocol.version}"
        raise NothingToCompare(f"{place}: {made}; `safs-bench run` makes it again")
    return compare(told, here)


def published(study: Study) -> Chains:
    """The chains that are published. Raises as :func:`verify`."""
    place = results(study)
    text = environment.committed(place / CHAINS)
    found = None if text is None else Chains.parse(text, place / CHAINS)
    version = found.protocol.version if found else _version(place)
    if found is None and version in (None, PROTOCOL_VERSION):
        raise NothingToCompare(f"{place / CHAINS}: not in the last commit: nothing is published")
    if found is None or version != PROTOCOL_VERSION:
        said = f"published by protocol version {version}, which this version {PROTOCOL_VERSION}"
        raise NothingToCompare(f"{place}: {said} does not reproduce")
    return found


def chains(study: Study) -> Chains:
    """The chains of a profile's records and its readings'. Raises SafsError where there is none."""
    return Chains.of(_records(study), _searched)


def _records(study: Study) -> Iterator[Record]:
    """The records of a profile and of its readings."""
    for each in (study, *study.readings.values()):
        yield from collection(each).records.values()


def _searched(record: Record) -> dict[str, list[float | None]]:
    """Training losses of the candidates and validation accuracies of the trials behind a record."""
    found: dict[str, list[float | None]] = {}
    for purpose, (_, trace) in Behind.of(record).searches().items():
        name = {"search": "candidates", "tune": "trials"}[purpose]
        found[name] = [
            row.energy if isinstance(row, Candidate) else row["validation_top1"]
            for row in trace.rows
        ]
    return found


def _version(place: Path) -> int | None:
    """The protocol's version of what was published before there were chains, if that is known."""
    text = environment.committed(place / "tables/summary.json")
    try:
        return int(json.loads(text or "")["protocol"]["version"])
    except (ValueError, LookupError, TypeError):
        return None
