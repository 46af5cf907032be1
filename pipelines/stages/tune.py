"""Stage 2: learn alpha and beta while SMAC3 tunes the fine-tuning recipe (Eq. 6)."""

from __future__ import annotations

from pathlib import Path

from pipelines.config import Study
from pipelines.engine import layout, scratch, sources
from pipelines.engine.jobs import Job, Result
from pipelines.engine.scratch import Journal, Json, digest
from pipelines.engine.work import Start, Work, replicates, spent
from pipelines.plan import trials
from safs import seeds
from safs.arms import ARMS, chromosome
from safs.spec import Recipe
from safs.tuning_space import Tuner


def run(study: Study, pair: str, ratio: float) -> None:
    """Tune and train every tuned arm: ``<arm>-tune-r<replicate>`` and ``<arm>-r<replicate>``."""
    spec = study.pairs[pair]
    arms = [arm for arm in study.profile.arms if layout.trained_in(arm) == "tune"]
    total = sum(trials(spec, arm) * spec.tune.epochs + spec.finetune.epochs for arm in arms)
    with Work(study, "tune", pair, ratio, epochs=total * study.profile.replicates) as work:

        def one(arm: str, replicate: int) -> None:
            start = work.start(replicate)
            operators = _operators(work, arm, replicate, start)
            recipe = tune(work, arm, replicate, start, operators)
            work.final(arm, replicate, start, operators, recipe)

        work.each(one, [(arm, r) for r in replicates(study) for arm in arms])


def tune(
    work: Work, arm: str, replicate: int, start: Start, operators: tuple[str, ...]
) -> Recipe | None:
    """The best recipe of an arm, or None if every trial failed."""
    if start.failure is not None:
        return None
    spec, root = work.pair.tune, work.study.profile.seed
    count = trials(work.pair, arm)

    def job(recipe: Recipe) -> Job:
        return work.job(
            replicate,
            "tune",
            recipe,
            spec.epochs,
            validate_every=spec.objective == "best",
            chromosome=operators,
            **work.learned(arm),
            **start.inputs,
        )

    def make(place: Path) -> Json:
        journal = Journal(place / "journal.jsonl")
        seed = seeds.integer(root, "tune", replicate)
        tuner = Tuner(work.pair.recipe, count, seed, schedule_for=spec.schedule_for)
        rows: list[Json] = []
        seconds = 0.0
        for index in range(count):
            recipe = tuner.ask()
            result = work.trial(journal, job(recipe), start.files())
            seconds += result["seconds"]
            rows.append(row(index, recipe, result, spec.objective))
            tuner.tell(recipe, rows[-1]["cost"], failed=result["failure"] is not None)
        best = min(range(count), key=lambda index: (rows[index]["cost"], index))
        failed = rows[best]["status"] == "failed"
        return {
            "recipe": None if failed else rows[best]["config"],
            "seconds": seconds,
            "trace": {
                "schema": 1,
                "pair": work.pair_name,
                "ratio": work.ratio,
                "replicate": replicate,
                "method": arm,
                "best": None if failed else best,
                "trials": rows,
            },
        }

    code = sources.fingerprint(sources.closure(sources.ROOT / "safs/tuning_space.py"))
    settings = spec.model_dump(mode="json")
    identity = digest([settings, count, job(work.pair.recipe).identity, code])
    content = work.keep(f"{arm}-tune-r{replicate}", identity, make, count * spec.epochs)
    return Recipe(**content["recipe"]) if content["recipe"] else None


def row(index: int, recipe: Recipe, result: Result, objective: str) -> Json:
    """A trial as :class:`bench.traces.Trial` reads it; a crash costs 1."""
    if result["failure"] is None:
        measured = [entry["validation_accuracy"] for entry in result["history"]]
        accuracy = max(measured) if objective == "best" else measured[-1]
    else:
        accuracy = None
    return {
        "index": index,
        "config": recipe.model_dump(mode="json"),
        "cost": 1.0 if accuracy is None else 1.0 - accuracy,
        "validation_top1": accuracy,
        "epochs": spent(result),
        "status": "ok" if accuracy is not None else "failed",
        "reason": result["failure"],
    }


def _operators(work: Work, arm: str, replicate: int, start: Start) -> tuple[str, ...]:
    """The chromosome of an arm: fixed, random, or found by the search stage."""
    source = ARMS[arm].operators
    if source == "random":
        candidates = work.pair.search.operators
        rng = seeds.generator(work.study.profile.seed, "chromosome", replicate)
        return tuple(candidates[i] for i in rng.integers(len(candidates), size=len(start.slots)))
    artefact = layout.search_name(arm)
    if artefact is None:
        return chromosome(arm, start.default, work.study.profile.protocol)
    if start.failure is not None:
        return start.default
    stage = work.folder("search", work.ratio)
    found = scratch.read_json(stage / f"{artefact}-r{replicate}.json")["chromosome"]
    return tuple(found)
