"""Which labs may be pooled, what they say together, and whether they agree.

A lab's effect is its mean paired difference over replicates, in percentage points. The variance of
a replicate belongs to the experiment, which is the same in every lab that may be pooled, so one
within-lab variance is estimated from all of them: with three replicates a lab, weights from each
lab's own variance give a "95%" interval that covers the truth in 88% of cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from scipy import stats as scipy_stats
from statsmodels.stats.meta_analysis import combine_effects

from bench import stats
from bench.contrasts import Contrast, contrasts_of
from bench.labs.file import LabFile
from bench.labs.summary import differences
from bench.records import identity
from bench.records.chains import Links
from bench.records.record import Record
from bench.stats import Array, Interval
from bench.verdicts import Verdict

LEAST_LABS = 3
"""Below this there is no verdict."""
RULES_VERSION = 1

IDENTICAL = "identical"
CONSISTENT = "consistent"
DEVIATING = "deviating"
INCOMPARABLE = "incomparable"
NO_VERDICT = "no verdict"

RULES: tuple[tuple[str, str], ...] = (
    (INCOMPARABLE, "no other lab may be pooled with the first one"),
    (IDENTICAL, "every lab that may be pooled has the same result image by image"),
    (NO_VERDICT, f"fewer than {LEAST_LABS} labs with results of their own, or no spread in them"),
    (DEVIATING, "the 95% interval of I-squared lies above 0: labs differ by more than replicates"),
    (CONSISTENT, "the 95% interval of I-squared holds 0: no difference between labs is shown"),
)
"""The first rule that holds; with fewer than three labs no rule is asked."""


class Pooled(NamedTuple):
    """Random-effects mean (Hartung-Knapp interval), spread between labs, I-squared in percent."""

    effect: Interval
    tau: float
    i2: Interval


class LabEffect(NamedTuple):
    """One lab's part in a comparison.

    ``without`` pools the others; ``why_not`` says why the lab is not pooled, empty if it is.
    """

    lab: str
    own: Interval
    without: Interval
    why_not: str = ""


@dataclass(frozen=True)
class Question:
    """One contrast on one (pair, ratio), in every lab."""

    contrast: Contrast
    pair: str
    ratio: float
    labs: Sequence[LabEffect]
    pooled: Pooled
    verdict: Verdict

    @property
    def facts(self) -> dict[str, Any]:
        """What is asked, as every row about it begins."""
        return {"contrast": self.contrast.name, "pair": self.pair, "ratio": self.ratio}

    @property
    def counted(self) -> list[LabEffect]:
        """The labs that are pooled."""
        return [effect for effect in self.labs if not effect.why_not]


class Same(NamedTuple):
    """Of the trainings that a lab and the first one both have, how many are the same bit for bit.

    Both are 0 where a file tells of no trainings, and where the root seeds differ.
    """

    same: int = 0
    both: int = 0

    @property
    def text(self) -> str:
        """One or a few words; empty where nothing is told."""
        if not self.both:
            return ""
        return IDENTICAL if self.same == self.both else f"{self.same} of {self.both} {IDENTICAL}"


@dataclass(frozen=True)
class Answer:
    """All questions, what must be said beside them, and by lab what it shares with the first."""

    questions: Sequence[Question]
    notes: Sequence[str]
    same: Mapping[str, Same]


def pool(groups: Sequence[Array]) -> Pooled:
    """Pool labs, each with its differences by replicate (at least one).

    The interval is NaN with fewer than two labs or without any spread within labs. I-squared and
    its interval come from the F statistic between labs, which knows that the variance is estimated.
    """
    means = np.array([group.mean() for group in groups])
    sizes = np.array([group.size for group in groups])
    freedom = int(sizes.sum()) - len(groups)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    if len(groups) < 2 or not freedom or squares / freedom < stats.TINY:
        mean = float(means.mean()) if len(groups) else math.nan
        none = Interval(math.nan, math.nan, math.nan, len(groups))
        return Pooled(none._replace(mean=mean), math.nan, none)
    within = squares / freedom
    found = combine_effects(means, within / sizes, method_re="iterated", use_t=True)
    low, high = found.conf_int(use_t=True)[3]  # the Hartung-Knapp interval
    effect = Interval(float(found.mean_effect_re), float(low), float(high), len(groups))
    return Pooled(effect, math.sqrt(float(found.tau2)), _i2(float(found.q), len(groups), freedom))


def _i2(q: float, labs: int, freedom: int) -> Interval:
    """I-squared in percent with its 95% interval, from F = Q / (labs - 1)."""
    between = labs - 1
    limits = scipy_stats.f.ppf([0.025, 0.975], between, freedom)
    shares = [100 * max(0.0, float(1 - f * between / q)) if q > 0 else 0.0 for f in (1, *limits)]
    return Interval(shares[0], shares[2], shares[1], labs)


def compare(labs: Mapping[str, LabFile]) -> Answer:
    """Every contrast, pair and ratio that the first lab has, in all labs.

    The first lab is the reference: what may not be pooled with it is named and not pooled.
    """
    reference = next(iter(labs.values()))
    questions = [
        _question(labs, contrast, pair, ratio)
        for contrast in contrasts_of(reference.arms)
        for pair, about in reference.pairs.items()
        for ratio in about.ratios
    ]
    first, *others = labs
    same = {name: _same(labs[first], labs[name]) for name in others}
    return Answer(questions, _notes(labs, questions), same)


def _same(reference: LabFile, lab: LabFile) -> Same:
    sides = (
        [Links(record) for record in each.records if record.chain] for each in (reference, lab)
    )
    found = identity.compare(*sides)
    if not found.same and reference.seed != lab.seed:
        return Same()  # no training is the same one
    return Same(found.same, found.trainings - found.missing)


def _question(labs: Mapping[str, LabFile], contrast: Contrast, pair: str, ratio: float) -> Question:
    reference = next(iter(labs))
    values: dict[str, Array] = {}
    reasons: dict[str, str] = {}
    standing: dict[str, list[Record]] = {}
    for name, lab in labs.items():
        found = differences(lab.records, pair, ratio, contrast.a, contrast.b)
        values[name] = np.array(list(found.values()))
        reason = why_not(labs[reference], lab, pair, contrast)
        own = _compared(lab, pair, ratio, contrast)
        reason = reason or ("" if found else "no replicate has both results")
        reasons[name] = reason or _again(standing, own)
        if not reasons[name]:
            standing[name] = own
    counted = {name: values[name] for name in labs if not reasons[name]}
    effects = [
        LabEffect(name, stats.mean_interval(values[name]), _without(name, counted), reasons[name])
        for name in labs
    ]
    pooled = pool(list(counted.values()))
    return Question(contrast, pair, ratio, effects, pooled, verdict(effects, pooled))


def why_not(reference: LabFile, lab: LabFile, pair: str, contrast: Contrast) -> str:
    """Why ``lab`` may not be pooled with ``reference`` on ``pair``; empty if it may."""
    for what in ("protocol.version", "protocol.preset", "profile"):
        ours, theirs = map(attrgetter(what), (reference, lab))
        if ours != theirs:
            return f"{what.replace('.', ' ')} {theirs}, not {ours}"
    if pair not in lab.pairs:
        return f"no pair {pair}"
    missing = {contrast.a, contrast.b} - set(lab.arms)
    if missing:
        return f"no arm {', '.join(sorted(missing))}"
    if _data(reference, pair) != _data(lab, pair):
        return "other data checksum"
    ours_pair, theirs_pair = reference.pairs[pair], lab.pairs[pair]
    arms = (contrast.a, contrast.b)
    if any(ours_pair.budgets[arm] != theirs_pair.budgets[arm] for arm in arms):
        return "other budget"
    return "other parameters" if ours_pair.parameters != theirs_pair.parameters else ""


def _data(lab: LabFile, pair: str) -> dict[str, dict[str, str]]:
    """Checksums of the data set of a pair."""
    return {r.dataset: lab.data[r.dataset] for r in lab.records if r.pair == pair}


def _again(standing: Mapping[str, Sequence[Record]], own: Sequence[Record]) -> str:
    """Which lab that counts already has the same results or trainings, in words; empty if none."""
    for name, others in standing.items():
        if _images(others) == _images(own):
            return f"{IDENTICAL} to {name} image by image"
        if shared := len(_trainings(others) & _trainings(own)):
            return f"shares final trainings with {name}: {shared}"
    return ""


def _compared(lab: LabFile, pair: str, ratio: float, contrast: Contrast) -> list[Record]:
    """The runs of both arms."""
    arms = (contrast.a, contrast.b)
    return [r for r in lab.records if (r.pair, r.ratio) == (pair, ratio) and r.arm in arms]


def _images(records: Sequence[Record]) -> tuple[object, ...]:
    """Their results image by image."""
    rows = [
        (r.arm, r.replicate, tuple(f.test and f.test.correct for f in r.finals)) for r in records
    ]
    return tuple(sorted(rows, key=lambda row: row[:2]))


def _trainings(records: Sequence[Record]) -> set[str]:
    """The final trainings that did not fail, by the digests of their weights."""
    return {final.weights for r in records for final in r.finals if final.weights is not None}


def _without(name: str, counted: Mapping[str, Array]) -> Interval:
    """The pooled effect of all labs but one; not defined for a lab that is not pooled."""
    others = [values for other, values in counted.items() if other != name]
    if name not in counted or len(others) < 2:
        return Interval(math.nan, math.nan, math.nan, len(others))
    return pool(others).effect


def verdict(effects: Sequence[LabEffect], pooled: Pooled) -> Verdict:
    """The verdict on one question, with the rule that gave it; see :data:`RULES`."""
    rules = dict(RULES)
    same = [e for e in effects if e.why_not.startswith(IDENTICAL)]
    counted = [e for e in effects if not e.why_not]
    if len(effects) < LEAST_LABS:
        return Verdict(NO_VERDICT, f"{len(effects)} labs; a verdict needs {LEAST_LABS}")
    if len(counted) + len(same) < 2:
        return Verdict(INCOMPARABLE, rules[INCOMPARABLE])
    if len(counted) == 1 and len(same) >= LEAST_LABS - 1:
        return Verdict(IDENTICAL, rules[IDENTICAL])
    if len(counted) < LEAST_LABS or not pooled.i2.defined:
        return Verdict(NO_VERDICT, rules[NO_VERDICT])
    name = DEVIATING if pooled.i2.low > 0 else CONSISTENT
    return Verdict(name, rules[name])


def _notes(labs: Mapping[str, LabFile], questions: Sequence[Question]) -> list[str]:
    notes = []
    counted = {effect.lab for question in questions for effect in question.counted}
    if len(labs) < LEAST_LABS:
        notes.append(
            f"{len(labs)} labs: no verdict is given below {LEAST_LABS}, and an interval from two "
            "rests on one degree of freedom."
        )
    by_seed: dict[int, list[str]] = {}
    for name, lab in ((name, lab) for name, lab in labs.items() if name in counted):
        by_seed.setdefault(lab.seed, []).append(name)
    notes += [
        f"{' and '.join(names)} have the root seed {seed}: the same folds, initialisations and "
        "batches, so they are less independent than they are counted."
        for seed, names in by_seed.items()
        if len(names) > 1
    ]
    return notes + [f"{name}: {lab.lab.description}." for name, lab in labs.items()]
