"""The landscape of stage 1: every chromosome of some operators, trained as a candidate is.

Beside it stands what zero-cost predictors say of them, and the spectra that a regression learns
from: :mod:`pipelines.results.promises`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.landscape.space import ORDERS, Space
from bench.landscape.table import Begun, Landscape
from pipelines.config.study import Study
from pipelines.engine import recorded
from pipelines.engine.starts import PrunedStart
from pipelines.engine.work import Work
from pipelines.results import landscapes, promises
from pipelines.results.recomputed import job, train_rows
from pipelines.storage import layout, sources
from pipelines.storage.scratch import Journal
from pipelines.tasks.landscape import candidates
from pipelines.tasks.prediction import predict
from safs.errors import SafsError
from safs.sealed import Json, digest

PART = 96
"""Trainings of one task, which a kill loses."""
CHECKED = 8
"""Rows of a published replicate that are trained again before the others stand."""


def run(study: Study, pair: str) -> None:
    """The landscape in every cell of a pair that the profile names; nothing where it names none."""
    layout.folder(study.profile.profile, "landscape", pair).mkdir(parents=True, exist_ok=True)
    for ratio in study.profile.ratios(pair):
        if study.profile.landscape(pair, ratio):
            cell(study, pair, ratio)


class Part(NamedTuple):
    """Chromosomes, by their numbers, of a replicate under one batch order."""

    replicate: int
    order: int
    indices: tuple[int, ...]


def cell(study: Study, pair: str, ratio: float) -> None:
    """The trainings of a cell: ``rows-<digest>-r<replicate>``, operator by operator."""
    epochs = study.pairs[pair].search.epochs
    with Work(study, "landscape", pair, ratio) as work:
        starts = {replicate: work.start(replicate) for replicate in work.replicates}
        if not starts:
            return
        space = landscapes.space(study, pair, next(iter(starts.values())).slots)
        before = landscapes.going_on(study, pair, ratio)
        known = {r: keep(work, before, r, start) for r, start in starts.items()}
        shells = [
            [part for r in starts for part in _parts(study, space, r, shell, known[r])]
            for shell in space.shells(study.profile.landscape(pair, ratio))
        ]
        total = landscapes.trainings(study, space, pair, ratio)
        left = sum(len(part.indices) for parts in shells for part in parts)
        work.progress.expect(work.progress.done + epochs * total)
        work.progress.finished("published", epochs * (total - left), kept=True)
        for parts in shells:
            work.each(
                lambda part: train(work, space, starts[part.replicate], part),
                [(part,) for part in parts],
            )
        work.each(
            lambda replicate, start: describe(work, space, before, replicate, start),
            starts.items(),
        )


def keep(
    work: Work, before: Landscape | None, replicate: int, start: PrunedStart
) -> frozenset[tuple[int, int]]:
    """The trainings of a replicate, by order and chromosome, that a published table stands for.

    It stands for those that start from the same network and mask, by the same protocol, recipe and
    images, if some of them, chosen anew each time, come out as it says when they are trained here.

    Raises:
        SafsError: one comes out otherwise.
    """
    study, pair = work.study, work.pair_name
    if before is None or not landscapes.fits(study, pair, before, replicate, start.inputs):
        return frozenset()
    table = landscapes.path(study, pair, before.meta.ratio)
    frame = before.frame[before.frame["replicate"] == replicate]
    some = frame.sample(min(CHECKED, len(frame))).index
    for found in train_rows(work, {replicate: start}, before, some):
        if not found.same:
            raise SafsError(f"{table}: {found.words}; move the table away to train all of it anew")
    recorded.tell(work.named(landscapes.note_of(replicate)), table)
    work.progress.notice(f"replicate {replicate}: {len(frame)} rows of the published table stand")
    return frozenset(zip(frame["order"].tolist(), frame["index"].tolist(), strict=True))


def train(work: Work, space: Space, start: PrunedStart, part: Part) -> None:
    """One part, as an artefact: what was trained, and the row of each."""
    if start.failure is not None:
        raise SafsError(f"replicate {part.replicate} has no checkpoint: {start.failure}")
    spec = work.pair.search
    chromosomes = [space.chromosome(index) for index in part.indices]
    jobs = [job(work, start, part.replicate, part.order, each) for each in chromosomes]
    identity = digest([each.identity for each in jobs])

    def make(place: Path) -> Json:
        files = start.files().model_copy(update={"folder": place})
        arguments = (chromosomes, landscapes.marks(spec.epochs), work.pool.topic, identity)
        rows = work.run(candidates, jobs[0], files, *arguments)
        work.progress.finished(identity, len(jobs) * spec.epochs)
        head = {"order": part.order, "indices": list(part.indices), "inputs": start.inputs}
        ran = {"code": jobs[0].code, "bits": work.worker.bits, "slots": list(start.slots),
               "marks": list(landscapes.marks(spec.epochs))}  # fmt: skip
        return head | ran | {"rows": rows}

    name = f"rows-{identity[:16]}-r{part.replicate}"
    work.keep(name, identity, make, len(jobs) * spec.epochs)


def describe(
    work: Work, space: Space, before: Landscape | None, replicate: int, start: PrunedStart
) -> None:
    """``predictors-r<replicate>``: what is said of chromosomes without training them.

    Where rows of the published table may stand, what is published beside it does too.
    """
    study, pair, ratio = work.study, work.pair_name, work.ratio
    if ratio is None or start.failure is not None:
        return
    inputs = Begun(**start.inputs)
    said = {each.replicate: each for each in promises.published(study, pair, ratio) if before}
    if replicate in said and promises.holds(study, pair, ratio, said[replicate], space, inputs):
        return
    indices = promises.asked(study, pair, ratio, space, replicate)
    chromosomes = [space.chromosome(index) for index in indices]
    names, first = list(sources.names("predictor")), job(work, start, replicate, 0, chromosomes[0])

    def ask(journal: Journal, part: list[tuple[str, ...]]) -> Json:
        key = digest(part)
        if (told := journal.get(key)) is None:
            images = work.pair.fast.images
            told = work.run(predict, first, start.files(), part, names, images, True)
            with work.lock:
                journal.add(key, told)
        return told

    def make(place: Path) -> Json:
        journal = Journal(place / "told.jsonl")
        parts = [(journal, chromosomes[k : k + PART]) for k in range(0, len(chromosomes), PART)]
        asking = f"asks {len(names)} predictors about {len(chromosomes):,} chromosomes"
        work.progress.notice(f"replicate {replicate}: {asking}")
        about = {"pair": pair, "ratio": ratio, "replicate": replicate, "starts": start.inputs}
        told = promises.content(work.each(ask, parts))
        return about | {"indices": " ".join(map(str, indices))} | told

    name = f"{promises.NAME}-r{replicate}"
    work.keep(name, promises.identity(study, pair, ratio, start.inputs, indices), make)


def _parts(
    study: Study,
    space: Space,
    replicate: int,
    shell: Sequence[int],
    known: frozenset[tuple[int, int]],
) -> Iterator[Part]:
    """What there is to train of some chromosomes of a replicate."""
    again = landscapes.again(study, space, replicate)
    for order in range(ORDERS):
        wanted = [i for i in shell if (not order or i in again) and (order, i) not in known]
        for rest in np.array_split(wanted, -(-len(wanted) // PART) or 1):
            if len(rest):
                yield Part(replicate, order, tuple(map(int, rest)))
