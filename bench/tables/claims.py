"""The paper's qualitative claims, each with its test, and whether it holds here.

Where data or budgets differ from the paper's, numbers do not compare; claims still do. A claim is
turned into one number per replicate that is positive where the claim holds, and that number into
an exact interval and p (:mod:`bench.stats`). The rules that make a verdict of them are in
:mod:`bench.verdicts`.

Claims stand in three lists: the paper's that it tests, the paper's that it does not, and ours. A
claim compares like with like: tuned arms with tuned ones, the dense recipe with the dense recipe;
where the paper does not, its own comparison says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench import stats
from bench.columns import RATIO, exact_text, p_value, pair_by, words
from bench.context import Context
from bench.contrasts import CONFIRMATORY, EXPLORATORY
from bench.records.collection import Collection
from bench.records.traces import ALGORITHMS, Traces, final_losses
from bench.render import Column, Facts, Table, number
from bench.stats import Array
from bench.tables.comparisons import confirmed
from bench.verdicts import CLAIM_RULES, RULES_VERSION, claim_verdict
from safs.arms import ARMS
from safs.operators import label
from safs.rows import SearchTrace

POINTS = "points"
LOSS = "training loss"
FACTOR = "log10 of the factor"


OTHER_SEARCHES = {
    "annealing": "SA",
    "random": "RS",
    "bayesian": "BO (SMAC as by default, which refits its model after every eighth candidate)",
}
"""What LAHC is compared with, named so that one knows which."""
Study = Mapping[tuple[str, str, float], float]
"""Holm's p of what a study preregistered, by contrast, pair and ratio."""


class MissingError(Exception):
    """What a claim would need that the profile does not have, in words."""


@dataclass(frozen=True)
class Evidence:
    """What a claim is judged on: one pair at its highest pruning ratio, and the ratios below."""

    collection: Collection
    traces: Traces
    context: Context
    pair: str
    ratio: float

    def difference(self, a: str, b: str, ratio: float | None = None) -> pd.Series[float]:
        """Top-1 of arm ``a`` minus arm ``b`` (points), by replicate. Raises MissingError."""
        self._ran(a, b)
        return self.collection.difference(self.pair, ratio or self.ratio, a, b)

    def of(self, arm: str) -> pd.Series[float]:
        """Top-1 of an arm, by replicate. Raises MissingError."""
        self._ran(arm)
        return self.collection.series(self.pair, self.ratio, arm)

    def _ran(self, *arms: str) -> None:
        for name in arms:
            if name not in self.context.arms:
                raise MissingError(f"the arm {ARMS[name].label} was not run")

    def searches(self) -> list[SearchTrace]:
        """The profile's own searches here. Raises MissingError."""
        place = (self.pair, self.ratio, self.context.search(self.pair))
        found = [t for t in self.traces.search if (t.pair, t.ratio, t.algorithm) == place]
        if not found:
            raise MissingError("stage 1 left no trace here")
        return found


ClaimTest = Callable[[Evidence], "Array | pd.Series[float]"]

TESTED, UNTESTED, OURS = "the paper's, tested by it", "the paper's, untested by it", "ours"
LISTS = (TESTED, UNTESTED, OURS)
"""Who makes a claim, and whether it is tested where it is made."""


@dataclass(frozen=True)
class Claim:
    """A statement, who makes it and where, and one number per replicate that tests it.

    Attributes:
        key: identifier.
        text: the statement.
        made: one of :data:`LISTS`.
        ref: where it is made; empty for ours.
        unit: of the numbers.
        ways: how it can be tested, best first: in words what is measured, and the values, which are
            positive where the claim holds. A way raises MissingError where it cannot be gone.
        contrast: the contrast whose difference it is, if it is one.
    """

    key: str
    text: str
    made: str
    ref: str
    unit: str
    ways: tuple[tuple[str, ClaimTest], ...]
    contrast: str = ""


def _of(contrast: str, key: str, text: str, made: str, ref: str, measured: str) -> Claim:
    """The claim that a contrast is positive."""
    a, _, b = contrast.partition("-")
    way = (measured, lambda here: here.difference(a, b))
    return Claim(key, text, made, ref, POINTS, (way,), contrast)


def _growth(here: Evidence) -> Array:
    """Least-squares slope of each replicate's gain over the ratios, in points per ratio."""
    ratios = here.collection.ratios(here.pair)
    if len(ratios) < 2:
        raise MissingError("one pruning ratio was run; two or more are needed")
    gains = [here.difference("safs", "vanilla", ratio) for ratio in ratios]
    table = pd.concat(gains, axis=1, join="inner").to_numpy()
    steps = np.arange(len(ratios)) - (len(ratios) - 1) / 2
    return table @ steps / (steps @ steps)


def _above_lahc(other: str) -> ClaimTest:
    def values(here: Evidence) -> Array:
        if here.context.search(here.pair) != "lahc":
            raise MissingError("stage 1 did not search by LAHC")
        losses = final_losses(here.traces.search)
        losses = losses[losses["pair"] == here.pair]
        studied = losses.loc[losses["algorithm"] == other, "ratio"]
        if studied.empty:
            raise MissingError(f"the search comparison did not run {ALGORITHMS[other]}")
        if here.ratio not in set(studied):
            raise MissingError(f"the search comparison did not run at {here.ratio:g}")
        at = losses[losses["ratio"] == here.ratio]
        table = at.pivot(index="replicate", columns="algorithm", values="loss")
        if "lahc" not in table:
            raise MissingError("LAHC left no trace beside it")
        return (table[other] - table["lahc"]).dropna().to_numpy()

    return values


def _single(here: Evidence) -> pd.Series[float]:
    """Top-1 of the best single activation by replicate, each chosen without that replicate.

    Chosen by mean validation accuracy of the other replicates, a failed training at chance: the
    best of several, chosen and measured on the same runs, would look better than it is.
    """
    rows = here.collection.select(pair=here.pair, ratio=here.ratio)
    rows = rows[rows["arm"].isin(here.context.swept) & rows["top1"].notna()]
    if rows.empty:
        raise MissingError("the activation study was not run here")
    valid = rows.pivot(index="replicate", columns="arm", values="validation_top1")
    test = rows.pivot(index="replicate", columns="arm", values="top1")
    if len(valid) < 2:
        raise MissingError("one replicate of the activation study; two or more are needed")
    chosen = {r: str(valid.drop(index=r).mean().idxmax()) for r in valid.index}
    return pd.Series({r: test.loc[r, name] for r, name in chosen.items()}, dtype=float).dropna()


def _beats_default(here: Evidence) -> pd.Series[float]:
    vanilla = here.collection.select(pair=here.pair, ratio=here.ratio, arm="vanilla")
    used = {name for text in vanilla["operators"] for name in text.split("|") if name}
    if not used:
        raise MissingError("no vanilla run to compare with")
    if used != {"relu"}:
        labels = ", ".join(sorted(label(name) for name in used))
        raise MissingError(f"the network's default is {labels}, not ReLU")
    return (_single(here) - here.collection.series(here.pair, here.ratio, "vanilla")).dropna()


def _beats_single(here: Evidence) -> pd.Series[float]:
    return (here.of("stage1_only") - _single(here)).dropna()


def _loses_little(here: Evidence) -> pd.Series[float]:
    return here.difference("safs_fast", "safs") + 1


def _flow(definition: str) -> ClaimTest:
    """log10 of SAFS's mean gradient flow over its epochs, over vanilla's, by one definition.

    The decrease in loss can be below 0. Such a replicate has no ratio, and to leave it out would
    choose by the outcome: then there is no answer.
    """

    def values(here: Evidence) -> pd.Series[float]:
        both = here.collection.paired(here.pair, here.ratio, "safs", "vanilla", definition)
        if both.empty:
            raise MissingError("no gradient flow of both SAFS and vanilla")
        if without := [str(replicate) for replicate in both.index[(both <= 0).any(axis=1)]]:
            raise MissingError(f"a mean flow is not above 0 in replicate {', '.join(without)}")
        return (both["safs"] / both["vanilla"]).map(math.log10)

    return values


def _share(trace: SearchTrace, names: Sequence[str], places: range) -> float:
    """Percent of the genes in ``places``, over all candidates, that are among ``names``."""
    genes = [e.chromosome[place] for e in trace.evaluations for place in places]
    return 100 * sum(gene in names for gene in genes) / len(genes)


def _chance(trace: SearchTrace, names: Sequence[str]) -> float:
    """Percent expected without any selection. Raises MissingError if no name is a candidate."""
    known = [name for name in names if name in trace.operators]
    if not known:
        raise MissingError(f"not among the candidates: {', '.join(map(label, names))}")
    return 100 * len(known) / len(trace.operators)


def _middle(slots: int) -> range:
    """The middle third of so many slots. Raises MissingError where there is none."""
    if slots < 3:
        raise MissingError(f"the network has {slots} slots, and so no middle third")
    return range(slots // 3, slots - slots // 3)


def _rare(*names: str) -> ClaimTest:
    def values(here: Evidence) -> Array:
        every = ((t, range(len(t.slots))) for t in here.searches())
        return np.array([_chance(t, names) - _share(t, names, places) for t, places in every])

    return values


def _frequent(part: Callable[[int], range], *names: str) -> ClaimTest:
    def values(here: Evidence) -> Array:
        return np.array(
            [_share(t, names, part(len(t.slots))) - _chance(t, names) for t in here.searches()]
        )

    return values


CLAIMS: tuple[Claim, ...] = (
    _of("safs-vanilla", "vanilla", "SAFS beats vanilla pruning", TESTED, "Table 1, Section 5.4",
        "SAFS, tuned, - vanilla with the dense recipe, as in the paper; top-1"),
    _of("safs-srelu", "srelu", "SAFS beats SReLU", TESTED, "Table 1, Section 5.4",
        "SAFS, tuned, - SReLU with the dense recipe, as in the paper; top-1"),
    _of("safs-stage1_only", "stage1", "SAFS beats stage 1 alone", TESTED, "Table 2, Section 5.7",
        "SAFS, tuned, - stage 1 with the dense recipe; top-1"),
    _of("safs-stage2_only", "stage2", "SAFS beats stage 2 alone", TESTED, "Table 2, Section 5.7",
        "SAFS - stage 2, both tuned; top-1"),
    Claim("growth", "The gain grows with the pruning ratio", TESTED, "Section 5.5", POINTS,
          (("slope of SAFS - vanilla from one ratio to the next", _growth),)),
    Claim("relu", "ReLU is not the best activation at high sparsity", TESTED,
          "Figure 4a, Section 5.2", POINTS,
          (("best single activation, chosen on the other replicates, - ReLU, both with the dense "
            "recipe; top-1", _beats_default),)),
    Claim("single", "SAFS beats every single activation", TESTED, "Section 5.5", POINTS,
          (("SAFS - best single activation, both tuned; top-1",
            lambda here: here.difference("safs", "best_single_hpo")),
           ("SAFS's operators - best single activation, chosen on the other replicates, both with "
            "the dense recipe; top-1", _beats_single)),
          "safs-best_single_hpo"),
    _of("default_hpo-vanilla", "recipe", "The dense recipe is not good enough for the pruned "
        "network", TESTED, "Figure 4b, Section 5.3",
        "default activation: tuned - dense recipe; top-1"),
    *(
        Claim(f"lahc_{name}", f"LAHC finds better operators than {words}", TESTED,
              "Figure 6, Appendix A", LOSS,
              ((f"final loss of {ALGORITHMS[name]} - of LAHC, equal budget", _above_lahc(name)),))
        for name, words in OTHER_SEARCHES.items()
    ),
    Claim("flow", "SAFS raises the gradient flow", TESTED, "Figure 7, Appendix B", FACTOR,
          (("mean lr ||g||² over the epochs, SAFS over vanilla", _flow("flow")),)),
    *(
        Claim(f"rare_{name}", f"{label(name)} is unfavourable", TESTED, "Figure 5, Section 5.6",
              POINTS, (("how far its share of all candidates' slots is below chance",
                        _rare(name)),))
        for name in ("symexp", "elu")
    ),
    Claim("early", "Symlog and Acon dominate early layers", TESTED, "Figure 5, Section 5.6", POINTS,
          (("their share of the first third of slots above chance",
            _frequent(lambda n: range(math.ceil(n / 3)), "symlog", "acon")),)),
    Claim("middle", "Swish and HardSwish are frequent in middle layers", TESTED,
          "Figure 5, Section 5.6", POINTS,
          (("their share of the middle third of slots above chance",
            _frequent(_middle, "swish", "hardswish")),)),
    _of("safs-default_hpo", "beyond_tuning", "Activations add to what tuning alone gives", UNTESTED,
        "Section 6, implied", "SAFS, α and β included, - default activation, both tuned; top-1"),
    Claim("activations", "The gain comes from activations rather than from tuning", UNTESTED,
          "Section 6, implied", POINTS,
          (("stage 1 with the dense recipe - default activation, tuned; top-1",
            lambda here: here.difference("stage1_only", "default_hpo")),)),
    _of("safs-random_hpo", "search", "The search beats a random chromosome", UNTESTED,
        "Section 6, implied", "SAFS - random activations, both tuned; top-1"),
    _of("safs-srelu_hpo", "srelu_tuned", "SAFS beats SReLU, both tuned", OURS, "",
        "SAFS - SReLU, both tuned; top-1"),
    _of("safs-srelu_layer_hpo", "srelu_layer", "SAFS beats SReLU with four parameters a layer, "
        "both tuned", OURS, "", "SAFS - SReLU per layer, both tuned; top-1"),
    _of("srelu_hpo-default_hpo", "srelu_adds", "SReLU adds to what tuning alone gives", OURS, "",
        "SReLU - default activation, both tuned; top-1"),
    _of("safs-default_hpo_total", "total", "SAFS beats tuning alone with its whole budget", OURS,
        "", "SAFS - default activation, tuned with the trials of both stages; top-1"),
    Claim("fast", "The cheap search loses less than a point", OURS, "", POINTS,
          (("SAFS fast - SAFS + 1 point, both tuned; top-1", _loses_little),)),
    Claim("flow_step", "SAFS raises the first-order decrease of the loss per step", OURS, "",
          FACTOR, (("mean -g . step over the epochs, SAFS over vanilla", _flow("flow_step")),)),
)  # fmt: skip
"""Every claim, list by list."""


def rows(collection: Collection, traces: Traces, context: Context) -> list[dict[str, Any]]:
    """One row per claim and pair, at the preregistered ratio or else the pair's highest one.

    Holm over what the study preregistered; of the others over those of a list that could be tested
    on a pair.
    """
    study = confirmed(collection, context)
    places = [
        Evidence(collection, traces, context, pair, _ratio(collection, context, pair))
        for pair in context.pairs
        if collection.ratios(pair)
    ]
    return [row for made in LISTS for here in places for row in _list(made, here, study)]


def _ratio(collection: Collection, context: Context, pair: str) -> float:
    ratios = collection.ratios(pair)
    return context.preregistered.ratio if context.preregistered.ratio in ratios else ratios[-1]


def _list(made: str, here: Evidence, study: Study) -> list[dict[str, Any]]:
    """The claims of a list on one pair."""
    found = [(claim, _measured(claim, here)) for claim in CLAIMS if claim.made == made]
    tests = [stats.SignFlip(values) for _, (_, values, _) in found]
    p = iter(stats.holm([test.p() for test in tests if test.n]))
    return [
        _row(claim, here, measured, test, next(p) if test.n else np.nan, study)
        for (claim, measured), test in zip(found, tests, strict=True)
    ]


def _measured(claim: Claim, here: Evidence) -> tuple[str, Array, str]:
    """What is measured in words, its values, and what is missing for the best way to test it."""
    missing = ""
    for said, values in claim.ways:
        try:
            return said, np.asarray(values(here), dtype=float), ""
        except MissingError as error:
            missing = missing or str(error)
    return claim.ways[0][0], np.array([]), missing


def _row(
    claim: Claim,
    here: Evidence,
    measured: tuple[str, Array, str],
    test: stats.SignFlip,
    in_list: float,
    study: Study,
) -> dict[str, Any]:
    said, values, missing = measured
    ours, t = test.interval(), stats.mean_interval(values)
    preregistered = study.get((claim.contrast, here.pair, here.ratio))
    if preregistered is not None:
        missing = missing or here.context.preregistered.unfinished(ours.n)
    verdict = claim_verdict(ours, preregistered, missing)
    return {
        "claim": claim.key, "text": claim.text, "list": claim.made, "ref": claim.ref,
        "pair": here.pair, "ratio": here.ratio,
        "kind": EXPLORATORY if preregistered is None else CONFIRMATORY,
        "verdict": verdict.name, "rule": verdict.rule, "measured": said, "n": ours.n,
        "mean": ours.mean, "unit": claim.unit, "low": ours.low, "high": ours.high,
        "t_low": t.low, "t_high": t.high, "p": test.p(),
        "p_holm": in_list if preregistered is None else preregistered,
        "p_attainable": stats.attainable_p(ours.n), "rules_version": RULES_VERSION,
    }  # fmt: skip


def table(collection: Collection, traces: Traces, context: Context) -> Table:
    """The claims page. Raises SafsError if the profile does not cover the collection."""
    context.require(collection)
    found = rows(collection, traces, context)
    rules = "; ".join(f"{name}: {rule}" for name, rule in CLAIM_RULES)
    caption = (
        "One number per replicate, positive where the claim holds: its mean, exact interval and "
        "exact sign-flip p, at the preregistered ratio or else the pair's highest one. Whatever is "
        "about accuracy is about these test images, which may have been used before. Holm: over "
        "what the study preregistered; elsewhere over the claims of a list that could be tested "
        "on the pair (a contrast's Holm p in the comparisons is another one, over the ratios), and "
        "such a verdict rests on the interval alone. Attainable p: the least that the test can "
        f"give, {stats.FLIPS}. lr ||g||² is the decrease of the loss per step for plain "
        "gradient descent only. Acon, whose own parameters stay at their published values, is the "
        "same function as Swish, so no count can tell the two apart. The first rule that holds "
        f"(version {RULES_VERSION}): {rules}."
    )
    columns = (
        words("List", "list"), words("Claim", "text"), words("Verdict", "verdict"),
        Column("Mean", lambda row: number(row["mean"], digits(row), sign=True)),
        Column("Exact 95% interval", lambda row: exact_text(row, digits(row))),
        p_value("Exact p", "p"), p_value("Holm p", "p_holm"), words("n", "n"),
        words("Unit", "unit"), words("Measured", "measured"), words("Why", "rule"),
        Column("Source", lambda row: row["ref"] or "this suite"), words("Kind", "kind"),
        pair_by(context.label), RATIO, p_value("Attainable p", "p_attainable"),
    )  # fmt: skip
    return Table.of("claims", "The claims", caption, found, columns, bare=["claim"])


def digits(row: Facts) -> int:
    """Decimals of a claim's numbers."""
    return 2 if row["unit"] == POINTS else 4
