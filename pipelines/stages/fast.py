"""The cheap search (the paper's future work): the arm ``safs_fast``, ratio by ratio.

Both stages are successive halvings whose candidates continue where their last rung left them, and
each ratio starts from what was found at the next lower one. Nothing here changes the faithful
search; where that ran too, its candidates say how well the predictors rank.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Generic, Literal, TypeVar

from pipelines.config import PREDICTORS, Study
from pipelines.engine import layout, scratch, sources, tasks
from pipelines.engine.jobs import Job, Result
from pipelines.engine.scratch import Journal, Json, digest
from pipelines.engine.work import Start, Work, replicates, spent
from pipelines.plan import halvings, run_epochs
from pipelines.stages.search import energy
from pipelines.stages.tune import row
from safs import search as searches
from safs import seeds
from safs.search.base import Chromosome
from safs.search.halving import ScreenedLateAcceptance, halve
from safs.spec import Recipe
from safs.tuning_space import Tuner

ARM = "safs_fast"
K = TypeVar("K", bound=Hashable)


def run(study: Study, pair: str) -> None:
    """The arm at every ratio of a pair, ascending; nothing where the profile has not the arm."""
    layout.folder(study.profile.profile, "fast", pair).mkdir(parents=True, exist_ok=True)
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
    spec = study.pairs[pair]
    wanted = replicates(study) if ARM in study.profile.arms else ()
    with Work(study, "fast", pair, ratio, epochs=len(wanted) * run_epochs(spec, ARM)) as work:

        def one(replicate: int) -> None:
            start = work.start(replicate)
            chromosome, recipe = _below(work, replicate, below)
            found = search(work, replicate, start, chromosome)
            tuned = tune(work, replicate, start, found, recipe)
            work.final(ARM, replicate, start, found, tuned)
            rank(work, replicate, start)

        work.each(one, [(r,) for r in wanted])


def search(work: Work, replicate: int, start: Start, warm: Chromosome | None) -> Chromosome:
    """Stage 1: the chromosome that the halving leaves.

    Args:
        work, replicate, start: the cell's pruned checkpoint.
        warm: a chromosome to start from, or None to start as the faithful search does.
    """
    if start.failure is not None:
        return start.default
    spec, fast = work.pair.search, work.pair.fast
    first, *further = fast.epochs(spec.epochs)

    def job(chromosome: Chromosome, until: int) -> Job:
        return work.job(
            replicate,
            "search",
            work.pair.recipe,
            spec.epochs,
            until=until,
            validate_every=spec.fitness == "best_validation_error",
            chromosome=chromosome,
            train_own=work.study.profile.protocol.own_parameters == "both",
            **start.inputs,
        )

    def make(place: Path) -> Json:
        rungs = _Rungs(work, place, start, (first, *further), job)
        oracle = _Oracle(work, rungs.journal, start, job(start.default, first))

        def cost(chromosome: Chromosome, until: int) -> float:
            return energy(rungs.train(chromosome, until), spec)

        walk = ScreenedLateAcceptance(
            len(start.slots),
            spec.operators,
            spec.moves,
            seeds.integer(work.study.profile.seed, "search", replicate),
            start=warm or ("random" if spec.start == "random" else start.default),
            history_length=spec.history,
            screen=fast.screen,
            predict=oracle.promise,
        )
        count = min(spec.evaluations, walk.left())
        seen = searches.run(walk, lambda _, chromosome: cost(chromosome, first), count)
        costs = {evaluation.chromosome: evaluation.energy for evaluation in seen}
        best = halve(costs, cost, further, fast.eta) or start.default
        rungs.clear()
        return {
            "chromosome": list(best),
            "seconds": rungs.seconds + oracle.seconds,
            "trace": {
                "predictor_epochs": oracle.epochs,
                "evaluations": rungs.rows(lambda chromosome: {"chromosome": list(chromosome)}),
            },
        }

    settings = [spec.model_dump(mode="json"), fast.model_dump(mode="json"), warm]
    identity = digest([settings, job(start.default, first).identity, _code("predictors")])
    content = work.keep(f"{ARM}-search-r{replicate}", identity, make, _planned(work, "search"))
    return tuple(content["chromosome"])


def tune(
    work: Work, replicate: int, start: Start, operators: Chromosome, warm: Recipe | None
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
    first, *further = fast.epochs(spec.epochs)

    def job(recipe: Recipe, until: int) -> Job:
        return work.job(
            replicate,
            "tune",
            recipe,
            spec.epochs,
            until=until,
            validate_every=spec.objective == "best",
            chromosome=operators,
            **work.learned(ARM),
            **start.inputs,
        )

    def make(place: Path) -> Json:
        rungs = _Rungs(work, place, start, (first, *further), job)

        def cost(recipe: Recipe, until: int) -> float:
            trial = row(0, recipe, rungs.train(recipe, until), spec.objective)
            return float(trial["cost"]) if trial["status"] == "ok" else math.inf

        costs: dict[Recipe, float] = {}
        if warm is not None and warm != work.pair.recipe and spec.trials > 1:
            costs[warm] = cost(warm, first)
        seed = seeds.integer(work.study.profile.seed, "tune", replicate)
        tuner = Tuner(work.pair.recipe, spec.trials, seed, schedule_for=spec.schedule_for)
        while len(costs) < spec.trials:
            recipe = tuner.ask()
            # SMAC's initial design is that of every ratio, so it can hold the warm start.
            costs[recipe] = costs[recipe] if recipe in costs else cost(recipe, first)
            tuner.tell(recipe, costs[recipe], failed=math.isinf(costs[recipe]))
        best = halve(costs, cost, further, fast.eta)
        rungs.clear()
        return {
            "recipe": best and best.model_dump(mode="json"),
            "seconds": rungs.seconds,
            "trace": {
                "trials": rungs.rows(lambda recipe: {"config": recipe.model_dump(mode="json")})
            },
        }

    settings = [part and part.model_dump(mode="json") for part in (spec, fast, warm)]
    identity = digest([settings, job(work.pair.recipe, first).identity, _code("tuning_space")])
    content = work.keep(f"{ARM}-tune-r{replicate}", identity, make, _planned(work, "tune"))
    return Recipe(**content["recipe"]) if content["recipe"] else None


def rank(work: Work, replicate: int, start: Start) -> None:
    """Every predictor's score of the faithful search's candidates, beside their trained fitness.

    Nothing is trained, and nothing chosen by it; it counts in no arm's cost.
    """
    path = work.folder("search", work.ratio) / f"search-r{replicate}.json"
    if start.failure is not None or not path.exists():
        return
    rows = scratch.read_json(path)["trace"]["evaluations"]
    found = {tuple(e["chromosome"]): e["energy"] for e in rows if e["status"] == "ok"}
    names = list(sources.registered(PREDICTORS, "PREDICTORS.register"))
    images = work.pair.fast.images
    job = work.job(
        replicate,
        "search",
        work.pair.recipe,
        work.pair.search.epochs,
        chromosome=start.default,
        **start.inputs,
    )

    def make(place: Path) -> Json:
        told = work.pool.run(tasks.predict, job, start.files(), list(found), names, images)
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

    basis = [job.identity, images, [[*chromosome, e] for chromosome, e in found.items()]]
    work.keep(f"predictors-r{replicate}", digest([*basis, _code("predictors")]), make)


class _Rungs(Generic[K]):
    """Trains candidates rung by rung, each from where its last rung left it."""

    def __init__(
        self,
        work: Work,
        place: Path,
        start: Start,
        epochs: Sequence[int],
        job: Callable[[K, int], Job],
    ) -> None:
        self.work, self.start, self.epochs, self.job = work, start, tuple(epochs), job
        self.journal = Journal(place / "journal.jsonl")
        self.states = place / "states"
        self.results: dict[K, list[Result]] = {}

    def train(self, candidate: K, until: int) -> Result:
        """The result of a candidate's training to the end of a rung."""
        before = max((epoch for epoch in self.epochs if epoch < until), default=0)
        files = self.start.files().model_copy(
            update={
                "resume": self._state(candidate, before) if before else None,
                "state": self._state(candidate, until) if until < self.epochs[-1] else None,
            }
        )
        job = self.job(candidate, until)
        result = self.work.trial(self.journal, job, files, until - before)
        self.results.setdefault(candidate, []).append(result)
        return result

    @property
    def seconds(self) -> float:
        """Seconds of all trainings; a continued one knows those of its beginning."""
        return sum(max(r["seconds"] for r in every) for every in self.results.values())

    def rows(self, describe: Callable[[K], Json]) -> list[Json]:
        """Each candidate with the epochs spent on it, for the trace."""
        return [
            {
                "index": index,
                **describe(candidate),
                "epochs": max(spent(result) for result in every),
                "status": "failed" if every[-1]["failure"] else "ok",
                "reason": every[-1]["failure"],
            }
            for index, (candidate, every) in enumerate(self.results.items())
        ]

    def clear(self) -> None:
        """Remove the states: the halving is over."""
        shutil.rmtree(self.states, ignore_errors=True)

    def _state(self, candidate: K, until: int) -> Path:
        return (self.states / f"{self.job(candidate, until).identity[:32]}.pt").resolve()


class _Oracle:
    """A predictor's scores of chromosomes, from the journal where they stand there."""

    def __init__(self, work: Work, journal: Journal, start: Start, job: Job) -> None:
        self.work, self.journal, self.start, self.job = work, journal, start, job
        self.epochs, self.seconds = 0.0, 0.0

    def promise(self, chromosomes: Sequence[Chromosome]) -> list[float]:
        """The score of each chromosome; what it costs is added up."""
        fast = self.work.pair.fast
        key = digest(["predict", [list(chromosome) for chromosome in chromosomes]])
        told = self.journal.get(key)
        if told is None:
            told = self.work.pool.run(
                tasks.predict,
                self.job,
                self.start.files(),
                list(chromosomes),
                [fast.predictor],
                fast.images,
            )
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
    found, tuned = (scratch.read_json(path) for path in paths)
    recipe = tuned["recipe"]
    return tuple(found["chromosome"]), Recipe(**recipe) if recipe else None


def _planned(work: Work, stage: Literal["search", "tune"]) -> int:
    return sum(trainings * epochs for trainings, epochs in halvings(work.pair, stage))


def _code(module: str) -> str:
    """Fingerprint of the halving and of the module that makes or screens its candidates."""
    files = (sources.ROOT / "safs/search/halving.py", sources.ROOT / f"safs/{module}.py")
    return sources.fingerprint(frozenset().union(*(sources.closure(file) for file in files)))
