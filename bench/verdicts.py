"""The verdict rules, versioned. Every verdict is printed with the rule that gave it.

Verdicts rest on the exact interval, which excludes 0 where the exact p is at most .05. Of what a
study preregistered, Holm's p decides as well: where it and the interval disagree, nothing is, and
before its last replicate neither.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.render import p_text
from bench.stats import LEVEL, Interval, replicates_needed
from bench.words import counted

RULES_VERSION = 5
"""2 adds the rules for claims; 3 rests gains, claims and equivalence on the exact interval; 4
decides nothing that was preregistered before its last replicate."""
LEAST_REPLICATES = 3
"""Below this there is no prediction interval to judge a level by."""
WIDEST = 5.0
"""A prediction interval wider than this to either side (points) is no test of a level."""


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
UNBOUNDED = f"fewer than {replicates_needed()} replicates: the exact interval is unbounded"

LEVEL_RULES: tuple[tuple[str, str], ...] = (
    (INCONCLUSIVE, FEW),
    (REPRODUCED, "the exact 90% interval of our mean lies within the margin of the printed value"),
    (NOT_REPRODUCED, "printed value outside our 95% prediction interval"),
    (INCONCLUSIVE, WIDE),
    (REPRODUCED, "printed value inside our 95% prediction interval"),
)
"""The rules for a printed accuracy; the first that holds gives the verdict."""


def level_verdict(
    printed: float, prediction: Interval, equivalent: bool, why_not: str | None = None
) -> Verdict:
    """Verdict on an accuracy (percent) that the paper prints.

    Args:
        printed: the printed accuracy.
        prediction: our 95% prediction interval for a mean of as many runs as the paper's.
        equivalent: whether our mean and the printed one are shown to be within the margin.
        why_not: the reason if the two are not comparable.
    """
    if why_not is not None:
        return Verdict(NOT_COMPARABLE, why_not)
    few = prediction.n < LEAST_REPLICATES or not prediction.defined
    held = (
        few,
        equivalent,
        not prediction.low <= printed <= prediction.high,
        prediction.high - prediction.low > 2 * WIDEST,
        True,
    )
    return Verdict(*LEVEL_RULES[held.index(True)])


GAIN_RULES: tuple[tuple[str, str], ...] = (
    (INCONCLUSIVE, UNBOUNDED),
    (REPRODUCED, "the exact 90% interval of our gain lies within the margin of the printed one"),
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
    printed: float, ours: Interval, equivalent: bool, why_not: str | None = None
) -> Verdict:
    """Verdict on a gain (points) that the paper prints, from our exact 95% interval of the gain.

    ``equivalent`` says whether our gain and the printed one are shown to be within the margin.
    """
    if why_not is not None:
        return Verdict(NOT_COMPARABLE, why_not)
    inside, side, asked = ours.low <= printed <= ours.high, ours.side, np.sign(printed)
    held = (
        not ours.defined,
        equivalent,
        inside and side != 0,
        inside,
        side != 0 and side == asked,
        side != 0 and side == -asked,
        True,
    )
    return Verdict(*GAIN_RULES[held.index(True)])


HOLDS = "holds"
FAILS = "fails"
UNDECIDED = "undecided"

CLAIM_RULES: tuple[tuple[str, str], ...] = (
    (UNDECIDED, "the profile does not have what the claim is about"),
    (UNDECIDED, "preregistered, and not all its replicates are there"),
    (UNDECIDED, UNBOUNDED),
    (UNDECIDED, "preregistered, and Holm's p is above .05 though the interval excludes 0"),
    (HOLDS, "the exact 95% interval lies on the claim's side of 0"),
    (FAILS, "the exact 95% interval lies on the other side of 0"),
    (UNDECIDED, "the exact 95% interval holds 0"),
)
"""The rules for claims; the first that holds gives the verdict."""


def claim_verdict(ours: Interval, confirmed: float | None = None, missing: str = "") -> Verdict:
    """Verdict on a claim, from the exact interval of a number that is positive where it holds.

    Args:
        ours: the interval.
        confirmed: Holm's p over what the study preregistered, None where this was not.
        missing: what the profile lacks to test the claim, empty if it lacks nothing.
    """
    if missing:
        return Verdict(UNDECIDED, missing)
    if not ours.defined:
        return Verdict(UNDECIDED, f"{UNBOUNDED} (n = {ours.n})")
    if disagreement := _disagreement(ours, confirmed):
        return Verdict(UNDECIDED, disagreement)
    return Verdict(*CLAIM_RULES[{1: 4, -1: 5, 0: 6}[ours.side]])


def _disagreement(ours: Interval, confirmed: float | None) -> str:
    """How Holm's p over what was preregistered contradicts the interval; empty if it does not."""
    if confirmed is None or confirmed <= LEVEL or not ours.side:
        return ""
    return f"the exact 95% interval excludes 0, but Holm's p over the study is {p_text(confirmed)}"


def contrast_words(
    label: str, ours: Interval, confirmed: float | None = None, missing: str = ""
) -> str:
    """What a paired comparison shows, in words that rest on the exact 95% interval.

    ``confirmed`` is Holm's p over what the study preregistered, None where this was not;
    ``missing`` is what it lacks to be decided, empty if it lacks nothing.
    """
    first, _, second = label.partition(" - ")
    if not ours.n:
        return "no replicate has both runs"
    if not ours.defined:
        few = counted(ours.n, "replicate")
        return f"no statement: {few} cannot exclude anything, {replicates_needed()} can"
    if undecided := missing or _disagreement(ours, confirmed):
        return f"{UNDECIDED}: {undecided}"
    bounds = f"95% interval {ours.low:+.2f} to {ours.high:+.2f} points"
    if not ours.side:
        return f"no difference shown: {bounds} holds 0"
    return f"{first if ours.side > 0 else second} higher: {bounds}"
