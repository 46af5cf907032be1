"""Comparisons: paired statistics between the arms, and ours against the published numbers."""

from __future__ import annotations

from bench import compare
from pipelines.config import Study
from pipelines.publishing import collection, context, results


def run(study: Study) -> None:
    """Write ``results/<profile>/`` comparisons."""
    compare.write_all(collection(study), context(study), results(study) / "comparisons")
