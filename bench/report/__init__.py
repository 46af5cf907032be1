"""The report: one self-contained HTML file that opens from disk, without any network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bench import tables
from bench.arms import ARMS, ordered
from bench.compare import Comparisons
from bench.context import Context
from bench.figures import PLOTS, Plot
from bench.files import write_text
from bench.labs import view as labs_view
from bench.labs.forest import TITLE as FOREST
from bench.labs.view import LabsView
from bench.paper import contradictions, facts
from bench.records import Collection
from bench.render import Table
from bench.report.findings import Findings, findings
from bench.schema import SCHEMA_VERSION
from bench.traces import Traces
from bench.verdicts import GAIN_RULES, RULES_VERSION

HOW_TO_READ = {
    "table1": "Compare SAFS with vanilla and SReLU at the same ratio; a gain smaller than the "
    "spread says little. The paper's values stand beside ours only where it prints them.",
    "table2": "Stage 1 and Stage 2 are SAFS with one stage left out. Arms with HPO in their name "
    "are not in the paper: they get the tuning without the search.",
    "comparisons": "Read the interval first: one that holds 0 shows no difference. A p can be no "
    "smaller than the design allows, which stands beside it.",
    "overall": "One line per confirmatory question, all pairs weighted alike.",
    "paper": "A verdict is only as good as its rule, which stands beside it.",
    "connectivity": "An accuracy near its cap is limited by the pruning and not by the activation.",
    "cost": "Factors to vanilla compare with the paper's; hours depend on the machine.",
    "failures": "A run without a result is left out of means and comparisons and shown here.",
    **labs_view.HOW_TO_READ,
}


@dataclass(frozen=True)
class Section:
    """A part of the page: a table or a figure under a heading, and how to read it."""

    anchor: str
    title: str
    how_to_read: str
    table: Table | None = None
    svg: Markup | None = None
    data: str = ""


def render(
    collection: Collection,
    comparisons: Comparisons,
    traces: Traces,
    context: Context,
    figures: Mapping[str, Path],
    path: Path,
    labs: LabsView | None = None,
) -> Path:
    """Write the report to ``path``.

    Args:
        collection: all expected runs.
        comparisons: what :func:`bench.compare.compare` made of them.
        traces: the searches' traces (counted here; drawn by :mod:`bench.figures`).
        context: the profile.
        figures: SVG files by name, as :func:`bench.figures.write_all` returns them.
        path: where the HTML goes.
        labs: what several labs say of this profile, if their files are here.
    """
    found = findings(collection, comparisons, context)
    return write_text(path, page(collection, comparisons, traces, context, figures, found, labs))


def page(
    collection: Collection,
    comparisons: Comparisons,
    traces: Traces,
    context: Context,
    figures: Mapping[str, Path],
    found: Findings,
    labs: LabsView | None = None,
) -> str:
    """The whole page as HTML; every value is escaped, the figures are inlined."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_asset("report.html.j2"))
    return template.render(
        context=context,
        findings=found,
        sections=[
            *sections(collection, comparisons, context, figures),
            *labs_sections(labs),
        ],
        arms=[ARMS[name] for name in ordered(context.methods)],
        gain_rules=[(name, rule) for name, rule, _ in GAIN_RULES],
        versions={"schema": SCHEMA_VERSION, "rules": RULES_VERSION},
        environments=environments(collection),
        parameters=json.dumps(context.parameters, indent=2, sort_keys=True, default=str),
        contradictions=_contradictions(context),
        paper=facts()["paper"],
        trace_words=_trace_words(traces),
        css=Markup(_asset("report.css")),
        js=Markup(_asset("report.js")),
    )


def sections(
    collection: Collection,
    comparisons: Comparisons,
    context: Context,
    figures: Mapping[str, Path],
) -> list[Section]:
    """The parts of the page in reading order; a figure that was not made is left out."""
    made = tables.build(collection, context)
    plots = {plot.name: _figure_section(plot, figures) for plot in PLOTS if plot.name in figures}
    parts = [
        _table_section(made["table1"]),
        plots.get("accuracy"),
        _table_section(made["table2"]),
        *(_table_section(table) for table in comparisons.tables),
        _table_section(made["connectivity"]),
        plots.get("search_trace"),
        plots.get("operators"),
        _table_section(made["cost"]),
        _table_section(made["failures"]),
    ]
    return [part for part in parts if part is not None]


def labs_sections(labs: LabsView | None) -> list[Section]:
    """The part on other labs: pooled, the forest plot, each lab; empty where there is none."""
    if labs is None:
        return []
    how = HOW_TO_READ["figure-labs"]
    plot = Section("figure-labs", FOREST, how, svg=Markup(labs.svg), data="labs_each.csv")
    pooled, each = map(_table_section, labs.tables)
    return [pooled, plot, each]


def _table_section(table: Table) -> Section:
    return Section(
        table.name, table.title, HOW_TO_READ[table.name], table, data=f"{table.name}.csv"
    )


def _figure_section(plot: Plot, figures: Mapping[str, Path]) -> Section:
    # The file is our own output and its text was escaped when it was written.
    drawing = Markup(figures[plot.name].read_text(encoding="utf-8"))
    data = f"{plot.name}.csv"
    return Section(f"figure-{plot.name}", plot.title, plot.how_to_read, svg=drawing, data=data)


def environments(collection: Collection) -> list[dict[str, Any]]:
    """Every distinct environment and device among the records, with the number of its runs."""
    counts: dict[str, int] = {}
    for record in collection.records.values():
        found = record.environment.model_dump()
        found["packages"] = ", ".join(f"{k} {v}" for k, v in sorted(found["packages"].items()))
        found |= {"device": f"{record.device.type}: {record.device.name}"}
        found |= {"backend": record.backend, "threads": record.threads}
        found["data"] = ", ".join(f"{k} {v}" for k, v in sorted(record.digests.data.items()))
        text = json.dumps(found, sort_keys=True)
        counts[text] = counts.get(text, 0) + 1
    return [{"runs": count, **json.loads(text)} for text, count in sorted(counts.items())]


def _contradictions(context: Context) -> list[dict[str, Any]]:
    """The paper's contradictions that concern this profile's pairs, or all pairs."""
    ours = {info.published for info in context.pairs.values()} | {None}
    return [entry for entry in contradictions() if entry["pair"] in ours]


def _trace_words(traces: Traces) -> str:
    candidates = [e for trace in traces.search for e in trace.evaluations]
    trials = [t for trace in traces.tune for t in trace.trials]
    bad = sum(e.status == "failed" for e in candidates), sum(t.status == "failed" for t in trials)
    return (
        f"{len(candidates)} candidates in {len(traces.search)} searches of stage 1 "
        f"({bad[0]} failed), {len(trials)} trials in {len(traces.tune)} tunings of stage 2 "
        f"({bad[1]} failed)."
    )


def _asset(name: str) -> str:
    return files("bench.report").joinpath(name).read_text(encoding="utf-8")
