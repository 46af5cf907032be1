"""Tables: the records of a profile as CSV, Markdown and LaTeX, and the metrics."""

from __future__ import annotations

from bench import tables
from bench.render import csv_text
from pipelines.config.study import Study
from pipelines.results.publishing import context, published
from safs.files import write_text


def run(study: Study) -> None:
    """Write ``results/<profile>/tables`` from the records in the open."""
    found, place = published(study), study.results / "tables"
    tables.write_all(found.collection, context(study), place)
    if not (trained := found.reading_runs).empty:
        write_text(place / "readings_runs.csv", csv_text(trained))
    for table in found.tables:
        table.write(place)
