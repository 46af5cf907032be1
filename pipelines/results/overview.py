"""``overview``: one page on every published study of this checkout."""

from __future__ import annotations

from pathlib import Path

from bench.report import overview
from pipelines.config.profile import every_profile
from pipelines.config.study import named
from pipelines.results import publishing, sums
from safs.errors import SafsError

PAGE = Path("results/index.html")


def write(page: Path = PAGE) -> Path:
    """Write the page from what every profile has published; its links are from ``results/``.

    Raises:
        SafsError: a published file is gone or not what its list of digests says.
    """
    subjects, not_run = [], []
    for study in map(named, every_profile()):
        about = publishing.context(study)
        files = sums.published(study)
        if files.faults:
            raise SafsError(files.faults[0])
        found = overview.read(about, study.results)
        subjects += found
        if not found:
            not_run.append(about)
    return overview.render(subjects, not_run, page)
