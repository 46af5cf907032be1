"""The digests of everything published, last of all stages."""

from __future__ import annotations

from pipelines.config.study import Study
from pipelines.results import sums
from safs.files import write_text


def run(study: Study) -> None:
    """Write ``SHA256SUMS`` of all that is in ``results/<profile>/``, which ``check`` reads."""
    write_text(study.results / sums.SUMS, sums.text(study))
