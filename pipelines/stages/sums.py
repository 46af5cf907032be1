"""The chains of the records and the digests of everything published, last of all stages."""

from __future__ import annotations

from pipelines import checking, publishing, verifying
from pipelines.config.study import Study
from safs.files import write_text


def run(study: Study) -> None:
    """Write into ``results/<profile>/`` ``chains.json``, then ``SHA256SUMS`` of all that is there.

    ``safs-bench verify`` reads the first, ``safs-bench check`` the second.
    """
    place = publishing.results(study)
    write_text(place / verifying.CHAINS, verifying.chains(study).text())
    write_text(place / checking.SUMS, checking.sums(study))
