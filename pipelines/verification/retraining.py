"""``retrain``: a random sample of a profile's published trainings, done once more and compared.

The dense network and the mask that a training starts from are made first, where they are not in
``runs/``, and held to the published ones; the training itself is done anew in any case, and nothing
of it is kept. The test images are not opened: equal weights say the same of them.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.records.archive import Replicate, Search
from bench.records.record import Record
from bench.render import ratio_text
from pipelines.config.study import Study
from pipelines.engine import trainings
from pipelines.engine.starts import PrunedStart, files
from pipelines.engine.work import Work
from pipelines.results import archiving
from pipelines.stages import fast, pretrain, prune
from pipelines.storage import artefacts, layout, repository
from pipelines.tasks.jobs import Job
from pipelines.verification import verifying
from safs.arms import ARMS, reports_trial
from safs.rows import TuneTrace
from safs.spec import Recipe

MakeJob = Callable[[Work, PrunedStart], Job]

TRAINING, DIED = "training", "died"
"""What :attr:`Redone.differs` says beside a link of the chain."""


@dataclass(frozen=True)
class Base:
    """What a training starts from.

    Attributes:
        study: the profile, or one of its readings.
        pair, ratio, replicate: where; a dense training has ratio 0.
        links: ``data``, ``dense`` and ``mask`` of the chain; None where there is none.
        portable: whether any machine gets its bits.
    """

    study: Study
    pair: str
    ratio: float
    replicate: int
    links: Mapping[str, str | None]
    portable: bool

    @classmethod
    def of(cls, study: Study, record: Record) -> Base:
        """That of the runs of a record, which has a chain."""
        assert record.chain is not None
        links = {name: getattr(record.chain, name) for name in ("data", "dense", "mask")}
        place = (record.pair, record.ratio, record.replicate)
        return cls(study, *place, links, bool(record.portable))


@dataclass(frozen=True)
class Drawn:
    """A published training.

    Attributes:
        base: what it starts from.
        name: which one, for people.
        said: its :data:`safs.rows.Outcome`.
        epochs: those that it has.
        job: makes its job; None is the dense training itself.
        weights: whether the digest of its weights is a part of the outcome.
    """

    base: Base
    name: str
    said: str
    epochs: int
    job: MakeJob | None
    weights: bool = False


@dataclass(frozen=True)
class Redone:
    """A published training, and what came of doing it once more.

    ``differs`` is the first link that is another here, ``data``, ``dense`` or ``mask``, else
    :data:`TRAINING`, or :data:`DIED` where its worker died; None where all is the same.
    """

    drawn: Drawn
    differs: str | None

    @property
    def same(self) -> bool:
        """Whether every bit came out as published."""
        return self.differs is None

    def row(self) -> dict[str, Any]:
        """Plain data."""
        base = self.drawn.base
        place = {"profile": base.study.profile.profile, "pair": base.pair, "ratio": base.ratio}
        which = {"replicate": base.replicate, "training": self.drawn.name}
        return place | which | {"portable": base.portable, "differs": self.differs}

    @property
    def words(self) -> str:
        """What came out, in a line."""
        base = self.drawn.base
        profile, ratio = base.study.profile.profile, ratio_text(base.ratio)
        where = f"{profile}: {base.pair} {ratio}, replicate {base.replicate}, {self.drawn.name}"
        if self.differs == DIED:
            return f"{where}: not done, its worker died; the workers' logs are in scratch/logs"
        ends = {None: "identical", TRAINING: "differs"}
        told = ends.get(self.differs, f"starts from something else: {self.differs} differs")
        hint = "" if base.portable else " (not portable: other processors have other bits)"
        return f"{where}: {told}" + (hint if self.differs else "")


def retrain(study: Study, sample: int, seed: int) -> list[Redone]:
    """Do a random sample of the published trainings of a profile and its readings once more.

    Args:
        study: the profile.
        sample: how many; all where there are fewer.
        seed: of the draw.

    Raises:
        verifying.NothingToCompare: today's protocol has published no training of it.
        SafsError: what is published is damaged.
    """
    verifying.published(study)
    every = [one for each in study.every for one in published_trainings(each)]
    if not every:
        raise verifying.NothingToCompare(f"{archiving.folder(study)}: no training of its own")
    drawn = random.Random(seed).sample(every, min(sample, len(every)))
    groups: dict[tuple[str, str], list[Drawn]] = {}
    for one in drawn:
        groups.setdefault((one.base.study.profile.profile, one.base.pair), []).append(one)
    return [done for group in groups.values() for done in _of_pair(group)]


def published_trainings(study: Study) -> Iterator[Drawn]:
    """Every training that a study's records tell of and that starts from its own checkpoint.

    Those of the cheap search go on from one another and are left out, as are landscapes, which have
    a command of their own.
    """
    for found in archiving.read(study, repository.committed):
        trained = [r for r in found.records if r.chain is not None and r.backend != "none"]
        bases = {record.ratio: Base.of(study, record) for record in trained}
        for record in trained:
            yield from _finals(Base.of(study, record), record)
        yield from _searched(bases, found)


def _searched(bases: Mapping[float, Base], found: Replicate) -> Iterator[Drawn]:
    for each in found.searches:
        if each.trace.ratio in bases and each.trace.algorithm != "halving":
            yield from _candidates(bases[each.trace.ratio], each)
    for tuning in found.tunings:
        if tuning.ratio in bases and tuning.arm != fast.ARM:
            yield from _trials(bases[tuning.ratio], tuning)


def _finals(base: Base, record: Record) -> Iterator[Drawn]:
    assert record.chain is not None
    pair = base.study.pairs[base.pair]
    for number, said in enumerate(record.chain.finals):
        if record.arm == "dense":
            epochs = pair.pretrain.epochs
            yield Drawn(base, "dense training", said, epochs, None, weights=True)
        else:
            name, epochs = f"final {number} of {ARMS[record.arm].label}", pair.finetune.epochs
            yield Drawn(base, name, said, epochs, partial(_final, record, number), weights=True)


def _final(record: Record, number: int, work: Work, start: PrunedStart) -> Job:
    assert record.recipe is not None
    operators = tuple(slot.operator for slot in record.slots)
    arguments = (record.arm, record.replicate, start, operators, record.recipe)
    if reports_trial(record.arm, work.study.profile.protocol):
        return trainings.selected(work, *arguments)
    return trainings.final(work, *arguments, number)


def _candidates(base: Base, searched: Search) -> Iterator[Drawn]:
    def job(genes: tuple[str, ...], work: Work, start: PrunedStart) -> Job:
        return trainings.candidate(work, base.replicate, start, work.pair.search, genes)

    for row in searched.trace.rows:
        if row.outcome is not None:
            name = f"candidate {row.index} of {searched.name}"
            yield Drawn(base, name, row.outcome, row.epochs, partial(job, row.chromosome))


def _trials(base: Base, tuning: TuneTrace) -> Iterator[Drawn]:
    def job(genes: tuple[str, ...], recipe: Recipe, work: Work, start: PrunedStart) -> Job:
        return trainings.trial(work, tuning.arm, base.replicate, start, genes, recipe)

    for row in tuning.rows:
        if row.outcome is not None and row.chromosome:
            name = f"trial {row.index} of {ARMS[tuning.arm].label}"
            make = partial(job, row.chromosome, row.config)
            yield Drawn(base, name, row.outcome, row.epochs, make)


def _of_pair(drawn: Sequence[Drawn]) -> list[Redone]:
    """Make what the drawn trainings of a pair start from, then do them."""
    study, pair = drawn[0].base.study, drawn[0].base.pair
    make_starts(study, pair, {(one.base.ratio, one.base.replicate) for one in drawn})
    again = Work(study, "pretrain", pair, title="retrain")
    again.progress.total = sum(one.epochs for one in drawn)
    with again.progress, again.pool:
        return again.each(partial(_once_more, again), [(one,) for one in drawn])


def make_starts(study: Study, pair: str, places: Collection[tuple[float, int]]) -> None:
    """Make what some (ratio, replicate) of a pair start from, where it is not in ``runs/``.

    Published records do not stand for it. Ratio 0 asks for the dense network alone.
    """
    replicates = sorted({replicate for _, replicate in places})
    dense = Work(study, "pretrain", pair)
    dense.progress.total = study.pairs[pair].pretrain.epochs * len(replicates)
    with dense.progress, dense.pool:
        dense.each(pretrain.dense, [(dense, replicate) for replicate in replicates])
    for ratio in sorted({ratio for ratio, _ in places} - {0.0}):
        masks = Work(study, "prune", pair, ratio)
        here = sorted(replicate for at, replicate in places if at == ratio)
        with masks.pool:
            masks.each(prune.mask, [(masks, replicate) for replicate in here])


def _once_more(work: Work, one: Drawn) -> Redone:
    """Hold what a training starts from to what is published; if it is the same, train."""
    dense = work.dense(one.base.replicate)
    if artefacts.died(artefacts.read(dense)):
        return Redone(one, DIED)
    job = trainings.dense(work, one.base.replicate)
    start = None
    if one.job is not None:
        start = work.start(one.base.replicate, one.base.ratio)
        job = one.job(work, start)
    here = _links(dense, start)
    for name, link in one.base.links.items():
        if link is not None and here[name] not in (None, link):
            return Redone(one, name)
    now = _outcome(work, one, job, start)
    if now is None:
        return Redone(one, DIED)
    return Redone(one, None if now == one.said else TRAINING)


def _links(dense: Path, start: PrunedStart | None) -> dict[str, str | None]:
    """What a training starts from here, as links of a chain; None where it is not known."""
    mask: str | None = start.inputs["mask"] if start else None
    fold = artefacts.read(dense).get("fold")
    return {"data": fold, "dense": artefacts.outcome(dense), "mask": mask and mask[:32]}


def _outcome(work: Work, one: Drawn, job: Job, start: PrunedStart | None) -> str | None:
    """What a training comes to, done in a folder that is removed; None if its worker died."""
    shared = start.files() if start else files()
    scratch = layout.SCRATCH.resolve()
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="retrain-") as folder:
        place = Path(folder) / "artefact.json"
        there = shared.model_copy(update={"folder": place.parent, "keep_weights": True})
        result = work.trained(job, there)
        work.progress.finished(job.identity, one.epochs)
        if artefacts.died(result.failure):
            return None
        if not one.weights:
            return result.outcome()
        artefacts.write(place, {"result": result.to_plain()}, job.identity)
        return artefacts.outcome(place)
