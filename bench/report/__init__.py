"""The report: one self-contained HTML file that opens from disk, without any network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bench import tables, verdicts
from bench.context import Context
from bench.figures import Drawn
from bench.figures.plot import Source
from bench.labs.view import LabsView
from bench.paper import facts
from bench.records.collection import Collection
from bench.records.schema import SCHEMA_VERSION
from bench.records.traces import Traces
from bench.render import Table
from bench.report.assets import page
from bench.report.findings import findings
from bench.report.sections import left_out, sections
from bench.tables import claims
from bench.words import counted
from safs.arms import ARMS, ordered
from safs.files import write_text

__all__ = ["environments", "findings", "render"]


def render(
    source: Source,
    drawn: Mapping[str, Drawn],
    path: Path,
    labs: LabsView | None = None,
    more: Sequence[Table] = (),
) -> Path:
    """Write the report to ``path``; every value is escaped, the figures are inlined.

    Args:
        source: what was found.
        drawn: the figures by name, as :func:`bench.figures.draw_all` returns them.
        path: where the HTML goes.
        labs: what several labs say of this profile, if their files are here.
        more: tables that only some profiles have, such as the readings.
    """
    collection, comparisons, traces, context = source
    claimed = claims.table(collection, traces, context)
    built = tables.build(collection, context)
    shown = [claimed, *built.values(), *more]
    text = page(
        "report.html.j2",
        context=context,
        findings=findings(collection, comparisons, claimed, built["cost"], context),
        answers=Markup(drawn["answers"].svg) if "answers" in drawn else None,
        sections=sections(shown, comparisons, drawn, labs),
        left_out=left_out(comparisons, drawn),
        arms=[ARMS[name] for name in ordered(context.arms)],
        rules={
            "a printed accuracy": verdicts.LEVEL_RULES,
            "a printed gain": verdicts.GAIN_RULES,
            "a claim": verdicts.CLAIM_RULES,
        },
        versions={"schema": SCHEMA_VERSION, "rules": verdicts.RULES_VERSION},
        environments=environments(collection),
        parameters=json.dumps(context.parameters, indent=2, sort_keys=True, default=str),
        contradictions=_contradictions(context),
        paper=facts()["paper"],
        trace_words=_trace_words(traces),
    )
    return write_text(path, text)


def environments(collection: Collection) -> list[dict[str, Any]]:
    """Every distinct environment and device among the records, with the number of its runs."""
    counts = Counter[str]()
    for record in collection.records.values():
        found = record.environment.model_dump()
        found["packages"] = ", ".join(f"{k} {v}" for k, v in sorted(found["packages"].items()))
        found |= {"device": f"{record.device.type}: {record.device.name}"}
        found |= {"backend": record.backend, "threads": record.threads}
        found["data"] = ", ".join(f"{k} {v}" for k, v in sorted(record.digests.data.items()))
        counts[json.dumps(found, sort_keys=True)] += 1
    return [{"runs": count, **json.loads(text)} for text, count in sorted(counts.items())]


def _contradictions(context: Context) -> list[dict[str, Any]]:
    """The paper's contradictions that concern this profile's pairs, or all pairs."""
    ours = {info.published for info in context.pairs.values()} | {None}
    return [entry for entry in facts()["contradictions"] if entry["pair"] in ours]


def _trace_words(traces: Traces) -> str:
    traced = [*traces.search, *traces.others]
    candidates = [e for trace in traced for e in trace.evaluations]
    trials = [t for trace in traces.tune for t in trace.trials]
    bad = sum(e.status == "failed" for e in candidates), sum(t.status == "failed" for t in trials)
    searches, tunings = counted(len(traced), "search", "searches"), len(traces.tune)
    return (
        f"{counted(len(candidates), 'candidate')} in {searches} of stage 1 ({bad[0]} failed), "
        f"{counted(len(trials), 'trial')} in {counted(tunings, 'tuning')} of stage 2 "
        f"({bad[1]} failed)."
    )
