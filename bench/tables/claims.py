"""The paper's qualitative claims, each with its test, and whether it holds here.

Where data or budgets differ from the paper's, numbers do not compare; claims still do. A claim is
turned into one number per replicate that is positive where the claim holds, and that number into
an interval and an exact p (:mod:`bench.stats`). The rules that make a verdict of them are in
:mod:`bench.verdicts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench import stats
from bench.collection import Collection
from bench.columns import RATIO, p_value, pair_by, words
from bench.context import Context
from bench.render import Column, Facts, Table, interval_text, number
from bench.stats import Array
from bench.traces import ALGORITHMS, Traces, final_losses
from bench.verdicts import CLAIM_RULES, RULES_VERSION, claim_verdict
from safs.arms import ARMS
from safs.operators import label
from safs.rows import SearchTrace

POINTS = "points"
LOSS = "training loss"
FACTOR = "log10 of the factor"


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
        for name in (a, b):
            if name not in self.context.arms:
                raise MissingError(f"the arm {ARMS[name].label} was not run")
        both = self.collection.paired(self.pair, ratio or self.ratio, a, b)
        return both[a] - both[b]

    def searches(self) -> list[SearchTrace]:
        """The profile's own searches here. Raises MissingError."""
        place = (self.pair, self.ratio, self.context.search(self.pair))
        found = [t for t in self.traces.search if (t.pair, t.ratio, t.algorithm) == place]
        if not found:
            raise MissingError("stage 1 left no trace here")
        return found


ClaimTest = Callable[[Evidence], "Array | pd.Series[float]"]


@dataclass(frozen=True)
class Claim:
    """A statement, where the paper makes it, and one number per replicate that tests it.

    ``values`` are positive where the claim holds; it raises MissingError where it cannot be tested.
    ``measured`` says in words what they are, ``ref`` is empty where the paper tests no such thing.
    """

    key: str
    text: str
    ref: str
    measured: str
    unit: str
    values: ClaimTest


def _beats(a: str, b: str) -> ClaimTest:
    return lambda here: here.difference(a, b)


def _growth(here: Evidence) -> Array:
    """Least-squares slope of each replicate's gain over the ratios, in points per ratio."""
    ratios = here.collection.ratios(here.pair)
    if len(ratios) < 2:
        raise MissingError("one pruning ratio was run; two or more are needed")
    gains = [here.difference("safs", "vanilla", ratio) for ratio in ratios]
    table = pd.concat(gains, axis=1, join="inner").to_numpy()
    steps = np.arange(len(ratios)) - (len(ratios) - 1) / 2
    return table @ steps / (steps @ steps)


def _activations_more(here: Evidence) -> pd.Series[float]:
    """What activations give, minus what tuning gives, each the mean of coming first and second.

    The two overlap: whichever is counted first gets what both could give (a Shapley value of two).
    """
    activations = here.difference("stage1_only", "vanilla") + here.difference("safs", "default_hpo")
    tuning = here.difference("default_hpo", "vanilla") + here.difference("safs", "stage1_only")
    return ((activations - tuning) / 2).dropna()


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

    Chosen by mean validation accuracy of the other replicates: the best of several, chosen and
    measured on the same runs, would look better than it is.
    """
    rows = here.collection.select(pair=here.pair, ratio=here.ratio, status="ok")
    rows = rows[rows["arm"].isin(here.context.swept)]
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
    return (here.collection.series(here.pair, here.ratio, "safs") - _single(here)).dropna()


def _flow(definition: str) -> ClaimTest:
    """log10 of SAFS's mean gradient flow over its epochs, over vanilla's, by one definition."""

    def values(here: Evidence) -> pd.Series[float]:
        curves = here.traces.curves
        rows = curves[(curves["pair"] == here.pair) & (curves["ratio"] == here.ratio)]
        mean = rows.groupby(["replicate", "arm"])[definition].mean().unstack()
        if not {"safs", "vanilla"} <= set(mean):
            raise MissingError("no gradient flow of both SAFS and vanilla")
        both = mean.loc[(mean["safs"] > 0) & (mean["vanilla"] > 0)]
        return (both["safs"] / both["vanilla"]).map(math.log10)

    return values


def _early(slots: int) -> set[int]:
    return set(range(math.ceil(slots / 3)))


def _middle(slots: int) -> set[int]:
    return set(range(slots // 3, slots - slots // 3))


def _share(trace: SearchTrace, names: Sequence[str], places: set[int]) -> float:
    """Percent of the genes in ``places``, over all candidates, that are among ``names``."""
    genes = [e.chromosome[place] for e in trace.evaluations for place in places]
    return 100 * sum(gene in names for gene in genes) / len(genes)


def _chance(trace: SearchTrace, names: Sequence[str]) -> float:
    """Percent expected without any selection. Raises MissingError if no name is a candidate."""
    known = [name for name in names if name in trace.operators]
    if not known:
        raise MissingError(f"{' and '.join(map(label, names))} were no candidates")
    return 100 * len(known) / len(trace.operators)


def _rare(*names: str) -> ClaimTest:
    def values(here: Evidence) -> Array:
        every = ((t, set(range(len(t.slots)))) for t in here.searches())
        return np.array([_chance(t, names) - _share(t, names, places) for t, places in every])

    return values


def _frequent(part: Callable[[int], set[int]], *names: str) -> ClaimTest:
    def values(here: Evidence) -> Array:
        return np.array(
            [_share(t, names, part(len(t.slots))) - _chance(t, names) for t in here.searches()]
        )

    return values


CLAIMS: tuple[Claim, ...] = (
    Claim("vanilla", "SAFS beats vanilla pruning", "Table 1, Section 5.4",
          "SAFS - vanilla, top-1", POINTS, _beats("safs", "vanilla")),
    Claim("srelu", "SAFS beats SReLU", "Table 1, Section 5.4",
          "SAFS - SReLU, top-1", POINTS, _beats("safs", "srelu")),
    Claim("stage1", "SAFS beats stage 1 alone", "Table 2, Section 5.7",
          "SAFS - stage 1, top-1", POINTS, _beats("safs", "stage1_only")),
    Claim("stage2", "SAFS beats stage 2 alone", "Table 2, Section 5.7",
          "SAFS - stage 2, top-1", POINTS, _beats("safs", "stage2_only")),
    Claim("growth", "The gain grows with the pruning ratio", "Section 5.5",
          "slope of SAFS - vanilla from one ratio to the next", POINTS, _growth),
    Claim("relu", "ReLU is not the best activation at high sparsity", "Figure 4a, Section 5.2",
          "best single activation, chosen on the other replicates, - ReLU", POINTS,
          _beats_default),
    Claim("single", "SAFS beats every single activation", "Section 5.5",
          "SAFS, tuned, - best single activation with the dense recipe, chosen on the other "
          "replicates", POINTS, _beats_single),
    Claim("recipe", "The dense recipe is not good enough for the pruned network",
          "Figure 4b, Section 5.3", "default activation: tuned - dense recipe", POINTS,
          _beats("default_hpo", "vanilla")),
    *(
        Claim(f"lahc_{name}", f"LAHC finds better operators than {ALGORITHMS[name]}",
              "Figure 6, Appendix A", f"final loss of {ALGORITHMS[name]} - of LAHC", LOSS,
              _above_lahc(name))
        for name in ("annealing", "random", "bayesian")
    ),
    Claim("flow", "SAFS raises the gradient flow", "Figure 7, Appendix B",
          "mean lr ||g||² over the epochs, SAFS over vanilla", FACTOR, _flow("flow")),
    Claim("flow_step", "SAFS raises the first-order decrease of the loss per step",
          "Figure 7, Appendix B", "mean -g . step over the epochs, SAFS over vanilla", FACTOR,
          _flow("flow_step")),
    Claim("rare", "Symexp and ELU are unfavourable", "Figure 5, Section 5.6",
          "how far their share of all candidates' slots is below chance", POINTS,
          _rare("symexp", "elu")),
    Claim("early", "Symlog and Acon dominate early layers", "Figure 5, Section 5.6",
          "their share of the first third of slots above chance", POINTS,
          _frequent(_early, "symlog", "acon")),
    Claim("middle", "Swish and HardSwish are frequent in middle layers", "Figure 5, Section 5.6",
          "their share of the middle third of slots above chance", POINTS,
          _frequent(_middle, "swish", "hardswish")),
    Claim("beyond_tuning", "Activations add to what tuning alone gives", "",
          "SAFS, α and β included, - default activation tuned alike", POINTS,
          _beats("safs", "default_hpo")),
    Claim("activations", "The gain comes from activations rather than from tuning", "",
          "what activations give - what tuning gives, each the mean of added first and second",
          POINTS, _activations_more),
    Claim("search", "The search beats a random chromosome", "",
          "SAFS - random activations tuned alike", POINTS,
          _beats("safs", "random_hpo")),
)  # fmt: skip
"""Every claim, the paper's first. Those with an empty ``ref`` it makes or needs but never tests."""


def rows(collection: Collection, traces: Traces, context: Context) -> list[dict[str, Any]]:
    """One row per claim and pair, at the pair's highest pruning ratio."""
    return [
        _row(claim, Evidence(collection, traces, context, pair, ratio))
        for claim in CLAIMS
        for pair in context.pairs
        for ratio in collection.ratios(pair)[-1:]
    ]


def _row(claim: Claim, here: Evidence) -> dict[str, Any]:
    missing, values = "", np.array([])
    try:
        values = np.asarray(claim.values(here), dtype=float)
    except MissingError as error:
        missing = str(error)
    found = stats.exact_interval(values)
    verdict = claim_verdict(found, missing=missing)
    return {
        "claim": claim.key, "text": claim.text, "ref": claim.ref, "pair": here.pair,
        "ratio": here.ratio, "verdict": verdict.name, "rule": verdict.rule,
        "measured": claim.measured, "n": found.n, "mean": found.mean, "unit": claim.unit,
        "low": found.low, "high": found.high, "p": stats.sign_flip_p(values),
        "p_attainable": stats.attainable_p(found.n), "rules_version": RULES_VERSION,
    }  # fmt: skip


def table(collection: Collection, traces: Traces, context: Context) -> Table:
    """The claims page. Raises SafsError if the profile does not cover the collection."""
    context.require(collection)
    found = rows(collection, traces, context)
    rules = "; ".join(f"{name}: {rule}" for name, rule in CLAIM_RULES)
    caption = (
        "One number per replicate, positive where the claim holds: its mean, exact interval "
        "and exact sign-flip p, at the pair's highest pruning ratio. Claims are exploratory, and "
        "their p are not corrected for being many. lr ||g||² is the decrease of the loss per step "
        "for plain gradient descent only. BO is SMAC as it comes, which refits its model after "
        "every eighth candidate. Acon, "
        "whose own parameters stay at their published values, is the same function as Swish, so "
        "no count can tell the two apart. The first rule that holds (version "
        f"{RULES_VERSION}): {rules}."
    )
    columns = (
        words("Claim", "text"), Column("In the paper", lambda row: row["ref"] or "not tested"),
        pair_by(context.label), RATIO, words("Verdict", "verdict"), words("Why", "rule"),
        words("Measured", "measured"), words("n", "n"),
        Column("Mean", lambda row: number(row["mean"], _digits(row), sign=True)),
        words("Unit", "unit"),
        Column("95% interval", lambda row: interval_text(row["low"], row["high"], _digits(row))),
        p_value("Exact p", "p"), p_value("Attainable p", "p_attainable"),
    )  # fmt: skip
    return Table.of("claims", "The paper's claims", caption, found, columns, bare=["claim"])


def _digits(row: Facts) -> int:
    return 2 if row["unit"] == POINTS else 4
