"""The digests of everything that a study has published: the list, and what no longer fits it.

The stage ``sums`` writes :data:`SUMS` last; ``sha256sum --check --ignore-missing`` reads it as
well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipelines.config.study import Study
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


def text(study: Study) -> str:
    """A line for every published file: its digest and its name."""
    return "".join(f"{file_digest(p)}  {p.as_posix()}\n" for p in files_of(study.results))


def published(study: Study) -> Checked:
    """The files of ``results/<profile>/``, against the list."""
    place = study.results
    files, sums = files_of(place), place / SUMS
    try:
        listed = _listed(sums) if files or sums.exists() else {}
    except SafsError as error:
        return Checked("published files", len(files), 0, 0, (str(error),))
    strays = [path for path in files if path not in listed]
    changed = [p for p, told in listed.items() if p.is_file() and file_digest(p) != told]
    missing = [path for path in listed if place in path.parents and not path.is_file()]
    faults = [f"{path}: not in {SUMS}" for path in strays]
    faults += [f"{path}: not what {sums} says" for path in changed]
    faults += [f"{path}: not here, but in {sums}" for path in missing]
    whole = set(files) - {*strays, *changed}
    return Checked("published files", len(files), len(whole), len(missing), tuple(faults))


def _listed(sums: Path) -> dict[Path, str]:
    """The digests in a list by file. Raises SafsError, one line, if it is none."""
    try:
        lines = read_text(sums, MAX_BYTES).splitlines()
    except OSError as error:
        raise SafsError(
            f"{sums}: {error.strerror}; `safs-bench run {sums.parent.name}` writes it"
        ) from None
    listed = {}
    for number, line in enumerate(lines, start=1):
        if not (found := _LINE.fullmatch(line)):
            told = f"got {shown(line)}; expected a digest, two blanks and a file"
            raise SafsError(f"{sums}:{number}: {told}")
        listed[Path(found[2])] = found[1]
    return listed


def files_of(folder: Path) -> list[Path]:
    """Every file below a folder but the list, in order."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS)
