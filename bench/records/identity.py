"""Whether two sets of runs are the same bit for bit, and if not, where they begin to differ.

What a run rests on is a chain of links: parameters, data, dense network, mask, candidates of
stage 1, trials of stage 2, final training, result on the test images. Arms share links, and what
comes after a link that differs may differ because of it. So each difference is told once, at the
first link of a chain, with the number of trainings that rest on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from bench.records.chains import Links, Reached
from bench.records.record import Record
from bench.words import counted
from safs.arms import ARMS, ordered

WORDS = {
    "parameters": "parameters differ",
    "data": "images, labels or partition differ",
    "dense": "dense network differs",
    "mask": "mask differs",
    "candidates": "candidate {} differs",
    "trials": "trial {} differs",
    "final": "final training {} differs",
    "test": "result of final {} on the test images differs",
}
"""The links of a chain, in its order, and what is said where they differ."""
TRAININGS = ("dense", "candidates", "trials", "final")
"""The links that are trainings."""
_TOLD_BY = {"candidates": "training_loss", "trials": "validation_accuracy"}
MOST = 12
"""People read about no more differences than this; the first one says the most."""
RAN = {"environment", "backend", "bits", "compiler", "portable"}
"""The fields of a record that say what a run ran on."""
_DECIDING = ("numpy", "smac", "torch")
"""The packages that may decide a result."""


@dataclass(frozen=True)
class Place:
    """A link, and what it belongs to: runs that share the place share the link.

    ``of`` is an arm, or what its operators come from where arms share a search.
    """

    link: str
    profile: str
    pair: str
    ratio: float | None = None
    replicate: int | None = None
    of: str | None = None
    index: int | None = None


@dataclass(frozen=True)
class Difference:
    """The first link at which some runs differ.

    Attributes:
        place: the link.
        arms: of these runs.
        here, published: what the training reached on either side; None where it is not there.
        ran_here, ran_published: records of the training, which say what it ran on.
        resting: trainings that rest on it.
    """

    place: Place
    arms: tuple[str, ...]
    here: Reached | None
    published: Reached | None
    ran_here: Record
    ran_published: Record
    resting: int

    @property
    def text(self) -> str:
        """The line in which people read it."""
        place = self.place
        _, reading, name = place.profile.rpartition("/")
        where = [place.pair] + [f"reading {name}"] * bool(reading)
        where += [] if place.ratio is None else [f"ratio {place.ratio:g}"]
        where += [] if place.replicate is None else [f"replicate {place.replicate}"]
        where += [" and ".join(self.arms)] * (place.of is not None)
        resting = [f"{counted(self.resting, 'training')} on top of it"] * bool(self.resting)
        told = "; ".join([*self._numbers(), *resting])
        what = WORDS[place.link].format(place.index)
        return f"{', '.join(where)}: {what}" + f": {told}" * bool(told)

    def _numbers(self) -> Iterator[str]:
        """What the training reached on either side, where anybody knows."""
        if self.here is None or self.published is None:
            return
        for name, ours, theirs in zip(Reached._fields, self.here, self.published, strict=True):
            words = name.replace("_", " ")
            if ours != theirs:
                a, b = _number(name, ours), _number(name, theirs)
                a, b = (a, b) if a != b else (repr(ours), repr(theirs))
                yield f"{words} {a} here, {b} published"
            elif ours is not None:
                yield f"{words} {_number(name, ours)} on both sides"

    def row(self) -> dict[str, Any]:
        """Plain data."""
        sides = {"here": self.here, "published": self.published}
        return {
            **asdict(self.place),
            "arms": list(self.arms),
            **{side: reached and reached._asdict() for side, reached in sides.items()},
            "ran_here": self.ran_here.model_dump(include=RAN),
            "ran_published": self.ran_published.model_dump(include=RAN),
            "resting": self.resting,
        }


@dataclass(frozen=True)
class Agreement:
    """How far two sets of runs agree.

    Attributes:
        trainings: distinct trainings that the published runs rest on.
        same: how many of them are the same here, bit for bit.
        missing: how many belong to runs that are not here.
        added: runs here that are not published.
        differences: where chains begin to differ, in the order of the links.
    """

    trainings: int
    same: int
    missing: int
    added: int
    differences: tuple[Difference, ...]

    @property
    def identical(self) -> bool:
        """Everything that is published is here, and the same."""
        return not self.differences and self.same == self.trainings

    @property
    def headline(self) -> str:
        """The line with the answer."""
        of = counted(self.trainings, "training")
        told = f"{self.same} of {of} identical to the published results"
        missing = f"; not here: {self.missing}" if self.missing else ""
        added = f"; here but not published: {counted(self.added, 'run')}" if self.added else ""
        return ("" if self.identical else "NOT IDENTICAL: ") + told + missing + added

    @property
    def lines(self) -> list[str]:
        """The answer, the first differences, and what each side ran on."""
        found = self.differences
        lines = [self.headline, *(difference.text for difference in found[:MOST])]
        lines += [f"and {len(found) - MOST} more, at links further on"] * (len(found) > MOST)
        for side in ("here", "published"):
            texts = dict.fromkeys(ran_on(getattr(d, f"ran_{side}")) for d in found)
            lines += [f"ran {side}: {text}" for text in texts]
        return lines

    def row(self) -> dict[str, Any]:
        """Plain data."""
        counts = {name: getattr(self, name) for name in ("trainings", "same", "missing", "added")}
        told = [difference.row() for difference in self.differences]
        return {"identical": self.identical, **counts, "differences": told}


def ran_on(run: Record) -> str:
    """What a run ran on, in a line: its environment, what trained, whether it is portable."""
    about = run.environment
    packages = [f"{name} {v}" for name, v in about.packages.items() if name in _DECIDING]
    portable = {True: ["portable"], False: ["not portable"], None: []}[run.portable]
    compiler = [run.compiler] if run.compiler else []
    isa = [run.bits["isa"]] if "isa" in run.bits else []
    parts = [about.cpu, *isa, *compiler, f"python {about.python}", *packages]
    return ", ".join([*parts, f"backend {run.backend}", *portable])


def compare(published: Sequence[Links], here: Sequence[Links]) -> Agreement:
    """Hold the runs of ``here`` to those of ``published`` with the same profile and key."""
    ours = {run.key: run for run in here}
    pairs = [(run, ours[run.key]) for run in published if run.key in ours]
    every = {place for run in published for place in links(run) if place.link in TRAININGS}
    same: dict[Place, bool] = {}
    begin: dict[Place, list[tuple[Links, Links]]] = {}
    for theirs, mine in pairs:
        differing = _differing(theirs, mine)
        other = set(differing)
        for place in links(theirs):
            if place in every:
                same[place] = same.get(place, True) and place not in other
        if differing:
            begin.setdefault(differing[0], []).append((theirs, mine))
    found = [_difference(place, runs) for place, runs in begin.items()]
    return Agreement(
        trainings=len(every),
        same=sum(same.values()),
        missing=len(every) - len(same),
        added=len(ours) - len(pairs),
        differences=tuple(sorted(found, key=lambda difference: _order(difference.place))),
    )


def links(run: Links) -> dict[Place, object]:
    """The chain of a run, in order: what stands at each place."""
    of, chain = run.record, run.chain
    block = partial(Place, profile=of.profile, pair=of.pair, replicate=of.replicate)
    cell = partial(block, ratio=of.ratio)
    found: dict[Place, object] = {
        Place("parameters", of.profile, of.pair): of.digests.parameters,
        block("data"): (of.digests.data, chain.data),
        block("dense"): chain.finals[0] if of.arm == "dense" else chain.dense,
    }
    if of.arm != "dense":
        found[cell("mask")] = chain.mask
        for name, whose in (("candidates", ARMS[of.arm].operators), ("trials", of.arm)):
            rows = enumerate(getattr(chain, name))
            found |= {cell(name, of=whose, index=index): link for index, link in rows}
        found |= {cell("final", of=of.arm, index=f): link for f, link in enumerate(chain.finals)}
    return found | {cell("test", of=of.arm, index=f): bits for f, bits in enumerate(run.correct)}


def _differing(theirs: Links, mine: Links) -> list[Place]:
    """The places at which two runs differ, in order."""
    a, b = links(theirs), links(mine)
    return sorted((place for place in a | b if a.get(place) != b.get(place)), key=_order)


def _order(place: Place) -> tuple[int, str, str, float, int, str, int]:
    """Links in their order, then pairs, ratios, replicates, arms and indices in theirs."""
    step, of = list(WORDS).index(place.link), place.of or ""
    cell = place.profile, place.pair, place.ratio or 0.0, place.replicate or 0
    return step, *cell, of, place.index or 0


def _difference(place: Place, runs: Sequence[tuple[Links, Links]]) -> Difference:
    every = {later for run, _ in runs for later in links(run) if later.link in TRAININGS}
    theirs, mine = next((pair for pair in runs if pair[0].record.arm == "dense"), runs[0])
    return Difference(
        place=place,
        arms=tuple(ordered(run.record.arm for run, _ in runs)),
        here=_reached(place, mine),
        published=_reached(place, theirs),
        ran_here=mine.record,
        ran_published=theirs.record,
        resting=sum(_order(later) > _order(place) for later in every),
    )


def _reached(place: Place, run: Links) -> Reached | None:
    """What the training at a place reached, as far as one of its runs knows."""
    if place.link in ("final", "test") or (place.link, run.record.arm) == ("dense", "dense"):
        known: Sequence[Reached] = run.reached
    elif name := _TOLD_BY.get(place.link):
        known = [Reached(**{name: reached}) for reached in getattr(run, place.link)]
    else:
        return None
    index = place.index or 0
    return known[index] if index < len(known) else None


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "none"
    return f"{100 * value:.6g} %" if name.endswith("accuracy") else f"{value:.6g}"
