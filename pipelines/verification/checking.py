"""``check``: whether everything that a published table rests on is what was written.

It rests on the digests of records and artefacts and the chain of each record in ``runs/``, and in
``results/`` on the list of digests (:mod:`pipelines.results.sums`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.records.collection import Expected
from bench.records.record import Record
from pipelines.config.study import Study
from pipelines.results.publishing import expected
from pipelines.results.sums import Checked, files_of, published
from pipelines.storage import artefacts
from pipelines.storage.behind import Behind
from safs.errors import SafsError


def check(study: Study) -> list[Checked]:
    """Records, artefacts and published files of a profile and its readings."""
    runs = [run for each in study.every for run in expected(each)]
    records = [list(_record_faults(run)) for run in runs if run.path.exists()]
    others = [list(_artefact_faults(path)) for path in _artefacts(study, runs)]
    return [
        _counted("records", records, missing=len(runs) - len(records)),
        _counted("artefacts", others),
        published(study),
    ]


def _counted(kind: str, faults: Sequence[Sequence[str]], missing: int = 0) -> Checked:
    """What the faults of each file come to."""
    whole = sum(not of_one for of_one in faults)
    return Checked(kind, len(faults), whole, missing, tuple(f for each in faults for f in each))


def _record_faults(run: Expected) -> Iterator[str]:
    """What is wrong with a record that is here: its digest, its name, a link of its chain."""
    try:
        record = Record.read(run.path)
        if record.key != run.key:
            yield f"{run.path}: is of run {record.key}; expected {run.key}"
            return
        told = record.chain.model_dump() if record.chain else {}
        for link, found in Behind.of(record).chain().items():
            if told.get(link, ()) != found:
                yield f"{run.path}: chain.{link}: not what the artefact in runs/ says"
    except (SafsError, OSError) as error:
        for line in str(error).splitlines():
            said = line.removeprefix(f"{run.path}: ").removeprefix(f"{run.path.name}: ")
            yield f"{run.path}: {said}"


def _artefacts(study: Study, runs: Sequence[Expected]) -> Iterator[Path]:
    """Every file of the profile in ``runs/`` but its records and the artefacts' weights."""
    records = {run.path for run in runs}
    for path in files_of(study.runs):
        weights = path.suffix == ".safetensors" and path.with_suffix(".json").exists()
        if path not in records and not weights:
            yield path


def _artefact_faults(path: Path) -> Iterator[str]:
    try:
        artefacts.whole(path)
    except SafsError as error:
        yield str(error)
