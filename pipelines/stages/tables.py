"""Tables: the records of a profile as CSV, Markdown and LaTeX, and the metrics."""

from __future__ import annotations

from bench import tables
from bench.render import csv_text
from pipelines import publishing
from pipelines.config.study import Study
from safs.files import write_text


def run(study: Study) -> None:
    """Write ``results/<profile>/`` tables from the records that the parameters name."""
    place = publishing.results(study) / "tables"
    tables.write_all(publishing.collection(study), publishing.context(study), place)
    trained = publishing.reading_runs(study)
    if not trained.empty:
        write_text(place / "readings_runs.csv", csv_text(trained))
    for table in (*publishing.reading_tables(study), *publishing.predictor_tables(study)):
        table.write(place)
