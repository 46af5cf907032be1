"""Tables: the records of a profile as CSV, Markdown and LaTeX, and the metrics."""

from __future__ import annotations

from bench import tables
from pipelines.config import Study
from pipelines.publishing import (
    collection,
    context,
    predictor_tables,
    reading_tables,
    results,
)


def run(study: Study) -> None:
    """Write ``results/<profile>/`` tables from the records that the parameters name."""
    place = results(study) / "tables"
    tables.write_all(collection(study), context(study), place)
    for table in (*reading_tables(study), *predictor_tables(study)):
        table.write(place)
