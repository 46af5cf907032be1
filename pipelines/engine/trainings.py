"""The trainings of the method: each kind as a job, and the final ones of an arm as artefacts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.engine.starts import PrunedStart
from pipelines.engine.work import Work
from pipelines.storage import layout
from pipelines.tasks.jobs import Job
from safs.arms import ARMS, chromosome, finals
from safs.sealed import digest
from safs.spec import Recipe

if TYPE_CHECKING:
    from safs.search import Chromosome
    from safs.settings import Search


def dense(work: Work, replicate: int) -> Job:
    """The dense training of a replicate (Eq. 1)."""
    kept = {"validate_every": True, "keep": work.study.profile.protocol.reported_epoch}
    return work.job(replicate, "dense", work.pair.recipe, work.pair.pretrain.epochs, **kept)


def candidate(
    work: Work,
    replicate: int,
    start: PrunedStart,
    spec: Search,
    chromosome: Chromosome,
    until: int | None = None,
) -> Job:
    """The training of a candidate: the dense recipe, alpha = beta = 1."""
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


def selected(
    work: Work,
    arm: str,
    replicate: int,
    start: PrunedStart,
    operators: Chromosome,
    recipe: Recipe,
) -> Job:
    """The selected trial once more, for the weights that meet the test images."""
    job = trial(work, arm, replicate, start, operators, recipe)
    keep = "best_validation" if work.pair.tune.objective == "best" else "last"
    return job.model_copy(update={"keep": keep})


def trial(
    work: Work,
    arm: str,
    replicate: int,
    start: PrunedStart,
    operators: Chromosome,
    recipe: Recipe,
    until: int | None = None,
) -> Job:
    """The training of a trial of an arm."""
    spec = work.pair.tune
    return work.job(
        replicate,
        "tune",
        recipe,
        spec.epochs,
        until=until,
        validate_every=spec.objective == "best",
        chromosome=operators,
        **learned(work, arm),
        **start.inputs,
    )


def final(
    work: Work,
    arm: str,
    replicate: int,
    start: PrunedStart,
    operators: Sequence[str],
    recipe: Recipe,
    number: int,
) -> Job:
    """One of the final trainings of an arm: the pruned checkpoint, for the dense epochs."""
    return work.job(
        replicate,
        "final",
        recipe,
        work.pair.finetune.epochs,
        validate_every=True,
        keep=work.study.profile.protocol.reported_epoch,
        chromosome=tuple(operators),
        final=number,
        **learned(work, arm),
        **start.inputs,
    )


def learned(work: Work, arm: str) -> dict[str, bool]:
    """Which activation parameters an arm learns, as fields of a job."""
    own, entry = work.study.profile.protocol.own_parameters, ARMS[arm]
    train_own = own == "both" or (own == "stage2" and entry.tuned)
    return {"scaled": entry.scaled, "train_own": train_own}


def train_finals(
    work: Work,
    arm: str,
    replicate: int,
    start: PrunedStart,
    operators: Sequence[str],
    recipe: Recipe | None,
) -> None:
    """Train an arm's finals as artefacts, ``<arm>-r<replicate>`` and those of other batch orders.

    Where there is nothing to train (no checkpoint, or no recipe because every trial failed)
    the artefacts say so, and they count as failed.
    """
    failure = start.failure or ("every trial failed" if recipe is None else None)

    def one(number: int) -> None:
        job = final(work, arm, replicate, start, operators, recipe or work.pair.recipe, number)
        name = layout.final_name(arm, number, replicate)
        if failure is None:
            work.train(name, job, start.files())
            return
        result = work.untrained(failure).to_plain()
        content = {"job": job.model_dump(mode="json"), "result": result}
        identity = digest([job.identity, failure])
        work.keep(name, identity, lambda place: content, job.epochs)

    work.each(one, [(n,) for n in range(finals(arm, work.study.profile.protocol))])


def train_untuned(work: Work, arms: Sequence[str]) -> None:
    """The finals of arms that neither search nor tune, in every replicate."""

    def one(arm: str, replicate: int) -> None:
        start = work.start(replicate)
        operators = chromosome(arm, start.default, work.study.profile.protocol)
        train_finals(work, arm, replicate, start, operators, work.pair.recipe)

    work.each(one, [(arm, r) for r in work.replicates for arm in arms])
