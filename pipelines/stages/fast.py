"""The cheap search (the paper's future work): the arm ``safs_fast``, ratio by ratio.

Both stages are successive halvings whose candidates continue where their last rung left them, and
each ratio starts from what was found at the next lower one. Nothing here changes the faithful
search; where that ran too, its candidates say how well the predictors rank.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.config.study import Study
from pipelines.engine import spending
from pipelines.engine.starts import PrunedStart
from pipelines.engine.trainings import candidate, train_finals, trial
from pipelines.engine.work import Work
from pipelines.stages import tune as stage2
from pipelines.storage import artefacts, sources
from pipelines.storage.scratch import Journal
from pipelines.storage.sources import Registered
from pipelines.tasks import prediction
from pipelines.tasks.jobs import Job
from safs import seeds
from safs.method.cheap import cheap_stage1, cheap_stage2
from safs.rows import SearchTrace, Trained, TuneTrace
from safs.sealed import Json, digest
from safs.search import Chromosome
from safs.spec import Recipe

ARM = "safs_fast"


def run(study: Study, pair: str) -> None:
    """The arm at every ratio of a pair, ascending; nothing where the profile has not the arm."""
    below: float | None = None
    for ratio in study.profile.ratios(pair):
        cell(study, pair, ratio, below)
        below = ratio


def cell(study: Study, pair: str, ratio: float, below: float | None) -> None:
    """``safs_fast-search-r<r>``, ``safs_fast-tune-r<r>``, ``safs_fast-r<r>``, ``predictors-r<r>``.

    Args:
        study, pair, ratio: the cell.
        below: the ratio to start from, or None.
    """
    epochs = spending.stage_epochs(study, study.pairs[pair], "fast")
    with Work(study, "fast", pair, ratio, epochs=epochs) as work:

        def one(replicate: int) -> None:
            start = work.start(replicate)
            chromosome, recipe = _below(work, replicate, below)
            found = search(work, replicate, start, chromosome)
            tuned = tune(work, replicate, start, found, recipe)
            train_finals(work, ARM, replicate, start, found, tuned)
            rank(work, replicate, start)

        work.each(one, [(r,) for r in work.replicates if ARM in study.profile.arms])


def search(work: Work, replicate: int, start: PrunedStart, warm: Chromosome | None) -> Chromosome:
    """Stage 1: the chromosome that the halving leaves.

    Args:
        work, replicate, start: the cell's pruned checkpoint.
        warm: a chromosome to start from, or None to start as the faithful search does.
    """
    if start.failure is not None:
        return start.default
    spec, fast = work.pair.search, work.pair.fast
    seed = seeds.integer(work.study.profile.seed, "search", replicate)
    shortest = fast.epochs(spec.epochs)[0]
    first = candidate(work, replicate, start, spec, start.default, shortest)

    def make(place: Path) -> Json:
        def job(chromosome: Chromosome, until: int) -> Job:
            return candidate(work, replicate, start, spec, chromosome, until)

        further = _Further(work, place, start, fast.epochs(spec.epochs))
        oracle = _Oracle(work, further.journal, start, first)
        found = cheap_stage1(
            spec, fast, start.default, seed,
            lambda genes, *between: further.train(lambda until: job(genes, until), *between),
            oracle.promise, warm,
        )  # fmt: skip
        further.clear()
        told = work.noted(
            found, replicate, SearchTrace, "evaluations", algorithm="halving", slots=start.slots,
            operators=spec.operators, predictor_epochs=oracle.epochs,
        )  # fmt: skip
        seconds = {"seconds": found.seconds + oracle.seconds}
        return {"chromosome": list(found.chromosome), **told, **seconds}

    used = [Registered("operator", name) for name in spec.operators]
    entries = [Registered("predictor", fast.predictor), Registered("search", "lahc"), *used]
    code = sources.of("safs/method/cheap.py", entries=entries)
    settings = [spec.model_dump(mode="json"), fast.model_dump(mode="json"), warm]
    identity = digest([settings, first.identity, code])
    planned = spending.epochs(spending.halvings(work.pair, "search"))
    content = work.keep(f"{ARM}-search-r{replicate}", identity, make, planned)
    return tuple(content["chromosome"])


def tune(
    work: Work, replicate: int, start: PrunedStart, operators: Chromosome, warm: Recipe | None
) -> Recipe | None:
    """Stage 2: the recipe that the halving leaves, or None if every trial failed.

    Args:
        work, replicate, start: the cell's pruned checkpoint.
        operators: the chromosome that stage 1 found.
        warm: a recipe to try before the dense one and those that SMAC3 proposes.
    """
    if start.failure is not None:
        return None
    spec, fast = work.pair.tune, work.pair.fast
    seed = seeds.integer(work.study.profile.seed, "tune", replicate)

    def job(recipe: Recipe, until: int) -> Job:
        return trial(work, ARM, replicate, start, operators, recipe, until)

    def make(place: Path) -> Json:
        further = _Further(work, place, start, fast.epochs(spec.epochs))
        found = cheap_stage2(
            spec, fast, work.pair.recipe, seed,
            lambda recipe, *between: further.train(lambda until: job(recipe, until), *between),
            operators, scaled=True, warm=warm,
        )  # fmt: skip
        further.clear()
        recipe = found.recipe and found.recipe.model_dump(mode="json")
        return {"recipe": recipe, **work.noted(found, replicate, TuneTrace, "trials", arm=ARM)}

    code = sources.of("safs/method/cheap.py", entries=stage2.ENTRIES)
    settings = [part and part.model_dump(mode="json") for part in (spec, fast, warm)]
    basis = job(work.pair.recipe, fast.epochs(spec.epochs)[0]).identity
    planned = spending.epochs(spending.halvings(work.pair, "tune"))
    content = work.keep(f"{ARM}-tune-r{replicate}", digest([settings, basis, code]), make, planned)
    return Recipe(**content["recipe"]) if content["recipe"] else None


def rank(work: Work, replicate: int, start: PrunedStart) -> None:
    """Every predictor's score of the faithful search's candidates, beside their trained fitness.

    Nothing is trained, and nothing chosen by it; it counts in no arm's cost.
    """
    path = work.folder("search", work.ratio) / f"search-r{replicate}.json"
    if start.failure is not None or not path.exists():
        return
    rows = artefacts.read(path)["trace"]["evaluations"]
    found = {tuple(e["chromosome"]): e["energy"] for e in rows if e["status"] == "ok"}
    names = list(sources.names("predictor"))
    images = work.pair.fast.images
    job = candidate(work, replicate, start, work.pair.search, start.default)

    def make(place: Path) -> Json:
        told = work.run(prediction.predict, job, start.files(), list(found), names, images)
        candidates = zip(found.items(), told["scores"], strict=True)
        return {
            "pair": work.pair_name,
            "ratio": work.ratio,
            "replicate": replicate,
            "candidates": [
                {"chromosome": list(chromosome), "energy": energy, "scores": scores}
                for (chromosome, energy), scores in candidates
            ],
        }

    used = {Registered("operator", name) for chromosome in found for name in chromosome}
    code = sources.of(entries=[*(Registered("predictor", name) for name in names), *used])
    basis = [job.identity, images, [[*chromosome, e] for chromosome, e in found.items()]]
    work.keep(f"predictors-r{replicate}", digest([*basis, code]), make)


class _Further:
    """Trains candidates further, each from the state that its last rung left on the disk."""

    def __init__(self, work: Work, place: Path, start: PrunedStart, rungs: Sequence[int]) -> None:
        self.work, self.start, self.rungs = work, start, rungs
        self.journal = Journal(place / "trainings.jsonl")
        self.states = place / "states"

    def train(self, job: Callable[[int], Job], before: int, until: int) -> Trained:
        """The result of a candidate's training from the epoch ``before`` to ``until``."""
        wanted, last = job(until), until == self.rungs[-1]
        resume = self._state(job(before)) if before else None
        states = {"resume": resume, "state": None if last else self._state(wanted)}
        files = self.start.files().model_copy(update=states)
        return self.work.trial(self.journal, wanted, files, until - before)

    def clear(self) -> None:
        """Remove the states: the halving is over."""
        shutil.rmtree(self.states, ignore_errors=True)

    def _state(self, job: Job) -> Path:
        return (self.states / f"{job.identity[:32]}.pt").resolve()


class _Oracle:
    """A predictor's scores of chromosomes, from the journal where they stand there."""

    def __init__(self, work: Work, journal: Journal, start: PrunedStart, job: Job) -> None:
        self.work, self.journal, self.start, self.job = work, journal, start, job
        self.epochs, self.seconds = 0.0, 0.0

    def promise(self, chromosomes: Sequence[Chromosome]) -> list[float]:
        """The score of each chromosome; what it costs is added up."""
        fast = self.work.pair.fast
        key = digest(["predict", [list(chromosome) for chromosome in chromosomes]])
        told = self.journal.get(key)
        if told is None:
            asked = (list(chromosomes), [fast.predictor], fast.images)
            told = self.work.run(prediction.predict, self.job, self.start.files(), *asked)
            self.journal.add(key, told)
        self.epochs += told["epochs"]
        self.seconds += told["seconds"]
        scores = [each[fast.predictor] for each in told["scores"]]
        return [-math.inf if score is None else score for score in scores]


def _below(
    work: Work, replicate: int, ratio: float | None
) -> tuple[Chromosome | None, Recipe | None]:
    """What the arm found at the next lower ratio, where a start from it is wanted."""
    if ratio is None or not work.pair.fast.warm_start:
        return None, None
    place = work.folder("fast", ratio)
    paths = [place / f"{ARM}-{stage}-r{replicate}.json" for stage in ("search", "tune")]
    if not all(path.exists() for path in paths):
        return None, None
    found, tuned = (artefacts.read(path) for path in paths)
    recipe = tuned["recipe"]
    return tuple(found["chromosome"]), Recipe(**recipe) if recipe else None
