"""Comparisons: paired statistics between the arms, the published numbers, the paper's claims."""

from __future__ import annotations

from bench.render import write_all
from bench.tables import claims
from bench.tables.comparisons import compare
from pipelines.config.study import Study
from pipelines.results.publishing import context, published


def run(study: Study) -> None:
    """Write ``results/<profile>/comparisons``."""
    found, about, place = published(study), context(study), study.results / "comparisons"
    claimed = claims.table(found.collection, found.traces, about)
    write_all([*compare(found.collection, about), claimed], place)
