"""``check``: whether everything that a published table rests on is what was written.

In ``runs/`` that are the digests of records and artefacts, and the chain of each record; in
``results/`` the list :data:`SUMS`, which the stage ``sums`` writes last and ``sha256sum --check
--ignore-missing`` reads as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.records.collection import Expected
from bench.records.record import Record
from pipelines.config.study import Study
from pipelines.results.publishing import expected, results
from pipelines.storage import artefacts
from pipelines.storage.behind import Behind
from safs.checked import MAX_BYTES
from safs.errors import SafsError, shown
from safs.files import read_text
from safs.sealed import file_digest

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


@dataclass(frozen=True)
class Checked:
    """Files of one kind: how many are here, whole and missing, and a line for each fault."""

    kind: str
    here: int
    whole: int
    missing: int
    faults: tuple[str, ...]

    @property
    def text(self) -> str:
        """For instance ``111 records, 110 whole, 2 missing``."""
        missing = f", {self.missing} missing" if self.missing else ""
        return f"{self.here} {self.kind}, {self.whole} whole{missing}"


def check(study: Study) -> list[Checked]:
    """Records, artefacts and published files of a profile and its readings."""
    runs = list(every_run(study))
    records = [list(_record_faults(run)) for run in runs if run.path.exists()]
    others = [list(_artefact_faults(path)) for path in _artefacts(study)]
    return [
        _counted("records", records, missing=len(runs) - len(records)),
        _counted("artefacts", others),
        published(study),
    ]


def _counted(kind: str, faults: Sequence[Sequence[str]], missing: int = 0) -> Checked:
    """What the faults of each file come to."""
    whole = sum(not of_one for of_one in faults)
    return Checked(kind, len(faults), whole, missing, tuple(f for each in faults for f in each))


def sums(study: Study) -> str:
    """A line for every published file: its digest and its name."""
    return "".join(f"{file_digest(p)}  {p.as_posix()}\n" for p in _files(results(study)))


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
        for link, found in Behind.of(record).chain().items():
            if told.get(link, ()) != found:
                yield f"{run.path}: chain.{link}: not what the artefact in runs/ says"
    except (SafsError, OSError) as error:
        yield f"{run.path}: {' '.join(str(error).split())}"


def _artefacts(study: Study) -> Iterator[Path]:
    """Every file of the profile in ``runs/`` but its records and the artefacts' weights."""
    records = {run.path for run in every_run(study)}
    for path in _files(Path("runs") / study.profile.profile):
        weights = path.suffix == ".safetensors" and path.with_suffix(".json").exists()
        if path not in records and not weights:
            yield path


def _artefact_faults(path: Path) -> Iterator[str]:
    try:
        artefacts.whole(path)
    except SafsError as error:
        yield str(error)


def published(study: Study) -> Checked:
    """The files of ``results/<profile>/``, against the list."""
    place = results(study)
    files, sums = _files(place), place / SUMS
    try:
        listed = _listed(sums) if files or sums.exists() else {}
    except SafsError as error:
        return Checked("published files", len(files), 0, 0, (str(error),))
    strays = [path for path in files if path not in listed]
    changed = [p for p, told in listed.items() if p.is_file() and file_digest(p) != told]
    missing = [path for path in listed if place in path.parents and not path.is_file()]
    faults = [f"{path}: not in {SUMS}" for path in strays]
    faults += [f"{path}: not what {sums} says" for path in changed]
    whole = set(files) - {*strays, *changed}
    return Checked("published files", len(files), len(whole), len(missing), tuple(faults))


def _listed(sums: Path) -> dict[Path, str]:
    """The digests in a list by file. Raises SafsError, one line, if it is none."""
    try:
        lines = read_text(sums, MAX_BYTES).splitlines()
    except OSError as error:
        raise SafsError(f"{sums}: {error.strerror}; `safs-bench run` writes it") from None
    listed = {}
    for number, line in enumerate(lines, start=1):
        if not (found := _LINE.fullmatch(line)):
            told = f"got {shown(line)}; expected a digest, two blanks and a file"
            raise SafsError(f"{sums}:{number}: {told}")
        listed[Path(found[2])] = found[1]
    return listed


def _files(folder: Path) -> list[Path]:
    """Every file below a folder but the list, in order."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS)
