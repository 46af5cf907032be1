"""Comparisons: every contrast per pair and ratio, and the main ones over all pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import stats, verdicts
from bench.columns import (
    CONTRAST,
    EQUIVALENT,
    RATIO,
    bounds,
    count,
    exact_text,
    figure,
    p_value,
    pair_by,
    words,
)
from bench.context import Context
from bench.contrasts import (
    CONFIRMATORY,
    EXPLORATORY,
    SAME_FOR_RELU,
    Contrast,
    Preregistration,
    contrast_label,
    contrasts_of,
)
from bench.records.collection import Collection
from bench.render import (
    ABSENT,
    Column,
    Facts,
    Table,
    interval_text,
    number,
    p_text,
    ratio_text,
)
from bench.stats import LEVEL
from bench.tables import printed

Comparison = dict[str, Any]
"""A row of facts."""
EXACT = (
    p_value("Exact p", "p"), p_value("Holm p", "p_holm"), p_value("Attainable p", "p_attainable"),
)  # fmt: skip


class Comparisons(NamedTuple):
    """The three tables of comparisons, in reading order."""

    contrasts: Table
    overall: Table
    paper: Table


def compare(collection: Collection, context: Context) -> Comparisons:
    """Make all comparisons that the profile's arms allow.

    Raises SafsError if the profile does not cover the collection.
    """
    context.require(collection)
    return Comparisons(
        _contrast_table(collection, context),
        _overall_table(collection, context),
        printed.table(collection, context),
    )


# Contrasts per pair and ratio


def contrast_rows(collection: Collection, context: Context) -> list[Comparison]:
    """One row per (contrast, pair, ratio).

    Holm over the confirmatory rows of the study, and over the exploratory ones of each contrast.
    """
    study, rows = confirmed(collection, context), []
    for contrast in contrasts_of(context.arms):
        family = [
            _contrast_row(collection, context, contrast, pair, ratio)
            for pair in context.pairs
            for ratio in collection.ratios(pair)
        ]
        exploratory = [row["p"] for row in family if row["kind"] == EXPLORATORY]
        adjusted = iter(stats.holm(exploratory))
        for row in family:
            key = row["contrast"], row["pair"], row["ratio"]
            row["p_holm"] = study[key] if key in study else next(adjusted)
            row["verdict"] = _shown(collection, row, context.preregistered.unfinished(row["n"]))
        rows += family
    return rows


def confirmed(collection: Collection, context: Context) -> dict[tuple[str, str, float], float]:
    """Holm's p over everything that the study preregistered, by (contrast, pair, ratio)."""
    keys = [
        (contrast, pair, ratio)
        for contrast in contrasts_of(context.arms)
        for pair in context.pairs
        for ratio in collection.ratios(pair)
        if context.preregistered.lists(contrast.name, ratio)
    ]
    p = [stats.sign_flip_p(_differences(collection, *key)) for key in keys]
    names = [(contrast.name, pair, ratio) for contrast, pair, ratio in keys]
    return dict(zip(names, stats.holm(p), strict=True))


def _differences(
    collection: Collection, contrast: Contrast, pair: str, ratio: float, column: str = "top1"
) -> pd.Series[float]:
    return collection.difference(pair, ratio, contrast.a, contrast.b, column)


def _contrast_row(
    collection: Collection, context: Context, contrast: Contrast, pair: str, ratio: float
) -> Comparison:
    both = collection.paired(pair, ratio, contrast.a, contrast.b)
    a, b = both[contrast.a].to_numpy(), both[contrast.b].to_numpy()
    test, t = stats.SignFlip(a - b), stats.mean_interval(a - b)
    cell = _Cell(collection, contrast, pair, ratio)
    return {
        "pair": pair,
        "ratio": ratio,
        "contrast": contrast.name,
        "kind": context.kind(contrast.name, ratio),
        "n": test.n,
        **test.interval().facts("difference"),
        "median": stats.median(a - b),
        "t_low": t.low,
        "t_high": t.high,
        "p": test.p(),
        "p_holm": np.nan,
        "p_attainable": stats.attainable_p(test.n),
        "power": stats.power(a - b),
        **cell.images(),
        **cell.failures(),
        **cell.without_failures(),
        **_equivalence(test, context.preregistered, contrast.name, ratio),
        "dz": stats.hedges_dz(a - b),
        "relative_error_reduction": stats.relative_error_reduction(a, b),
        "superiority": stats.superiority(a - b),
    }


@dataclass(frozen=True)
class _Cell:
    """What the runs of a contrast in one pair and ratio say beside their top-1."""

    collection: Collection
    contrast: Contrast
    pair: str
    ratio: float

    def _both(self, column: str) -> pd.DataFrame:
        return self.collection.paired(self.pair, self.ratio, *self._arms, column)

    def images(self) -> Comparison:
        """The interval over replicates and test images, and in how many replicates images differ.

        Each replicate's test over images is at 5% after Holm over the replicates.
        """
        differences = self._differences()
        found = [stats.images_p(d, steps) for d, steps in differences]
        by_image = np.array([d for d, _ in differences])
        below = np.array(stats.holm(found)) <= LEVEL
        sums = np.array([d.sum() for d in by_image])
        crossed = stats.crossed_interval(100 * by_image)
        return {
            "crossed_low": crossed.low,
            "crossed_high": crossed.high,
            "images_a_better": int((below & (sums > 0)).sum()),
            "images_b_better": int((below & (sums < 0)).sum()),
        }

    def _differences(self) -> list[tuple[stats.Array, int]]:
        """By replicate: those of images' correctness, shape ``(images,)``, and their steps."""
        steps = self._both("finals").max(axis=1) * self.collection.classes(self.pair)
        found = []
        for replicate in map(int, steps.index):
            keys = [(self.pair, self.ratio, replicate, arm) for arm in self._arms]
            a, b = (self.collection.correct.get(key) for key in keys)
            if a is not None and b is not None:
                found.append((a - b, int(steps[replicate])))
        return found

    @property
    def _arms(self) -> tuple[str, str]:
        return self.contrast.a, self.contrast.b

    def failures(self) -> Comparison:
        """Failed finals of either arm; where replicates with any differ, an exact McNemar p."""
        failed, finals = self._both("failures"), self._both("finals")
        a, b = self._arms
        only_a, only_b = (((failed[x] > 0) & (failed[y] == 0)).sum() for x, y in ((a, b), (b, a)))
        return {
            "failures_a": int(failed[a].sum()),
            "failures_b": int(failed[b].sum()),
            "finals": int(finals[a].sum()),
            "p_failures": stats.mcnemar_p(int(only_a), int(only_b)),
        }

    def without_failures(self) -> Comparison:
        """The sensitivity analysis: failed finals dropped, and replicates that have no other."""
        found = stats.exact_interval(
            _differences(self.collection, self.contrast, self.pair, self.ratio, "top1_finite")
        )
        return {"finite_n": found.n, **found.facts("finite_difference", "finite_")}


def _equivalence(
    test: stats.SignFlip, said: Preregistration, contrast: str, ratio: float
) -> Comparison:
    """Whether the arms are shown to be within a preregistered margin; None without one."""
    inside, margin = test.interval(stats.EQUIVALENCE), said.margin(contrast, ratio)
    whole = not said.unfinished(test.n)
    return {
        "margin": margin,
        "inner_low": inside.low,
        "inner_high": inside.high,
        "equivalent": whole and test.within(0.0, margin) if np.isfinite(margin) else None,
    }


def _shown(collection: Collection, row: Facts, missing: str) -> str:
    """What a comparison shows, in words; ``missing`` is what a confirmatory one lacks."""
    ours = stats.Interval(row["difference"], row["low"], row["high"], row["n"])
    known = (row["p_holm"], missing) if row["kind"] == CONFIRMATORY else ()
    said = verdicts.contrast_words(contrast_label(row["contrast"]), ours, *known)
    if row["contrast"] == SAME_FOR_RELU and _relu(collection, row["pair"]):
        return f"noise of tuning, as both are one class of functions: {said}"
    return said


def _relu(collection: Collection, pair: str) -> bool:
    """Whether the network's default is ReLU in every slot."""
    texts = collection.select(pair=pair, arm="default_hpo")["operators"]
    return {name for text in texts for name in text.split("|") if name} == {"relu"}


def _contrast_table(collection: Collection, context: Context) -> Table:
    rows = contrast_rows(collection, context)
    caption = (
        "Paired over replicates, percentage points of top-1, a failed final training counting as "
        "chance. Interval and p: exact sign-flip test of the mean and its inversion, on these test "
        "images; paired t stands in brackets where too few replicates leave it unbounded. Where "
        "one replicate of a few collapses, no interval of a mean is to be trusted (rule 25 of the "
        "protocol): look at the median. By t, over images too: 95% interval for other replicates "
        "and other test images, which differs from the exact one by its method as well. Holm: over "
        f"what the study preregistered ({_preregistered(context)}); of exploratory rows over the "
        "pairs and ratios of a contrast, so that with one of each it is the exact p, and nothing "
        f"rests on it. Attainable p: the least that the test can give, {stats.FLIPS}. Power: of "
        f"as many again against a true {stats.EFFECT:g} point, at 5% before Holm, by paired t with "
        "the measured spread. Failed: final trainings of the first and of the second arm, where "
        "they differ with an exact McNemar p over replicates. Without them: failed finals dropped. "
        "Within the margin: the exact 90% interval is; not corrected for being many. Images: in "
        "how many replicates the first and the second is better by a sign-flip test over test "
        "images (exact McNemar with one final), p at most .05 after Holm over replicates."
    )
    columns = (
        CONTRAST, pair_by(context.label), RATIO, words("Kind", "kind"), words("n", "n"),
        figure("Difference", "difference", sign=True), Column("Exact 95% interval", exact_text),
        words("What it shows", "verdict"), figure("Median", "median", sign=True), *EXACT,
        figure("Power", "power"),
        bounds("By t, over images too", "crossed_"), Column("Failed", _failed), EQUIVALENT,
        Column("Without them", _without), Column("Images", _images),
    )  # fmt: skip
    return Table.of("comparisons", "Paired comparisons", caption, rows, columns)


def _preregistered(context: Context) -> str:
    said = context.preregistered
    if said.ratio is None:
        return "nothing here"
    return f"{', '.join(map(contrast_label, said.contrasts))} at {ratio_text(said.ratio)}"


def _failed(row: Facts) -> str:
    counts = f"{row['failures_a']} : {row['failures_b']} of {row['finals']}"
    p = p_text(row["p_failures"])
    return counts if p == ABSENT else f"{counts} (p {p})"


def _without(row: Facts) -> str:
    """The sensitivity analysis where it is another one."""
    if not (row["failures_a"] or row["failures_b"]):
        return ABSENT
    shown = interval_text(row["finite_low"], row["finite_high"])
    return f"{number(row['finite_difference'], sign=True)} ({shown}; n = {row['finite_n']})"


def _images(row: Facts) -> str:
    return f"{row['images_a_better']} : {row['images_b_better']} of {row['n']}"


# Overall


def overall_rows(collection: Collection, context: Context) -> list[Comparison]:
    """Per main contrast of the profile: the equal-weight mean over pairs, Holm over contrasts."""
    names, ratio = context.main
    asked = [c for c in contrasts_of(context.arms) if c.name in names]
    rows = [_overall_row(collection, context, c, ratio) for c in asked]
    adjusted = stats.holm([row["p"] for row in rows])
    pairs = sum(ratio in collection.ratios(pair) for pair in context.pairs)
    for row, p in zip(rows, adjusted, strict=True):
        row["p_holm"] = p
        missing = context.preregistered.unfinished(row["n"], pairs)
        row["verdict"] = _shown(collection, row | {"pair": ""}, missing)
    return rows


def _overall_row(
    collection: Collection, context: Context, contrast: Contrast, ratio: float
) -> Comparison:
    groups = [_differences(collection, contrast, pair, ratio) for pair in context.pairs]
    test = stats.over_groups(groups)
    return {
        "contrast": contrast.name,
        "ratio": ratio,
        "kind": context.kind(contrast.name, ratio),
        "pairs": sum(bool(len(group)) for group in groups),
        "pairs_expected": len(groups),
        "n": test.n,
        **test.interval().facts("difference"),
        "p": test.p(),
        "p_attainable": stats.attainable_p(test.n),
    }


def _overall_table(collection: Collection, context: Context) -> Table:
    rows = overall_rows(collection, context)
    caption = (
        "Equal-weight mean over pairs, percentage points; exact interval and p by flipping whole "
        "(pair, replicate) blocks. Where pairs differ in the gain, that counts as spread, so that "
        "the interval is too wide rather than too narrow. Holm over these contrasts. Ratios of one "
        "replicate share a dense net and are not pooled."
    )
    columns = (
        CONTRAST, RATIO, words("Kind", "kind"), count("Pairs", "pairs", "pairs_expected"),
        words("n", "n"), figure("Difference", "difference", sign=True),
        bounds("Exact 95% interval"), words("What it shows", "verdict"), *EXACT,
    )  # fmt: skip
    title = f"Over all pairs, ratio {ratio_text(context.main[1])}"
    return Table.of("overall", title, caption, rows, columns, bare=["contrast"])
