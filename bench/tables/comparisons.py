"""Comparisons: every contrast per pair and ratio, the overall ones, and ours against the paper."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import paper, stats, verdicts
from bench.collection import Collection
from bench.context import Context, PairInfo
from bench.contrasts import CONFIRMATORY_RATIO, Contrast, contrasts_of
from bench.render import Table, interval_text, number, p_text, ratio_text, view_of
from bench.verdicts import RULES_VERSION
from safs.arms import ARMS

LEVEL = 0.05
Row = dict[Hashable, Any]


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
    paths: dict[str, Path] = {}
    for table in compare(collection, context).tables:
        paths |= table.write(folder)
    return paths


# Contrasts per pair and ratio


def contrast_rows(collection: Collection, context: Context) -> list[Row]:
    """One row per (contrast, pair, ratio), Holm over the pairs x ratios of a contrast."""
    rows: list[Row] = []
    for contrast in contrasts_of(context.arms):
        cells = [(pair, ratio) for pair in context.pairs for ratio in collection.ratios(pair)]
        family = [_contrast_row(collection, contrast, pair, ratio) for pair, ratio in cells]
        adjusted = stats.holm([row["p"] for row in family])
        rows += [
            row | {"p_holm": p, "power": power_words(row["n"], len(family))}
            for row, p in zip(family, adjusted, strict=True)
        ]
    return rows


def _contrast_row(collection: Collection, contrast: Contrast, pair: str, ratio: float) -> Row:
    both = collection.paired(pair, ratio, contrast.a, contrast.b)
    a, b = both[contrast.a].to_numpy(), both[contrast.b].to_numpy()
    interval = stats.mean_interval(a - b)
    confirmatory = contrast.confirmatory and ratio == CONFIRMATORY_RATIO
    return {
        "pair": pair,
        "ratio": ratio,
        "contrast": contrast.name,
        "kind": "confirmatory" if confirmatory else "exploratory",
        "n": interval.n,
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
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
) -> Row:
    """Discordant images summed over replicates; how many replicates have p < .05 after Holm."""
    found = [
        stats.mcnemar(
            collection.correct[pair, ratio, replicate, contrast.a],
            collection.correct[pair, ratio, replicate, contrast.b],
        )
        for replicate in replicates
    ]
    below = [p < LEVEL for p in stats.holm([f.p for f in found])]
    return {
        "images_only_a": sum(f.only_a for f in found),
        "images_only_b": sum(f.only_b for f in found),
        "mcnemar_a_better": sum(
            b and f.only_a > f.only_b for b, f in zip(below, found, strict=True)
        ),
        "mcnemar_b_better": sum(
            b and f.only_a < f.only_b for b, f in zip(below, found, strict=True)
        ),
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


CONTRAST_HEADINGS = (
    "Contrast", "Pair", "Ratio", "Kind", "n", "Difference", "95% interval", "What it shows",
    "Exact p", "Smallest p", "Holm p", "Wilcoxon p", "Effect d_z", "Error reduction %",
    "P(better)", "McNemar", "Power",
)  # fmt: skip


def _contrast_view(row: Row, context: Context) -> dict[str, str]:
    texts = (
        contrast_label(row["contrast"]),
        context.label(row["pair"]),
        ratio_text(row["ratio"]),
        row["kind"],
        str(row["n"]),
        number(row["difference"], sign=True),
        interval_text(row["low"], row["high"]),
        row["verdict"],
        *(p_text(row[name]) for name in ("p", "p_smallest", "p_holm", "p_wilcoxon")),
        number(row["dz"], sign=True),
        number(row["relative_error_reduction"], 1, sign=True),
        number(row["superiority"]),
        _mcnemar_words(row),
        row["power"],
    )
    return dict(zip(CONTRAST_HEADINGS, texts, strict=True))


def contrast_label(name: str) -> str:
    """``"safs-vanilla"`` as people read it."""
    first, _, second = name.partition("-")
    return f"{ARMS[first].label} - {ARMS[second].label}"


def _mcnemar_words(row: Row) -> str:
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
    view = view_of((_contrast_view(row, context) for row in rows), CONTRAST_HEADINGS)
    title = "Paired comparisons"
    return Table("comparisons", title, caption, pd.DataFrame(rows), view)


# Overall


def overall_rows(collection: Collection, context: Context) -> list[Row]:
    """Per confirmatory contrast: the equal-weight mean over pairs at the confirmatory ratio."""
    ratio = CONFIRMATORY_RATIO
    asked = [c for c in contrasts_of(context.arms) if c.confirmatory]
    rows = [_overall_row(collection, context, c) for c in asked] if ratio in context.ratios else []
    adjusted = stats.holm([row["p"] for row in rows])
    return [row | {"p_holm": p} for row, p in zip(rows, adjusted, strict=True)]


def _overall_row(collection: Collection, context: Context, contrast: Contrast) -> Row:
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
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "p": stats.pooled_sign_flip_p(groups),
        "p_smallest": stats.smallest_p(interval.n),
        "verdict": verdicts.contrast_words(contrast.label, interval),
    }


OVERALL_HEADINGS = (
    "Contrast", "Ratio", "Pairs", "n", "Difference", "95% interval", "What it shows", "Exact p",
    "Smallest p", "Holm p",
)  # fmt: skip


def _overall_table(collection: Collection, context: Context) -> Table:
    rows = overall_rows(collection, context)
    caption = (
        "Equal-weight mean over pairs, percentage points; interval by t with Satterthwaite's "
        "degrees of freedom; exact p by flipping whole (pair, replicate) blocks; Holm over the "
        "two contrasts. Ratios of one replicate share a dense net and are not pooled."
    )
    views = (
        (
            contrast_label(row["contrast"]),
            ratio_text(row["ratio"]),
            f"{row['pairs']} of {row['pairs_expected']}",
            str(row["n"]),
            number(row["difference"], sign=True),
            interval_text(row["low"], row["high"]),
            row["verdict"],
            *(p_text(row[name]) for name in ("p", "p_smallest", "p_holm")),
        )
        for row in rows
    )
    made = (dict(zip(OVERALL_HEADINGS, texts, strict=True)) for texts in views)
    title = f"Over all pairs, ratio {ratio_text(CONFIRMATORY_RATIO)}"
    columns = list(rows[0]) if rows else ["contrast"]
    frame = pd.DataFrame(rows, columns=columns)
    return Table("overall", title, caption, frame, view_of(made, OVERALL_HEADINGS))


# Against the paper


def paper_rows(collection: Collection, context: Context) -> list[Row]:
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
) -> Row:
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
        "ref": printed.ref, "published": printed.value, "n": ours.n, "ours": ours.mean,
        "low": ours.low, "high": ours.high, "prediction_low": prediction.low,
        "prediction_high": prediction.high, "margin": margin, "p_tost": tost,
        "verdict": rule.name, "rule": rule.rule, "rules_version": RULES_VERSION,
    }  # fmt: skip


def _our_values(collection: Collection, pair: str, printed: paper.Published) -> np.ndarray:
    if not printed.gain:
        return collection.series(pair, printed.ratio, printed.what, printed.metric).to_numpy()
    a, _, b = printed.what.partition("-")
    both = collection.paired(pair, printed.ratio, a, b, printed.metric)
    return (both[a] - both[b]).to_numpy()


PAPER_HEADINGS = (
    "Pair", "Ratio", "Number", "Printed in", "Paper", "Ours", "n", "95% interval",
    "95% prediction interval", "TOST p (margin)", "Verdict", "Rule",
)  # fmt: skip


def _paper_view(row: Row, context: Context) -> dict[str, str]:
    gain = "-" in row["what"]
    name = contrast_label(row["what"]) if gain else ARMS[row["what"]].label
    texts = (
        context.label(row["pair"]),
        ratio_text(row["ratio"]),
        f"{name}, {'gain' if gain else row['metric'].replace('top', 'top-')}",
        row["ref"],
        number(row["published"], sign=gain),
        number(row["ours"], sign=gain),
        str(row["n"]),
        _bounds(row["low"], row["high"], gain),
        _bounds(row["prediction_low"], row["prediction_high"], gain),
        f"{p_text(row['p_tost'])} ({row['margin']:g})",
        row["verdict"],
        row["rule"],
    )
    return dict(zip(PAPER_HEADINGS, texts, strict=True))


def _bounds(low: float, high: float, signed: bool) -> str:
    if signed or not (math.isfinite(low) and math.isfinite(high)):
        return interval_text(low, high)
    return f"{low:.2f} to {high:.2f}"


def _paper_table(collection: Collection, context: Context) -> Table:
    rows = paper_rows(collection, context)
    caption = (
        "Percent, gains in percentage points. The prediction interval is where the mean of "
        f"{paper.runs_per_number()} further runs of ours would fall; TOST tests that our mean is "
        "within the margin of the printed one, taken as exact. Each verdict stands beside its "
        f"rule (rules version {RULES_VERSION})."
    )
    view = view_of((_paper_view(row, context) for row in rows), PAPER_HEADINGS)
    columns = list(rows[0]) if rows else ["pair"]
    frame = pd.DataFrame(rows, columns=columns)
    return Table("paper", "The paper's numbers beside ours", caption, frame, view)
