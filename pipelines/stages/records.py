"""The records in the open: a file for each replicate, from which all that follows is made."""

from __future__ import annotations

from pathlib import Path

from pipelines import archiving
from pipelines.config.study import Study
from pipelines.engine import recorded


def run(study: Study) -> None:
    """Write ``results/<profile>/records``, those of readings too; what is not asked for goes."""
    written: set[Path] = set()
    for each in (study, *study.readings.values()):
        for pair in each.profile.pairs:
            known = recorded.replicates(each, pair)
            written.update(known.values())
            for replicate in range(each.profile.replicates):
                found = None if replicate in known else archiving.pack(each, pair, replicate)
                if found is not None:
                    written.add(found.write(archiving.path(each, pair, replicate)))
    for path in archiving.folder(study).rglob("*.json"):
        if path not in written:
            path.unlink()
