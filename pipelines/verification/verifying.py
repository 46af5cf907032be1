"""``verify``: whether a finished run is the published one, link by link.

What is published is what the last commit has in ``results/``, where a run writes its own; a run is
what ``runs/`` has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.records.archive import Replicate
from bench.records.chains import Chains
from bench.records.identity import Agreement, compare
from bench.records.table_files import protocol_version
from pipelines.config.study import Study
from pipelines.results import archiving
from pipelines.storage import repository
from safs.errors import SafsError
from safs.settings import PROTOCOL_VERSION


class NothingToCompare(SafsError):
    """One of the two sides is missing, or of another version of the protocol."""


def verify(study: Study) -> Agreement:
    """Hold the records of a profile and its readings to the published ones.

    Raises:
        NothingToCompare: in one line, why.
        SafsError: what is published is damaged, or records contradict each other.
    """
    told, runs_it = published(study), f"`safs-bench run {study.profile.profile}`"
    here = _chains([archiving.pack(*each) for each in _replicates(study)])
    if here is None:
        raise NothingToCompare(f"{study.runs}: no records; {runs_it} makes them")
    if here.protocol.version != PROTOCOL_VERSION:
        made = f"made by protocol version {here.protocol.version}"
        raise NothingToCompare(f"{study.runs}: {made}; {runs_it} makes it again")
    return compare(told, here)


def published(study: Study) -> Chains:
    """The chains that are published. Raises as :func:`verify`."""
    found = _chains([r for each in study.every for r in archiving.read(each, repository.committed)])
    version = found.protocol.version if found else _version(study.results)
    if version not in (None, PROTOCOL_VERSION):
        said = f"published by protocol version {version}, which this version {PROTOCOL_VERSION}"
        raise NothingToCompare(f"{study.results}: {said} does not reproduce")
    if found is not None:
        return found
    missing = "not in the last commit: nothing is published"
    if not repository.in_repository():
        missing = "no git repository here, or no git: what is published is read from its commits"
    raise NothingToCompare(f"{archiving.folder(study)}: {missing}")


def _replicates(study: Study) -> Iterator[tuple[Study, str, int]]:
    """Every replicate of a profile and of its readings."""
    for each in study.every:
        for pair in each.profile.pairs:
            yield from ((each, pair, replicate) for replicate in range(each.profile.replicates))


def _chains(replicates: Iterable[Replicate | None]) -> Chains | None:
    """The chains of what is there, with what the searches' trainings reached; None of nothing."""
    known = [each for each in replicates if each is not None]
    behind = {id(record): each for each in known for record in each.records}
    records = [record for each in known for record in each.records if record.chain]
    return Chains.of(records, lambda r: behind[id(r)].reached(r)) if records else None


def _version(place: Path) -> int | None:
    """The protocol's version of what an older edition published, if that is known."""
    file = place / "tables/summary.json"
    text = repository.committed(file)
    return None if text is None else protocol_version(text, file)
