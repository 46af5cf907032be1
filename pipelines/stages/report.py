"""The report: figures, what the searches tried, and one self-contained page."""

from __future__ import annotations

from bench import figures, report
from bench.figures.plot import Source
from bench.labs.reading import LABS, by_lab
from bench.labs.view import view
from bench.records.traces import candidate_frame, trial_frame
from bench.render import csv_text, write_all
from bench.tables.comparisons import compare
from pipelines.config.study import Study
from pipelines.results import publishing
from safs.files import write_text


def run(study: Study) -> None:
    """Write ``figures``, ``searches`` and ``report.html`` into ``results/<profile>``."""
    found, about = publishing.published(study), publishing.context(study)
    searches, folder = found.traces, study.results
    source = Source(found.collection, compare(found.collection, about), searches, about)
    drawn = figures.draw_all(source)
    write_all(drawn.values(), folder / "figures")
    for name, frame in (
        ("candidates", candidate_frame([*searches.search, *searches.others])),
        ("trials", trial_frame(searches.tune)),
    ):
        write_text(folder / "searches" / f"{name}.csv", csv_text(frame))
    labs = by_lab(LABS, about.profile)
    across = view(labs, about.pairs) if labs else None
    if across is not None:
        across.write(folder / "figures")
    report.render(source, drawn, folder / "report.html", across, found.tables)
