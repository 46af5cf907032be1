"""Comparisons: every contrast per pair and ratio, the overall ones, and ours against the paper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import paper, render, stats, verdicts
from bench.collection import Collection
from bench.columns import CONTRAST, RATIO, TOST, bounds, count, figure, p_value, pair_by, words
from bench.context import Context, PairInfo
from bench.contrasts import CONFIRMATORY_RATIO, Contrast, contrast_label, contrasts_of
from bench.render import Column, Facts, Table, interval_text, number, p_text, ratio_text
from bench.verdicts import LEVEL, RULES_VERSION
from safs.arms import ARMS

Comparison = dict[str, Any]
"""A row of facts."""
EXACT = (
    p_value("Exact p", "p"), p_value("Smallest p", "p_smallest"), p_value("Holm p", "p_holm"),
)  # fmt: skip


@dataclass(frozen=True)
class Comparisons:
    """The three tables of comparisons."""

    contrasts: Table
    overall: Table
    paper: Table

    @property
    def tables(self) -> tuple[Table, ...]:
        """All of them, in reading order."""
        return (self.contrasts, self.overall, self.paper)


def compare(collection: Collection, context: Context) -> Comparisons:
    """Make all comparisons that the profile's arms allow.

    Raises SafsError if the profile does not cover the collection.
    """
    context.require(collection)
    return Comparisons(
        _contrast_table(collection, context),
        _overall_table(collection, context),
        _paper_table(collection, context),
    )


def write_all(collection: Collection, context: Context, folder: Path) -> dict[str, Path]:
    """Write comparisons, overall and paper as CSV, Markdown and LaTeX; paths by file name."""
    return render.write_tables(compare(collection, context).tables, folder)


# Contrasts per pair and ratio


def contrast_rows(collection: Collection, context: Context) -> list[Comparison]:
    """One row per (contrast, pair, ratio), Holm over the pairs x ratios of a contrast."""
    rows: list[Comparison] = []
    for contrast in contrasts_of(context.arms):
        family = [
            _contrast_row(collection, contrast, pair, ratio)
            for pair in context.pairs
            for ratio in collection.ratios(pair)
        ]
        adjusted = stats.holm([row["p"] for row in family])
        rows += [
            row | {"p_holm": p, "power": power_words(row["n"], len(family))}
            for row, p in zip(family, adjusted, strict=True)
        ]
    return rows


def _contrast_row(
    collection: Collection, contrast: Contrast, pair: str, ratio: float
) -> Comparison:
    both = collection.paired(pair, ratio, contrast.a, contrast.b)
    a, b = both[contrast.a].to_numpy(), both[contrast.b].to_numpy()
    interval = stats.mean_interval(a - b)
    return {
        "pair": pair,
        "ratio": ratio,
        "contrast": contrast.name,
        "kind": contrast.kind(ratio),
        "n": interval.n,
        **interval.facts("difference"),
        "p": stats.sign_flip_p(a - b),
        "p_smallest": stats.smallest_p(interval.n),
        "p_wilcoxon": stats.wilcoxon_p(a - b),
        "dz": stats.hedges_dz(a - b),
        "relative_error_reduction": stats.relative_error_reduction(a, b),
        "superiority": stats.superiority(a - b),
        **_mcnemar(collection, contrast, pair, ratio, [int(r) for r in both.index]),
        "verdict": verdicts.contrast_words(contrast.label, interval),
    }


def _mcnemar(
    collection: Collection, contrast: Contrast, pair: str, ratio: float, replicates: list[int]
) -> Comparison:
    """Discordant images summed over replicates; how many replicates have p < .05 after Holm."""
    correct = collection.correct
    found = [
        stats.mcnemar(correct[pair, ratio, r, contrast.a], correct[pair, ratio, r, contrast.b])
        for r in replicates
    ]
    adjusted = stats.holm([f.p for f in found])
    below = [f for f, p in zip(found, adjusted, strict=True) if p < LEVEL]
    return {
        "images_only_a": sum(f.only_a for f in found),
        "images_only_b": sum(f.only_b for f in found),
        "mcnemar_a_better": sum(f.only_a > f.only_b for f in below),
        "mcnemar_b_better": sum(f.only_a < f.only_b for f in below),
    }


def power_words(n: int, tests: int) -> str:
    """What the exact test can show at ``n`` replicates, alone and after Holm over ``tests``."""
    if not n:
        return "no paired replicate"
    alone, family = stats.replicates_needed(LEVEL), stats.replicates_needed(LEVEL, tests)
    smallest = f"smallest possible p at n = {n} is {p_text(stats.smallest_p(n))}"
    if n < alone:
        return f"{smallest}: cannot reach .05; {alone} replicates can, {family} after Holm"
    if n < family:
        return f"{smallest}: cannot reach .05 after Holm over {tests} tests; {family} can"
    return f"{smallest}: can reach .05, also after Holm over {tests} tests"


def _mcnemar_words(row: Facts) -> str:
    if not row["n"]:
        return "-"
    counts = f"{row['images_only_a']} : {row['images_only_b']} images"
    shares = f"first better in {row['mcnemar_a_better']}, worse in {row['mcnemar_b_better']}"
    return f"{counts}; {shares} of {row['n']}"


def _contrast_table(collection: Collection, context: Context) -> Table:
    rows = contrast_rows(collection, context)
    caption = (
        "Paired over replicates, percentage points of top-1. Interval: paired t, 95%. Exact p: "
        "sign-flip permutation; Holm over the pairs and ratios of a contrast. d_z: mean over "
        "standard deviation of the differences, Hedges-corrected. McNemar: images that only the "
        "first and only the second net gets right, and in how many replicates p < .05 after Holm "
        f"over them. Only SAFS against vanilla and SReLU at {ratio_text(CONFIRMATORY_RATIO)} is "
        "confirmatory. What it shows rests on the interval, not on p."
    )
    columns = (
        CONTRAST, pair_by(context.label), RATIO, words("Kind", "kind"), words("n", "n"),
        figure("Difference", "difference", sign=True), bounds(),
        words("What it shows", "verdict"), *EXACT, p_value("Wilcoxon p", "p_wilcoxon"),
        figure("Effect d_z", "dz", sign=True),
        figure("Error reduction %", "relative_error_reduction", 1, sign=True),
        figure("P(better)", "superiority"), Column("McNemar", _mcnemar_words),
        words("Power", "power"),
    )  # fmt: skip
    return Table.of("comparisons", "Paired comparisons", caption, rows, columns)


# Overall


def overall_rows(collection: Collection, context: Context) -> list[Comparison]:
    """Per confirmatory contrast: the equal-weight mean over pairs at the confirmatory ratio."""
    ratio = CONFIRMATORY_RATIO
    asked = [c for c in contrasts_of(context.arms) if c.confirmatory]
    rows = [_overall_row(collection, context, c) for c in asked] if ratio in context.ratios else []
    adjusted = stats.holm([row["p"] for row in rows])
    return [row | {"p_holm": p} for row, p in zip(rows, adjusted, strict=True)]


def _overall_row(collection: Collection, context: Context, contrast: Contrast) -> Comparison:
    groups = []
    for pair in context.pairs:
        both = collection.paired(pair, CONFIRMATORY_RATIO, contrast.a, contrast.b)
        groups.append((both[contrast.a] - both[contrast.b]).to_numpy())
    interval = stats.pooled_interval(groups)
    return {
        "contrast": contrast.name,
        "ratio": CONFIRMATORY_RATIO,
        "pairs": sum(bool(len(group)) for group in groups),
        "pairs_expected": len(groups),
        "n": interval.n,
        **interval.facts("difference"),
        "p": stats.pooled_sign_flip_p(groups),
        "p_smallest": stats.smallest_p(interval.n),
        "verdict": verdicts.contrast_words(contrast.label, interval),
    }


def _overall_table(collection: Collection, context: Context) -> Table:
    rows = overall_rows(collection, context)
    caption = (
        "Equal-weight mean over pairs, percentage points; interval by t with Satterthwaite's "
        "degrees of freedom; exact p by flipping whole (pair, replicate) blocks; Holm over the "
        "two contrasts. Ratios of one replicate share a dense net and are not pooled."
    )
    columns = (
        CONTRAST, RATIO, count("Pairs", "pairs", "pairs_expected"), words("n", "n"),
        figure("Difference", "difference", sign=True), bounds(),
        words("What it shows", "verdict"), *EXACT,
    )  # fmt: skip
    title = f"Over all pairs, ratio {ratio_text(CONFIRMATORY_RATIO)}"
    return Table.of("overall", title, caption, rows, columns, bare=["contrast"])


# Against the paper


def paper_rows(collection: Collection, context: Context) -> list[Comparison]:
    """One row per number that the paper prints for a pair, ratio and arm of this profile."""
    return [
        _paper_row(collection, context, pair, info, number)
        for pair, info in context.pairs.items()
        if info.published
        for number in paper.numbers(info.published)
        if _asked(number, context, collection.ratios(pair))
    ]


def _asked(number: paper.Published, context: Context, ratios: list[float]) -> bool:
    arms = number.what.split("-") if number.gain else [number.what]
    known = set(arms) <= set(context.arms)
    return known and (number.what == "dense" or number.ratio in ratios)


def _paper_row(
    collection: Collection, context: Context, pair: str, info: PairInfo, printed: paper.Published
) -> Comparison:
    values = _our_values(collection, pair, printed)
    ours = stats.mean_interval(values)
    prediction = stats.prediction_interval(values, paper.runs_per_number())
    margin = verdicts.margin(info.published)
    tost = stats.tost_p(values, printed.value, margin)
    why_not = None if info.comparable else info.why_not
    rule = (
        verdicts.gain_verdict(printed.value, ours, tost, why_not)
        if printed.gain
        else verdicts.level_verdict(printed.value, prediction, tost, why_not)
    )
    return {
        "pair": pair, "ratio": printed.ratio, "what": printed.what, "metric": printed.metric,
        "ref": printed.ref, "published": printed.value, "n": ours.n,
        **ours.facts("ours"), "prediction_low": prediction.low,
        "prediction_high": prediction.high, "margin": margin, "p_tost": tost,
        "verdict": rule.name, "rule": rule.rule, "rules_version": RULES_VERSION,
    }  # fmt: skip


def _our_values(collection: Collection, pair: str, printed: paper.Published) -> np.ndarray:
    if not printed.gain:
        return collection.series(pair, printed.ratio, printed.what, printed.metric).to_numpy()
    a, _, b = printed.what.partition("-")
    both = collection.paired(pair, printed.ratio, a, b, printed.metric)
    return (both[a] - both[b]).to_numpy()


def _is_gain(row: Facts) -> bool:
    return "-" in row["what"]


def _number_words(row: Facts) -> str:
    if _is_gain(row):
        return f"{contrast_label(row['what'])}, gain"
    return f"{ARMS[row['what']].label}, {row['metric'].replace('top', 'top-')}"


def _bounds(row: Facts, of: str = "") -> str:
    return interval_text(row[f"{of}low"], row[f"{of}high"], sign=_is_gain(row))


def _paper_table(collection: Collection, context: Context) -> Table:
    rows = paper_rows(collection, context)
    caption = (
        "Percent, gains in percentage points. The prediction interval is where the mean of "
        f"{paper.runs_per_number()} further runs of ours would fall; TOST tests that our mean is "
        "within the margin of the printed one, taken as exact. Each verdict stands beside its "
        f"rule (rules version {RULES_VERSION})."
    )
    columns = (
        pair_by(context.label), RATIO, Column("Number", _number_words), words("Printed in", "ref"),
        Column("Paper", lambda row: number(row["published"], sign=_is_gain(row))),
        Column("Ours", lambda row: number(row["ours"], sign=_is_gain(row))), words("n", "n"),
        Column("95% interval", _bounds),
        Column("95% prediction interval", partial(_bounds, of="prediction_")), TOST,
        words("Verdict", "verdict"), words("Rule", "rule"),
    )  # fmt: skip
    title = "The paper's numbers beside ours"
    return Table.of("paper", title, caption, rows, columns, bare=["pair"])
