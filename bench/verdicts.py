"""The verdict rules, versioned. Every verdict is printed with the rule that gave it.

Verdicts rest on intervals; p values stand beside them and decide nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.stats import Interval, replicates_needed

RULES_VERSION = 2
"""2 adds the rules for claims; those for printed numbers are as in 1."""
LEAST_REPLICATES = 3
"""Below this, no verdict but 'inconclusive'."""
WIDEST = 5.0
"""A prediction interval wider than this to either side (points) is no test of a level."""
LEVEL = 0.05
"""Level of every test: the two one-sided ones for equivalence, and McNemar's after Holm."""


class Verdict(NamedTuple):
    """A verdict and the rule that gave it, both for people."""

    name: str
    rule: str


def margin(published: str | None) -> float:
    """Equivalence margin in percentage points: 0.5, on ImageNet-16 1.0."""
    return 1.0 if published and published.endswith("imagenet16") else 0.5


NOT_COMPARABLE = "not comparable"
INCONCLUSIVE = "inconclusive"
REPRODUCED = "reproduced"
DIRECTION_ONLY = "direction only"
NOT_REPRODUCED = "not reproduced"
CONTRADICTED = "contradicted"

VERDICTS = (
    REPRODUCED, DIRECTION_ONLY, NOT_REPRODUCED, CONTRADICTED, INCONCLUSIVE, NOT_COMPARABLE,
)  # fmt: skip
"""Every verdict, best first."""

FEW = f"fewer than {LEAST_REPLICATES} replicates, or no spread among them"
WIDE = f"prediction interval wider than +-{WIDEST:g} points"


LEVEL_RULES: tuple[tuple[str, str], ...] = (
    (INCONCLUSIVE, FEW),
    (REPRODUCED, "our mean is within the margin of the printed value (TOST)"),
    (NOT_REPRODUCED, "printed value outside our 95% prediction interval"),
    (INCONCLUSIVE, WIDE),
    (REPRODUCED, "printed value inside our 95% prediction interval"),
)
"""The rules for a printed accuracy; the first that holds gives the verdict."""


def level_verdict(
    printed: float, prediction: Interval, tost: float, why_not: str | None = None
) -> Verdict:
    """Verdict on an accuracy (percent) that the paper prints.

    Args:
        printed: the printed accuracy.
        prediction: our 95% prediction interval for a mean of as many runs as the paper's.
        tost: p of the equivalence of our mean and the printed one within the margin.
        why_not: the reason if the two are not comparable.
    """
    if why_not is not None:
        return Verdict(NOT_COMPARABLE, why_not)
    few = prediction.n < LEAST_REPLICATES or not prediction.defined
    held = (
        few,
        tost < LEVEL,
        not prediction.low <= printed <= prediction.high,
        prediction.high - prediction.low > 2 * WIDEST,
        True,
    )
    return Verdict(*LEVEL_RULES[held.index(True)])


GAIN_RULES: tuple[tuple[str, str], ...] = (
    (REPRODUCED, "our mean gain is within the margin of the printed one (TOST)"),
    (REPRODUCED, "printed gain inside our 95% interval, which excludes 0"),
    (INCONCLUSIVE, "our 95% interval holds both 0 and the printed gain"),
    (
        DIRECTION_ONLY,
        "our 95% interval excludes 0 on the printed side but not the printed gain's size",
    ),
    (CONTRADICTED, "our 95% interval excludes 0 on the other side than the printed gain"),
    (NOT_REPRODUCED, "our 95% interval excludes the printed gain"),
)
"""The rules for a printed gain with an interval of ours; the first that holds gives the verdict."""


def gain_verdict(
    printed: float, ours: Interval, tost: float, why_not: str | None = None
) -> Verdict:
    """Verdict on a gain (points) that the paper prints, from our 95% interval of the gain.

    ``tost`` is the p of the equivalence of our mean gain and the printed one.
    """
    if why_not is not None:
        return Verdict(NOT_COMPARABLE, why_not)
    if ours.n < LEAST_REPLICATES or not ours.defined:
        return Verdict(INCONCLUSIVE, FEW)
    inside, side, asked = ours.low <= printed <= ours.high, _side(ours), np.sign(printed)
    held = (
        tost < LEVEL,
        inside and side != 0,
        inside,
        side != 0 and side == asked,
        side != 0 and side == -asked,
        True,
    )
    return Verdict(*GAIN_RULES[held.index(True)])


def _side(ours: Interval) -> int:
    """+1 or -1 if the interval lies on one side of 0, else 0."""
    return int(ours.low > 0) - int(ours.high < 0)


HOLDS = "holds"
FAILS = "fails"
UNDECIDED = "undecided"

CLAIM_RULES: tuple[tuple[str, str], ...] = (
    (UNDECIDED, "the profile does not have what the claim is about"),
    (UNDECIDED, FEW),
    (UNDECIDED, f"fewer than {replicates_needed()} replicates: the exact test cannot reach .05"),
    (HOLDS, "the 95% interval lies on the claim's side of 0"),
    (FAILS, "the 95% interval lies on the other side of 0"),
    (UNDECIDED, "the 95% interval holds 0"),
)
"""The rules for claims; the first that holds gives the verdict."""


def claim_verdict(ours: Interval, missing: str = "") -> Verdict:
    """Verdict on a claim, from the interval of a number that is positive where it holds.

    ``missing`` is what the profile lacks to test the claim, empty if it lacks nothing.
    """
    if missing:
        return Verdict(UNDECIDED, missing)
    if ours.n < LEAST_REPLICATES or not ours.defined:
        return Verdict(UNDECIDED, f"{FEW} (n = {ours.n})")
    needed = replicates_needed()
    if ours.n < needed:
        words = f"too little power: the exact test cannot reach .05 with {ours.n} replicates"
        return Verdict(UNDECIDED, f"{words}, {needed} can")
    return Verdict(*CLAIM_RULES[{1: 3, -1: 4, 0: 5}[_side(ours)]])


def contrast_words(label: str, ours: Interval) -> str:
    """What a paired comparison shows, in words that rest on the 95% interval alone."""
    first, _, second = label.partition(" - ")
    if not ours.n:
        return "no replicate has both runs"
    if ours.n < LEAST_REPLICATES:
        return f"too few replicates ({ours.n}) for a statement"
    if not ours.defined:
        return f"no interval: {ours.n} replicates, no spread among them"
    bounds = f"95% interval {ours.low:+.2f} to {ours.high:+.2f} points"
    if _side(ours) == 0:
        return f"no difference shown: {bounds} holds 0"
    better = first if _side(ours) > 0 else second
    return f"{better} higher: {bounds}"
