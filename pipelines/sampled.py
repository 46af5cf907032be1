"""``retrain``: a random sample of a profile's published trainings, done once more and compared.

The dense network and the mask that a training starts from are made first, where they are not in
``runs/``, and held to the published ones; the training itself is done anew in any case, and nothing
of it is kept. The test images are not opened: equal weights say the same of them.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.archive import Replicate, Search
from bench.record import Chain, Record
from bench.render import ratio_text
from pipelines import archiving, verifying
from pipelines.config.study import Study
from pipelines.engine import artefacts, environment, layout
from pipelines.engine.jobs import Job
from pipelines.engine.work import PrunedStart, Work, files
from pipelines.stages import fast, pretrain, prune, search, tune
from pipelines.tasks import training
from safs.arms import ARMS, reports_trial
from safs.rows import TuneTrace

MakeJob = Callable[[Work, PrunedStart | None], Job]


@dataclass(frozen=True)
class Published:
    """One published training.

    Attributes:
        study: the profile's, or a reading's.
        pair, ratio, replicate: where; a dense training has ratio 0.
        name: which one, for people.
        starts: what it starts from: the links ``data``, ``dense`` and ``mask`` of its chain.
        said: its :data:`safs.rows.Outcome`.
        weights: whether the outcome has the digest of the weights in it.
        job: makes its job from the workbench and the checkpoint that it starts from.
    """

    study: Study
    pair: str
    ratio: float
    replicate: int
    name: str
    starts: Mapping[str, str | None]
    said: str
    weights: bool
    job: MakeJob


@dataclass(frozen=True)
class Retrained:
    """A published training, and what came of doing it once more.

    ``differs`` is the first link that is another here: ``data``, ``dense``, ``mask`` or
    ``training``; None where all is the same.
    """

    training: Published
    differs: str | None

    def row(self) -> dict[str, Any]:
        """Plain data."""
        of = self.training
        place = {"profile": of.study.profile.profile, "pair": of.pair, "ratio": of.ratio}
        return place | {"replicate": of.replicate, "training": of.name, "differs": self.differs}

    @property
    def words(self) -> str:
        """What came out, in a line."""
        of = self.training
        where = f"{of.pair} {ratio_text(of.ratio)}, replicate {of.replicate}, {of.name}"
        if self.differs is None:
            return f"{where}: identical"
        if self.differs == "training":
            return f"{where}: differs"
        return f"{where}: starts from something else: {self.differs} differs"


def retrain(study: Study, sample: int, seed: int | None) -> list[Retrained]:
    """Do a random sample of the published trainings of a profile and its readings once more.

    Args:
        study: the profile.
        sample: how many; all where there are fewer.
        seed: of the draw; None draws another sample each time.

    Raises:
        SafsError: nothing is published by today's protocol, or what is published is damaged.
    """
    verifying.published(study)
    every = [one for each in (study, *study.readings.values()) for one in published(each)]
    drawn = random.Random(seed).sample(every, min(sample, len(every)))
    groups: dict[tuple[str, str], list[Published]] = {}
    for one in drawn:
        groups.setdefault((one.study.profile.profile, one.pair), []).append(one)
    return [done for group in groups.values() for done in _of_pair(group)]


def published(study: Study) -> Iterator[Published]:
    """Every training of a study that its records tell of and that starts from its own checkpoint.

    Those of the cheap search go on from one another and are left out, as are landscapes, which have
    a command of their own.
    """
    for found in archiving.read(study, environment.committed):
        chains = {record.ratio: record.chain for record in found.records if record.chain}
        for record in found.records:
            if record.chain is not None and record.backend != "none":
                yield from _finals(study, record, record.chain)
        for each in found.searches:
            if each.trace.ratio in chains and each.trace.algorithm != "halving":
                yield from _candidates(study, found, each, chains[each.trace.ratio])
        for tuning in found.tunings:
            if tuning.ratio in chains and tuning.arm != fast.ARM:
                yield from _trials(study, found, tuning, chains[tuning.ratio])


def _starts(chain: Chain) -> dict[str, str | None]:
    return {"data": chain.data, "dense": chain.dense, "mask": chain.mask}


def _finals(study: Study, record: Record, chain: Chain) -> Iterator[Published]:
    place = (study, record.pair, record.ratio, record.replicate)
    for number, said in enumerate(chain.finals):
        dense = record.arm == "dense"
        name = "dense training" if dense else f"final {number} of {ARMS[record.arm].label}"
        job: MakeJob = partial(_dense, record.replicate)
        if not dense:
            job = partial(_final, record, number)
        yield Published(*place, name, _starts(chain), said, True, job)


def _candidates(
    study: Study, found: Replicate, searched: Search, chain: Chain
) -> Iterator[Published]:
    place = (study, found.pair, searched.trace.ratio, found.replicate)
    for row in searched.trace.rows:
        if row.outcome is not None:
            name = f"candidate {row.index} of {searched.name}"
            job = partial(_candidate, found.replicate, row.chromosome)
            yield Published(*place, name, _starts(chain), row.outcome, False, job)


def _trials(study: Study, found: Replicate, tuning: TuneTrace, chain: Chain) -> Iterator[Published]:
    place = (study, found.pair, tuning.ratio, found.replicate)
    for row in tuning.rows:
        if row.outcome is not None and row.chromosome:
            name = f"trial {row.index} of {ARMS[tuning.arm].label}"
            job = partial(_trial, found.replicate, tuning.arm, row.chromosome, row.config)
            yield Published(*place, name, _starts(chain), row.outcome, False, job)


def _dense(replicate: int, work: Work, start: PrunedStart | None) -> Job:
    return pretrain.job(work, replicate)


def _final(record: Record, number: int, work: Work, start: PrunedStart) -> Job:
    operators = tuple(slot.operator for slot in record.slots)
    assert record.recipe is not None
    arguments = (record.arm, record.replicate, start, operators, record.recipe)
    if reports_trial(record.arm, work.study.profile.protocol):
        return tune.selected(work, *arguments)
    return work.final_job(*arguments, number)


def _candidate(replicate: int, chromosome: tuple[str, ...], work: Work, start: PrunedStart) -> Job:
    return search.candidate(work, replicate, start, work.pair.search, chromosome)


def _trial(
    replicate: int, arm: str, chromosome: tuple[str, ...], recipe: Any, work: Work,
    start: PrunedStart,
) -> Job:  # fmt: skip
    return tune.trial(work, arm, replicate, start, chromosome, recipe)


def _of_pair(drawn: Sequence[Published]) -> list[Retrained]:
    """Make what the drawn trainings of a pair start from, then do them."""
    study, pair = drawn[0].study, drawn[0].pair
    replicates = sorted({one.replicate for one in drawn})
    total = len(replicates) * study.pairs[pair].pretrain.epochs
    first = Work(study, "pretrain", pair, epochs=total)
    with first.progress, first.pool:
        first.each(pretrain.dense, [(first, r) for r in replicates])
        found = _again(first, [one for one in drawn if not one.ratio])
    for ratio in sorted({one.ratio for one in drawn} - {0.0}):
        here = [one for one in drawn if one.ratio == ratio]
        work = Work(study, "prune", pair, ratio)
        with work.pool:
            work.each(prune.mask, [(work, r) for r in sorted({one.replicate for one in here})])
            found += _again(work, here)
    return found


def _again(work: Work, drawn: Sequence[Published]) -> list[Retrained]:
    return work.each(partial(_once_more, work), [(one,) for one in drawn])


def _once_more(work: Work, one: Published) -> Retrained:
    """Hold what a training starts from to what is published; if it is the same, train."""
    start = work.start(one.replicate) if one.ratio else None
    here = _links(work, one.replicate, start)
    for name, link in one.starts.items():
        if link is not None and here[name] != link:
            return Retrained(one, name)
    same = _outcome(work, one, start) == one.said
    return Retrained(one, None if same else "training")


def _links(work: Work, replicate: int, start: PrunedStart | None) -> dict[str, str | None]:
    """What a training of a replicate starts from here, as links of a chain."""
    dense = work.folder("pretrain", None) / f"dense-r{replicate}.json"
    mask = start and start.inputs["mask"]
    told = artefacts.read(dense)["fold"], artefacts.outcome(dense), mask and mask[:32]
    return dict(zip(("data", "dense", "mask"), told, strict=True))


def _outcome(work: Work, one: Published, start: PrunedStart | None) -> str:
    """What a training comes to, done in a folder that is removed."""
    job, shared = one.job(work, start), start.files() if start else files()
    scratch = layout.SCRATCH.resolve()
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="retrain-") as folder:
        place = Path(folder) / "artefact.json"
        there = shared.model_copy(update={"folder": place.parent, "keep_weights": True})
        result = work.run(training.train, job, there, work.pool.topic)
        if not one.weights:
            return result.outcome()
        artefacts.write(place, {"result": result.to_plain()}, job.identity)
        return artefacts.outcome(place)
