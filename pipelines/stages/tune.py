"""Stage 2: learn alpha and beta while SMAC3 tunes the fine-tuning recipe (Eq. 6)."""

from __future__ import annotations

from pathlib import Path

from pipelines.config.study import Study
from pipelines.engine import spending
from pipelines.engine.starts import PrunedStart
from pipelines.engine.trainings import selected, train_finals, trial
from pipelines.engine.work import Work
from pipelines.storage import artefacts, layout, sources
from pipelines.storage.scratch import Journal
from pipelines.storage.sources import Registered
from safs import seeds
from safs.arms import ARMS, chromosome, reports_trial
from safs.method.stage2 import stage2
from safs.rows import Trained, TuneTrace
from safs.sealed import Json, digest
from safs.search import Chromosome
from safs.settings import OPTIMIZERS, SCHEDULES
from safs.spec import Recipe

ENTRIES = (
    *(Registered("optimizer", name) for name in OPTIMIZERS),
    *(Registered("schedule", name) for name in SCHEDULES),
)
"""What a recipe of stage 2 may name."""


def run(study: Study, pair: str, ratio: float) -> None:
    """Tune and train every tuned arm: ``<arm>-tune-r<replicate>`` and ``<arm>-r<replicate>``."""
    arms = [arm for arm in study.profile.arms if layout.trained_in(arm) == "tune"]
    epochs = spending.stage_epochs(study, study.pairs[pair], "tune")
    with Work(study, "tune", pair, ratio, epochs=epochs) as work:

        def one(arm: str, replicate: int) -> None:
            start = work.start(replicate)
            operators = _operators(work, arm, replicate, start)
            recipe = tune(work, arm, replicate, start, operators)
            if recipe is not None and reports_trial(arm, study.profile.protocol):
                job = selected(work, arm, replicate, start, operators, recipe)
                work.train(layout.final_name(arm, 0, replicate), job, start.files())
            else:
                train_finals(work, arm, replicate, start, operators, recipe)

        work.each(one, [(arm, r) for r in work.replicates for arm in arms])


def tune(
    work: Work, arm: str, replicate: int, start: PrunedStart, operators: Chromosome
) -> Recipe | None:
    """The best recipe of an arm, or None if every trial failed."""
    if start.failure is not None:
        return None
    count = spending.trials(work.pair, arm)
    spec = work.pair.tune.model_copy(update={"trials": count})
    seed = seeds.integer(work.study.profile.seed, "tune", replicate)

    def make(place: Path) -> Json:
        journal = Journal(place / "trainings.jsonl")

        def train(recipe: Recipe) -> Trained:
            job = trial(work, arm, replicate, start, operators, recipe)
            return work.trial(journal, job, start.files())

        scaled = ARMS[arm].scaled
        found = stage2(spec, work.pair.recipe, seed, train, operators, scaled=scaled)
        recipe = found.recipe and found.recipe.model_dump(mode="json")
        return {"recipe": recipe, **work.noted(found, replicate, TuneTrace, "trials", arm=arm)}

    code = sources.of("safs/method/stage2.py", entries=ENTRIES)
    basis = trial(work, arm, replicate, start, operators, work.pair.recipe).identity
    identity = digest([spec.model_dump(mode="json"), basis, code])
    content = work.keep(f"{arm}-tune-r{replicate}", identity, make, count * spec.epochs)
    return Recipe(**content["recipe"]) if content["recipe"] else None


def _operators(work: Work, arm: str, replicate: int, start: PrunedStart) -> Chromosome:
    """The chromosome of an arm: fixed, random, or found by the search stage."""
    source = ARMS[arm].operators
    if source == "random":
        candidates = work.pair.search.operators
        rng = seeds.generator(work.study.profile.seed, "chromosome", replicate)
        return tuple(candidates[i] for i in rng.integers(len(candidates), size=len(start.slots)))
    artefact = ARMS[arm].search
    if artefact is None:
        return chromosome(arm, start.default, work.study.profile.protocol)
    if start.failure is not None:
        return start.default
    stage = work.folder("search", work.ratio)
    found = artefacts.read(stage / f"{artefact}-r{replicate}.json")["chromosome"]
    return tuple(found)
