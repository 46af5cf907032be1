"""The paper's printed numbers beside ours, each with its verdict."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from bench import paper, stats, verdicts
from bench.columns import EQUIVALENT, RATIO, pair_by, words
from bench.context import Context, PairInfo
from bench.contrasts import contrast_label
from bench.records.collection import Collection
from bench.render import Column, Facts, Table, interval_text, number
from bench.verdicts import RULES_VERSION
from safs.arms import ARMS


def rows(collection: Collection, context: Context) -> list[dict[str, Any]]:
    """One row per number that the paper prints for a pair, ratio and arm of this profile."""
    return [
        _row(collection, context, pair, info, number)
        for pair, info in context.pairs.items()
        if info.published
        for number in paper.numbers(info.published)
        if _asked(number, context, collection.ratios(pair))
    ]


def _asked(number: paper.Published, context: Context, ratios: list[float]) -> bool:
    arms = number.what.split("-") if number.gain else [number.what]
    known = set(arms) <= set(context.arms)
    return known and (number.what == "dense" or number.ratio in ratios)


def _row(
    collection: Collection, context: Context, pair: str, info: PairInfo, printed: paper.Published
) -> dict[str, Any]:
    values = _our_values(collection, pair, printed)
    test = stats.SignFlip(values)
    ours = test.interval()
    prediction = stats.prediction_interval(values, paper.runs_per_number())
    margin = verdicts.margin(info.published)
    if printed.gain:  # what is told from the printed gain must be told from none
        margin = min(margin, abs(printed.value))
    equivalent = test.within(printed.value, margin)
    why_not = None if info.comparable else info.why_not
    rule = (
        verdicts.gain_verdict(printed.value, ours, equivalent, why_not)
        if printed.gain
        else verdicts.level_verdict(printed.value, prediction, equivalent, why_not)
    )
    return {
        "pair": pair, "ratio": printed.ratio, "what": printed.what, "metric": printed.metric,
        "ref": printed.ref, "published": printed.value, "n": ours.n,
        **ours.facts("ours"), "prediction_low": prediction.low,
        "prediction_high": prediction.high, "margin": margin, "equivalent": equivalent,
        "verdict": rule.name, "rule": rule.rule, "rules_version": RULES_VERSION,
    }  # fmt: skip


def _our_values(collection: Collection, pair: str, printed: paper.Published) -> np.ndarray:
    if not printed.gain:
        return collection.series(pair, printed.ratio, printed.what, printed.metric).to_numpy()
    a, _, b = printed.what.partition("-")
    return collection.difference(pair, printed.ratio, a, b, printed.metric).to_numpy()


def _is_gain(row: Facts) -> bool:
    return "-" in row["what"]


def _number_words(row: Facts) -> str:
    if _is_gain(row):
        return f"{contrast_label(row['what'])}, gain"
    return f"{ARMS[row['what']].label}, {row['metric'].replace('top', 'top-')}"


def _bounds(row: Facts, of: str = "") -> str:
    return interval_text(row[f"{of}low"], row[f"{of}high"], sign=_is_gain(row))


def table(collection: Collection, context: Context) -> Table:
    """Every number of :func:`rows` with intervals, equivalence and verdict."""
    found = rows(collection, context)
    caption = (
        "Percent, gains in percentage points. The prediction interval is where the mean of "
        f"{paper.runs_per_number()} further runs of ours would fall. Within the margin: the "
        "exact 90% interval of our mean is, around the printed one taken as exact; the margin of a "
        "gain is no wider than the gain, so that no interval around 0 is within it. Each verdict "
        f"stands beside its rule (rules version {RULES_VERSION})."
    )
    columns = (
        pair_by(context.label), RATIO, Column("Number", _number_words), words("Printed in", "ref"),
        Column("Paper", lambda row: number(row["published"], sign=_is_gain(row))),
        Column("Ours", lambda row: number(row["ours"], sign=_is_gain(row))), words("n", "n"),
        Column("Exact 95% interval", _bounds),
        Column("95% prediction interval", partial(_bounds, of="prediction_")), EQUIVALENT,
        words("Verdict", "verdict"), words("Rule", "rule"),
    )  # fmt: skip
    title = "The paper's numbers beside ours"
    return Table.of("paper", title, caption, found, columns, bare=["pair"])
