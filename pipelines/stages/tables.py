"""Tables: the records of a profile as CSV, Markdown and LaTeX, and the metrics."""

from __future__ import annotations

from bench import tables
from bench.render import csv_text
from pipelines.config.study import Study
from pipelines.publishing import (
    collection,
    context,
    predictor_tables,
    reading_runs,
    reading_tables,
    results,
)
from safs.files import write_text


def run(study: Study) -> None:
    """Write ``results/<profile>/`` tables from the records that the parameters name."""
    place = results(study) / "tables"
    tables.write_all(collection(study), context(study), place)
    trained = reading_runs(study)
    if not trained.empty:
        write_text(place / "readings_runs.csv", csv_text(trained))
    for table in (*reading_tables(study), *predictor_tables(study)):
        table.write(place)
