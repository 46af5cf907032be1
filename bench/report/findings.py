"""What was found and what may not be claimed, in sentences made from the comparisons."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench import stats
from bench.columns import exact_text
from bench.context import Context
from bench.contrasts import CONFIRMATORY, CONTRASTS, MAIN_RATIO, contrast_label
from bench.records.collection import Collection
from bench.records.traces import ALGORITHMS
from bench.render import Table, hours_text, number, p_text, ratio_text
from bench.tables.claims import LISTS
from bench.tables.comparisons import Comparisons
from bench.tables.failures import told
from bench.verdicts import FAILS, HOLDS, UNDECIDED, VERDICTS
from bench.words import counted

Row = Mapping[Hashable, Any]
NOT_TESTED = "not tested"
"""Of a claim whose verdict is open only because the profile lacks what it is about."""


@dataclass(frozen=True)
class Claimed:
    """One list of claims: whose they are, and their texts by verdict."""

    made: str
    verdicts: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Answer:
    """A main question, whether it was preregistered, and a sentence per pair that answers it."""

    question: str
    kind: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """The summary on top of the report: answers, cost, counts of verdicts, and warnings.

    ``verdicts`` are on the paper's numbers, ``claims`` are the claims list by list.
    """

    answers: tuple[Answer, ...]
    costs: tuple[str, ...]
    verdicts: tuple[tuple[str, int], ...]
    claims: tuple[Claimed, ...]
    not_claimable: tuple[str, ...]


def findings(
    collection: Collection,
    comparisons: Comparisons,
    claimed: Table,
    cost: Table,
    context: Context,
) -> Findings:
    """The summary of a profile; ``claimed`` is the table of claims, ``cost`` that of cost."""
    counts = Counter(row["verdict"] for row in comparisons.paper.frame.to_dict("records"))
    return Findings(
        tuple(_answers(comparisons, context)),
        tuple(_costs(cost, context)),
        tuple((name, counts[name]) for name in VERDICTS if name in counts),
        tuple(_claims(claimed, context)),
        tuple(_limits(collection, comparisons, context)),
    )


def _claims(claimed: Table, context: Context) -> Iterator[Claimed]:
    """The claims' texts by list and verdict, with the pair where the profile has several.

    What could not be tested stands apart from what a test left open.
    """
    rows = claimed.frame.to_dict("records")
    for made in LISTS:
        texts: dict[str, list[str]] = {HOLDS: [], FAILS: [], UNDECIDED: [], NOT_TESTED: []}
        for row in rows:
            if row["list"] == made:
                where = f" ({context.label(row['pair'])})" if len(context.pairs) > 1 else ""
                texts[row["verdict"] if row["n"] else NOT_TESTED].append(row["text"] + where)
        yield Claimed(made, tuple((name, tuple(found)) for name, found in texts.items()))


# What was found


def _main_rows(comparisons: Comparisons, context: Context) -> pd.DataFrame:
    """The comparisons that summaries show, at their ratio."""
    frame, (names, ratio) = comparisons.contrasts.frame, context.main
    if frame.empty:
        return frame
    return frame[frame["contrast"].isin(names) & (frame["ratio"] == ratio)]


def _answers(comparisons: Comparisons, context: Context) -> Iterator[Answer]:
    """Every main question, with a sentence per pair."""
    rows = _main_rows(comparisons, context).to_dict("records")
    names, ratio = context.main
    for contrast in (c for c in CONTRASTS if c.name in names):
        own = (row for row in rows if row["contrast"] == contrast.name and row["n"])
        said = tuple(_sentence(row, context) for row in own)
        kind = context.kind(contrast.name, ratio)
        question = contrast.question[0].upper() + contrast.question[1:]
        yield Answer(question, kind, said or (f"Not run at {ratio_text(ratio)}.",))


def _sentence(row: Row, context: Context) -> str:
    """What a comparison says, with its mean, interval, replicates and p."""
    interval = exact_text(row)
    bounds = "" if interval in row["verdict"] else f"exact 95% interval {interval}, "
    p = f"exact p {p_text(row['p'])}"
    if row["kind"] == CONFIRMATORY:
        p += f", Holm p {p_text(row['p_holm'])}"
    return (
        f"{_where(row['pair'], context)}, {contrast_label(row['contrast'])}: {row['verdict']} "
        f"(mean {number(row['difference'], sign=True)} points, {bounds}n = {row['n']}, {p})"
        f"{_beside(row)}."
    )


def _where(pair: str, context: Context) -> str:
    """The main ratio, and the pair where the profile has several."""
    ratio = ratio_text(context.main[1])
    return f"{context.label(pair)} at {ratio}" if len(context.pairs) > 1 else f"At {ratio}"


def _beside(row: Row) -> str:
    """Equivalence where it was asked for, and failures where there were any."""
    said = ""
    if row["equivalent"] is not None:
        shown = "shown" if row["equivalent"] else "not shown"
        points = "point" if row["margin"] == 1 else "points"
        said += f"; equivalence within {row['margin']:g} {points} is {shown}"
    if row["failures_a"] or row["failures_b"]:
        counts = f"{row['failures_a']} and {row['failures_b']} of {row['finals']}"
        said += (
            f"; {counts} final trainings failed and count as chance, without them "
            f"{number(row['finite_difference'], sign=True)}"
        )
    return said


def _costs(cost: Table, context: Context) -> Iterator[str]:
    """What SAFS took a replicate at the main ratio, and how many times vanilla, pair by pair."""
    rows = {
        (row["pair"], row["arm"]): row
        for row in cost.frame.to_dict("records")
        if row["ratio"] == context.main[1] and row["n"]
    }
    for pair in context.pairs:
        safs, vanilla = rows.get((pair, "safs")), rows.get((pair, "vanilla"))
        if safs and vanilla:
            yield (
                f"{_where(pair, context)}, a replicate of SAFS took "
                f"{hours_text(safs['hours'])}, one of vanilla {hours_text(vanilla['hours'])} "
                f"({_factor(safs['epochs_factor'])} in epochs, "
                f"{_factor(safs['hours_factor'])} in time)."
            )


def _factor(value: float) -> str:
    return f"factor {number(value, 1)}" if math.isfinite(value) else "no comparable factor"


# What may not be claimed


def _limits(collection: Collection, comparisons: Comparisons, context: Context) -> Iterator[str]:
    yield from _power_limits(comparisons, context)
    yield from _scope_limits(collection, context)
    yield from _control_limits(context)
    yield from (f"{sentence} (see below)." for sentence in told(collection))


def _power_limits(comparisons: Comparisons, context: Context) -> Iterator[str]:
    frame = _main_rows(comparisons, context)
    least = int(frame["n"].min()) if len(frame) else 0
    tests = max(1, len(frame) if context.preregistered.contrasts else 1)
    needed = stats.replicates_needed(tests)
    if least < needed:
        after = f" after Holm over {tests} contrasts" if tests > 1 else ""
        yield (
            f"Statistical significance: with {counted(least, 'paired replicate')} the exact test "
            f"cannot give p < .05{after} whatever the data; {needed} replicates can."
        )


def _scope_limits(collection: Collection, context: Context) -> Iterator[str]:
    ratio = context.main[1]
    for pair in context.pairs:
        if ratio not in collection.ratios(pair):
            yield f"The questions above on {context.label(pair)}: {ratio_text(ratio)} was not run."
    for info in context.pairs.values():
        if not info.comparable:
            reason = info.why_not or "the paper does not have this pair"
            yield f"That the paper's numbers hold or fail on {info.label}: {reason}."
    said = context.preregistered
    if said.ratio is None:
        yield "Anything confirmatory: nothing was preregistered, so every comparison explores."
    else:
        listed = ", ".join(map(contrast_label, said.contrasts))
        where = f", preregistered in commit {said.commit}" if said.commit else ""
        yield f"Anything confirmatory but {listed} at {ratio_text(said.ratio)}{where}."
    if MAIN_RATIO not in context.ratios:
        yield f"The paper's main claim: {ratio_text(MAIN_RATIO)} pruning was not run."
    yield (
        "That a difference holds on other test images, unless the interval over images too lies "
        "on one side of 0: these may have been used before."
    )


def _control_limits(context: Context) -> Iterator[str]:
    arms = set(context.arms)
    for pair in context.pairs:
        if (search := context.search(pair)) != "lahc":
            yield (
                f"What the paper says of SAFS on {context.pairs[pair].label}: stage 1 searched by "
                f"{ALGORITHMS.get(search, search)}, not by LAHC."
            )
    if "default_hpo" not in arms:
        yield (
            "That the gain comes from the activations: no arm has the tuning of stage 2 with the "
            "default activation alone, so activations and tuning are not told apart."
        )
    if "random_hpo" not in arms:
        yield "That the search matters: no arm has a random choice of activations."
