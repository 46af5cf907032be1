"""What several labs say, for people: two tables and a forest plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench import paper
from bench.context import PairInfo
from bench.labs import forest
from bench.labs.pooling import LEAST_LABS, RULES, RULES_VERSION, Answer, Question, compare
from bench.labs.schema import LabFile
from bench.render import ABSENT, Table, interval_text, number, ratio_text, view_of
from bench.stats import Interval
from bench.tables.comparisons import contrast_label
from safs.errors import SafsError
from safs.files import write_text

Label = Callable[[str], str]
"""How a pair is called."""

HOW_TO_READ = {
    "labs": "One line per question. I-squared is the share of the spread between labs that their "
    "replicates do not explain; its interval says how little a few labs tell. Only SAFS against "
    f"vanilla and SReLU at 99% is confirmatory; with fewer than {LEAST_LABS} labs there is no "
    "verdict.",
    "labs_each": "What each lab found, and what the others say without it. What is not pooled "
    "stays in the table with the reason.",
    "figure-labs": forest.HOW_TO_READ,
}


@dataclass(frozen=True)
class LabsView:
    """The tables (pooled; each lab) and the forest plot as SVG."""

    tables: tuple[Table, Table]
    svg: str

    def write(self, folder: Path) -> dict[str, Path]:
        """Write both tables (CSV, Markdown, LaTeX) and ``labs.svg``; paths by file name."""
        paths: dict[str, Path] = {}
        for table in self.tables:
            paths |= table.write(folder)
        return paths | {"labs.svg": write_text(folder / "labs.svg", self.svg)}


def view(labs: Mapping[str, LabFile], about: Mapping[str, PairInfo]) -> LabsView:
    """Compare labs, the first of which is the reference.

    Args:
        labs: the files by name of the lab, at least one.
        about: what is known here of a pair (its label, and which of the paper's it stands for);
            nothing that a lab file says about itself is taken for it.

    Raises:
        SafsError: the labs have no two arms that are compared.
    """
    answer = compare(labs)
    frame = rows(answer, about)
    if frame.empty:
        raise SafsError(f"{', '.join(labs)}: no two arms whose difference is looked at")

    def label(pair: str) -> str:
        return about[pair].label if pair in about else pair

    tables = (_pooled_table(answer, label), _each_table(answer, frame, label))
    return LabsView(tables, forest.draw(frame, label))


# One line per question


POOLED_HEADINGS = (
    "Contrast", "Pair", "Ratio", "Kind", "Labs", "Gain", "95% interval", "Between labs",
    "I-squared", "Verdict", "Rule",
)  # fmt: skip


def _pooled_table(answer: Answer, label: Label) -> Table:
    caption = (
        "Percentage points of top-1. Random effects (Paule-Mandel) with the Hartung-Knapp "
        "interval; within-lab variance common to all labs. Between labs: standard deviation of "
        "the labs' true gains. I-squared in percent with its 95% interval from the F statistic. "
        f"Verdicts by the first rule that holds (version {RULES_VERSION}): "
        + "; ".join(f"{name}: {rule}" for name, rule in RULES)
        + "."
    )
    frame = pd.DataFrame([_pooled_row(question) for question in answer.questions])
    made = [_pooled_view(question, label) for question in answer.questions]
    return Table("labs", "Across labs", caption, frame, view_of(made, POOLED_HEADINGS))


def _pooled_row(question: Question) -> dict[str, Any]:
    pooled = question.pooled
    return {
        "contrast": question.contrast.name,
        "pair": question.pair,
        "ratio": question.ratio,
        "kind": question.kind,
        "labs": len(question.labs),
        "pooled_labs": len(question.counted),
        "gain": pooled.effect.mean,
        "low": pooled.effect.low,
        "high": pooled.effect.high,
        "tau": pooled.tau,
        "i2": pooled.i2.mean,
        "i2_low": pooled.i2.low,
        "i2_high": pooled.i2.high,
        "verdict": question.verdict.name,
        "rule": question.verdict.rule,
        "rules_version": RULES_VERSION,
    }


def _pooled_view(question: Question, label: Label) -> dict[str, str]:
    pooled, i2 = question.pooled, question.pooled.i2
    spread = f"{i2.mean:.0f} ({i2.low:.0f} to {i2.high:.0f})" if i2.defined else ABSENT
    texts = (
        contrast_label(question.contrast.name),
        label(question.pair),
        ratio_text(question.ratio),
        question.kind,
        f"{len(question.counted)} of {len(question.labs)}",
        number(pooled.effect.mean, sign=True),
        interval_text(pooled.effect.low, pooled.effect.high),
        number(pooled.tau),
        spread,
        question.verdict.name,
        question.verdict.rule,
    )
    return dict(zip(POOLED_HEADINGS, texts, strict=True))


# One line per lab, the pooled one and the paper's


def rows(answer: Answer, about: Mapping[str, PairInfo]) -> pd.DataFrame:
    """Every question's labs, pooled effect and, where it is printed, the paper's gain."""
    return pd.DataFrame([row for q in answer.questions for row in _question_rows(q, about)])


def _question_rows(question: Question, about: Mapping[str, PairInfo]) -> list[dict[str, Any]]:
    head = {
        "contrast": question.contrast.name,
        "pair": question.pair,
        "ratio": question.ratio,
        "kind": question.kind,
    }
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    found = [
        head | _row(forest.LAB, e.lab, e.own, e.without, not e.why_not, e.why_not)
        for e in question.labs
    ]
    pooled = question.pooled.effect
    found.append(head | _row(forest.POOLED, "Pooled", pooled, nothing, False, ""))
    info = about.get(question.pair)
    printed = paper.gain(info.published, question.contrast.name, question.ratio) if info else None
    if info and printed is not None:
        single = Interval(printed, math.nan, math.nan, paper.runs_per_number())
        reason = "" if info.comparable else f"; not comparable: {info.why_not}"
        words = f"printed without a spread{reason}"
        found.append(head | _row(forest.PAPER, "Paper", single, nothing, False, words))
    return found


def _row(
    kind: str, name: str, own: Interval, without: Interval, pooled: bool, why_not: str
) -> dict[str, Any]:
    return {
        "row": kind,
        "lab": name,
        "n": own.n,
        "gain": own.mean,
        "low": own.low,
        "high": own.high,
        "pooled": pooled,
        "why_not": why_not,
        "without_gain": without.mean,
        "without_low": without.low,
        "without_high": without.high,
    }


EACH_HEADINGS = (
    "Contrast", "Pair", "Ratio", "Lab", "n", "Gain", "95% interval", "Pooled", "Without it",
    "95% interval without it",
)  # fmt: skip


def _each_table(answer: Answer, frame: pd.DataFrame, label: Label) -> Table:
    caption = (
        "n: replicates of a lab, labs of the pooled line, runs of the paper's. Without it: the "
        "pooled gain of the other labs, from at least two. "
    ) + " ".join(answer.notes)
    made = [_each_view(row, label) for row in frame.to_dict("records")]
    return Table("labs_each", "Each lab, and the others without it", caption, frame,
                 view_of(made, EACH_HEADINGS))  # fmt: skip


def _each_view(row: dict[Any, Any], label: Label) -> dict[str, str]:
    status = {forest.POOLED: ABSENT}.get(row["row"], "yes" if row["pooled"] else "no")
    texts = (
        contrast_label(row["contrast"]),
        label(row["pair"]),
        ratio_text(row["ratio"]),
        row["lab"],
        str(row["n"]),
        number(row["gain"], sign=True),
        interval_text(row["low"], row["high"]),
        f"{status}: {row['why_not']}" if row["why_not"] else status,
        number(row["without_gain"], sign=True),
        interval_text(row["without_low"], row["without_high"]),
    )
    return dict(zip(EACH_HEADINGS, texts, strict=True))
