"""Comparisons: paired statistics between the arms, the published numbers, the paper's claims."""

from __future__ import annotations

from bench.tables import claims
from bench.tables import comparisons as compare
from pipelines.config.study import Study
from pipelines.publishing import collection, context, results, traces


def run(study: Study) -> None:
    """Write ``results/<profile>/`` comparisons."""
    runs, about, place = collection(study), context(study), results(study) / "comparisons"
    compare.write_all(runs, about, place)
    claims.table(runs, traces(study), about).write(place)
