"""``rebuild``: tables, comparisons, figures and page once more, from the records in the open."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import signals
from pipelines.config.study import Study
from pipelines.results import archiving
from pipelines.stages import compare, report, sums, tables
from safs.errors import SafsError
from safs.sealed import file_digest


@dataclass(frozen=True)
class Rebuilt:
    """A file of ``results/<profile>/``, and its digests before and now; None where it was not."""

    path: Path
    before: str | None
    now: str | None

    @property
    def same(self) -> bool:
        """Whether it came out as it was."""
        return self.before == self.now

    @property
    def words(self) -> str:
        """What became of one that is not the same."""
        was = "not what it was" if self.now else "removed: the records do not give it"
        return f"{self.path}: {was if self.before else 'was not there'}"

    def row(self) -> dict[str, Any]:
        """Plain data."""
        return {"file": self.path.as_posix(), "before": self.before, "now": self.now}


def rebuild(study: Study) -> list[Rebuilt]:
    """Write everything but the records again; every file by name.

    Raises:
        SafsError: there are no records, or a file of them is damaged.
    """
    place, records = study.results, archiving.folder(study)
    if not any(records.rglob("*.json")):
        run = f"`safs-bench run {study.profile.profile}`"
        raise SafsError(f"{records}: no records; {run} makes them")
    before = _digests(place)
    with _emptied(place, records):
        for stage in (tables, compare, report, sums):
            stage.run(study)
    now = _digests(place)
    names = sorted({*before, *now})
    return [Rebuilt(name, before.get(name), now.get(name)) for name in names]


@contextmanager
def _emptied(place: Path, records: Path) -> Iterator[None]:
    """Leave the records alone in a folder, so that nothing stays that they do not give.

    All is as it was before if what is done meanwhile fails.
    """
    aside = Path(tempfile.mkdtemp(dir=place.parent, prefix=".rebuild-"))
    kept = aside / place.name
    try:
        with signals.deaf():
            place.rename(kept)
            place.mkdir()
            (kept / records.name).rename(records)
        yield
    except BaseException:
        with signals.deaf():
            if kept.exists():
                if records.exists():
                    records.rename(kept / records.name)
                shutil.rmtree(place, ignore_errors=True)
                kept.rename(place)
            aside.rmdir()
        raise
    shutil.rmtree(aside)


def _digests(folder: Path) -> dict[Path, str]:
    return {path: file_digest(path) for path in folder.rglob("*") if path.is_file()}
