"""``verify``: whether a finished run is the published one, link by link.

What is published is what the last commit has in ``results/``, where a run writes its own; a run is
what ``runs/`` has.
"""

from __future__ import annotations

from collections.abc import Iterable

from bench.records.archive import Replicate
from bench.records.chains import Links
from bench.records.identity import Agreement, compare
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
    here = _links(
        archiving.pack(each, pair, replicate)
        for each in study.every
        for pair in each.profile.pairs
        for replicate in range(each.profile.replicates)
    )
    if not here:
        raise NothingToCompare(f"{study.runs}: no records; {runs_it} makes them")
    if (version := here[0].record.protocol.version) != PROTOCOL_VERSION:
        made = f"made by protocol version {version}"
        raise NothingToCompare(f"{study.runs}: {made}; {runs_it} makes it again")
    return compare(told, here)


def published(study: Study) -> list[Links]:
    """The chains that are published. Raises as :func:`verify`."""
    found = _links([r for each in study.every for r in archiving.read(each, repository.committed)])
    if found:
        version = found[0].record.protocol.version
        if version != PROTOCOL_VERSION:
            said = f"published by protocol version {version}, which this version {PROTOCOL_VERSION}"
            raise NothingToCompare(f"{study.results}: {said} does not reproduce")
        return found
    missing = "not in the last commit: nothing is published"
    if not repository.in_repository():
        missing = "no git repository here, or no git: what is published is read from its commits"
    raise NothingToCompare(f"{archiving.folder(study)}: {missing}")


def _links(replicates: Iterable[Replicate | None]) -> list[Links]:
    """The chains of what is there, with what the searches' trainings reached."""
    known = [(each, record) for each in replicates if each for record in each.records]
    return [Links(record, **each.reached(record)) for each, record in known if record.chain]
