"""Comparisons: paired statistics between the arms, the published numbers, the paper's claims."""

from __future__ import annotations

from bench.tables import claims
from bench.tables import comparisons as compare
from pipelines.config.study import Study
from pipelines.results.publishing import context, published


def run(study: Study) -> None:
    """Write ``results/<profile>/comparisons``."""
    found, about, place = published(study), context(study), study.results / "comparisons"
    compare.write_all(found.collection, about, place)
    claims.table(found.collection, found.traces, about).write(place)
