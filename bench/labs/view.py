"""What several labs say, for people: two tables and a forest plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench import paper
from bench.columns import CONTRAST, RATIO, bounds, count, figure, pair_by, words
from bench.context import PairInfo
from bench.labs import forest
from bench.labs.file import LabFile
from bench.labs.pooling import LEAST_LABS, RULES, RULES_VERSION, Answer, Question, Same, compare
from bench.render import ABSENT, Column, Facts, Table, view_of, write_all
from bench.stats import Interval
from safs.errors import SafsError
from safs.files import write_text

Label = Callable[[str], str]
"""How a pair is called."""

HOW_TO_READ = {
    "labs": "One line per question. I-squared is the share of the spread between labs that their "
    "replicates do not explain; its interval says how little a few labs tell. With "
    f"fewer than {LEAST_LABS} labs there is no verdict.",
    "labs_each": "What each lab found, and what the others say without it. What is not pooled "
    "stays in the table with the reason.",
    "figure-labs": forest.HOW_TO_READ,
}


@dataclass(frozen=True)
class LabsView:
    """The tables (pooled; each lab), the forest plot as SVG, and a line for each lab after the
    first: whether its trainings are the first one's, bit for bit.
    """

    tables: tuple[Table, Table]
    svg: str
    same: tuple[str, ...]

    def write(self, folder: Path) -> dict[str, Path]:
        """Write both tables (CSV, Markdown, LaTeX) and ``labs.svg``; paths by file name."""
        paths = write_all(self.tables, folder)
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
    first, *_ = labs
    same = tuple(_shares(name, labs[name], first, labs[first], of)
                 for name, of in answer.same.items())  # fmt: skip
    return LabsView(tables, forest.draw(frame, label), same)


def _shares(name: str, lab: LabFile, first: str, reference: LabFile, of: Same) -> str:
    if not of.both and lab.seed != reference.seed:
        seeds = f"{lab.seed}, not {reference.seed} as {first}"
        return f"{name}: has the root seed {seeds}, so its trainings are others"
    if not of.both:
        return f"{name}: the files name no trainings that it shares with {first}"
    if of.same == of.both:
        return f"{name}: identical to {first} in all {of.both} trainings that both have"
    return f"{name}: identical to {first} in {of.same} of {of.both} trainings that both have"


# One line per question


def _pooled_table(answer: Answer, label: Label) -> Table:
    caption = (
        "Percentage points of top-1. Random effects (Paule-Mandel) with the Hartung-Knapp "
        "interval; within-lab variance common to all labs. Between labs: standard deviation of "
        "the labs' true gains. I-squared in percent with its 95% interval from the F statistic. "
        f"Verdicts by the first rule that holds (version {RULES_VERSION}): "
        + "; ".join(f"{name}: {rule}" for name, rule in RULES)
        + "."
    )
    columns = (
        CONTRAST, pair_by(label), RATIO,
        count("Labs", "pooled_labs", "labs"), figure("Gain", "gain", sign=True), bounds(),
        figure("Between labs", "tau"), Column("I-squared", _i2), words("Verdict", "verdict"),
        words("Rule", "rule"),
    )  # fmt: skip
    rows = [_pooled_row(question) for question in answer.questions]
    return Table.of("labs", "Across labs", caption, rows, columns)


def _i2(row: Facts) -> str:
    if not (math.isfinite(row["i2_low"]) and math.isfinite(row["i2_high"])):
        return ABSENT
    return "{i2:.0f} ({i2_low:.0f} to {i2_high:.0f})".format_map(row)


def _pooled_row(question: Question) -> dict[str, Any]:
    pooled = question.pooled
    return question.facts | {
        "labs": len(question.labs),
        "pooled_labs": len(question.counted),
        **pooled.effect.facts("gain"),
        "tau": pooled.tau,
        **pooled.i2.facts("i2", "i2_"),
        "verdict": question.verdict.name,
        "rule": question.verdict.rule,
        "rules_version": RULES_VERSION,
    }


# One line per lab, the pooled one and the paper's


def rows(answer: Answer, about: Mapping[str, PairInfo]) -> pd.DataFrame:
    """Every question's labs, pooled effect and, where it is printed, the paper's gain."""
    said = {name: of.text for name, of in answer.same.items()}
    return pd.DataFrame([row for q in answer.questions for row in _question_rows(q, about, said)])


def _question_rows(
    question: Question, about: Mapping[str, PairInfo], same: Mapping[str, str]
) -> list[dict[str, Any]]:
    head = question.facts
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
        note = f"printed without a spread{reason}"
        found.append(head | _row(forest.PAPER, "Paper", single, nothing, False, note))
    return [row | {"trainings": same.get(row["lab"], "")} for row in found]


def _row(
    kind: str, name: str, own: Interval, without: Interval, pooled: bool, why_not: str
) -> dict[str, Any]:
    found = {"row": kind, "lab": name, "n": own.n, **own.facts("gain")}
    found |= {"pooled": pooled, "why_not": why_not}
    return found | without.facts("without_gain", "without_")


def _each_table(answer: Answer, frame: pd.DataFrame, label: Label) -> Table:
    caption = (
        "n: replicates of a lab, labs of the pooled line, runs of the paper's. Without it: the "
        "pooled gain of the other labs, from at least two. "
    ) + " ".join(answer.notes)
    columns = (
        CONTRAST, pair_by(label), RATIO, words("Lab", "lab"), words("n", "n"),
        figure("Gain", "gain", sign=True), bounds(), Column("Pooled", _status),
        figure("Without it", "without_gain", sign=True),
        bounds("95% interval without it", "without_"),
    )  # fmt: skip
    title = "Each lab, and the others without it"
    return Table("labs_each", title, caption, frame, view_of(frame.to_dict("records"), columns))


def _status(row: Facts) -> str:
    """Whether a lab is pooled, and what must be said about it."""
    status = ABSENT if row["row"] == forest.POOLED else "yes" if row["pooled"] else "no"
    return f"{status}: {row['why_not']}" if row["why_not"] else status
