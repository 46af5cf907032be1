"""``check``: whether everything that a published table rests on is what was written.

In ``runs/`` that are the digests of records and artefacts, and the chain of each record; in
``results/`` the list :data:`SUMS`, which the stage ``sums`` writes last and ``sha256sum --check
--ignore-missing`` reads as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.collection import Expected
from bench.record import Record
from pipelines.config.study import Study
from pipelines.engine import artefacts
from pipelines.engine.behind import Behind
from pipelines.publishing import expected, results
from safs.errors import SafsError
from safs.sealed import file_digest

SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Checked:
    """Files of one kind: how many are here and how many are missing, and what is wrong."""

    kind: str
    here: int
    missing: int
    faults: tuple[str, ...]

    @property
    def text(self) -> str:
        """For instance ``111 records, 110 whole, 2 missing``."""
        whole = self.here - len({fault.partition(":")[0] for fault in self.faults})
        missing = f", {self.missing} missing" if self.missing else ""
        return f"{self.here} {self.kind}, {whole} whole{missing}"


def check(study: Study) -> list[Checked]:
    """Records, artefacts and published files of a profile and its readings."""
    runs = list(every_run(study))
    here = [run for run in runs if run.path.exists()]
    records = [fault for run in here for fault in _record_faults(run)]
    others = sorted(_artefacts(study))
    return [
        Checked("records", len(here), len(runs) - len(here), tuple(records)),
        Checked("artefacts", len(others), 0, tuple(_faults(others))),
        _published(study),
    ]


def sums(study: Study) -> str:
    """A line for every published file and every record: its digest and its name."""
    files = [*_files(results(study)), *(run.path for run in every_run(study) if run.path.exists())]
    return "".join(f"{file_digest(path)}  {path.as_posix()}\n" for path in files)


def every_run(study: Study) -> Iterator[Expected]:
    """The runs of a profile and of its readings."""
    for each in (study, *study.readings.values()):
        yield from expected(each)


def _record_faults(run: Expected) -> Iterator[str]:
    """What is wrong with a record that is here: its digest, its name, a link of its chain."""
    try:
        record = Record.read(run.path)
        if record.key != run.key:
            yield f"{run.path}: is of run {record.key}; expected {run.key}"
            return
        told = record.chain.model_dump() if record.chain else {}
        for link, found in Behind(record.profile, *_of(run)).chain().items():
            if told.get(link, ()) != found:
                yield f"{run.path}: chain.{link}: not what the artefact in runs/ says"
    except (SafsError, OSError) as error:
        yield f"{run.path}: {' '.join(str(error).split())}"


def _of(run: Expected) -> tuple[str, float, str, int]:
    return run.pair, run.ratio, run.arm, run.replicate


def _artefacts(study: Study) -> Iterator[Path]:
    """Every file of the profile in ``runs/`` but its records and the artefacts' weights."""
    records = {run.path for run in every_run(study)}
    for path in _files(Path("runs") / study.profile.profile):
        weights = path.suffix == ".safetensors" and path.with_suffix(".json").exists()
        if path not in records and not weights:
            yield path


def _faults(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        try:
            artefacts.whole(path)
        except SafsError as error:
            yield str(error)


def _published(study: Study) -> Checked:
    """The files of ``results/``, against the list; records that it names, where they are here."""
    place = results(study)
    files = set(_files(place))
    listed = _listed(place / SUMS)
    faults = [f"{place / SUMS}: no such file; `safs-bench run` writes it"] * (not listed)
    faults += [f"{path}: not in {SUMS}" for path in sorted(files - set(listed)) if listed]
    for path, told in listed.items():
        if path.is_file() and file_digest(path) != told:
            faults.append(f"{path}: not what {place / SUMS} says")
    missing = [path for path in listed if place in path.parents and not path.exists()]
    return Checked("published files", len(files), len(missing), tuple(faults))


def _listed(sums: Path) -> dict[Path, str]:
    """The digests in a list by file; none where there is no list."""
    if not sums.is_file():
        return {}
    lines = (line.split("  ", 1) for line in sums.read_text().splitlines())
    return {Path(name): told for told, name in lines}


def _files(folder: Path) -> list[Path]:
    """Every file below a folder but the list, in order."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS)
