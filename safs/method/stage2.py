"""Stage 2: alpha and beta are learned while SMAC3 tunes the recipe (Section 4.2, Eq. 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safs.rows import Trained, Trial
from safs.search.base import Chromosome
from safs.search.tuning_space import CRASH_COST, Tuner
from safs.settings import Objective, Tune
from safs.spec import Recipe


@dataclass(frozen=True)
class Tuned:
    """What stage 2 found; ``recipe`` and ``best`` are None if every trial failed.

    ``rows`` are the trials in their order, ``seconds`` what they took.
    """

    recipe: Recipe | None
    best: int | None
    rows: tuple[Trial, ...]
    seconds: float


def stage2(
    spec: Tune,
    dense: Recipe,
    seed: int,
    train: Callable[[Recipe], Trained],
    chromosome: Chromosome,
    *,
    scaled: bool,
) -> Tuned:
    """Learn alpha and beta while SMAC3 tunes the recipe by validation accuracy (Eq. 6).

    Args:
        spec: trials, objective and space.
        dense: the dense recipe, always trial 0.
        seed: of SMAC3.
        train: trains a recipe from the pruned checkpoint.
        chromosome, scaled: what is in the slots, and whether alpha and beta are learned.
    """
    tuner = Tuner(dense, spec.trials, seed, schedule_for=spec.schedule_for)
    rows: list[Trial] = []
    seconds = 0.0
    for index in range(spec.trials):
        recipe = tuner.ask()
        result = train(recipe)
        seconds += result.seconds
        rows.append(trial(index, recipe, result, spec.objective, chromosome, scaled=scaled))
        tuner.tell(recipe, rows[-1].cost, failed=result.failure is not None)
    best = cheapest(rows)
    return Tuned(None if best is None else rows[best].config, best, tuple(rows), seconds)


def trial(
    index: int,
    recipe: Recipe,
    result: Trained,
    objective: Objective,
    chromosome: Chromosome,
    *,
    scaled: bool = True,
) -> Trial:
    """The row of a trial; a failed one costs :data:`~safs.search.tuning_space.CRASH_COST`."""
    accuracy = None
    if result.failure is None:
        measured = [entry["validation_accuracy"] for entry in result.history]
        accuracy = (
            measured[-1] if objective == "last" else max(a for a in measured if a is not None)
        )
    return Trial(
        index=index,
        config=recipe,
        cost=CRASH_COST if accuracy is None else 1.0 - accuracy,
        validation_top1=accuracy,
        chromosome=chromosome,
        scaled=scaled,
        **result.ended(),
    )


def cheapest(rows: Sequence[Trial]) -> int | None:
    """The best of the trials that ended well, the earliest among equals."""
    ok = [row for row in rows if row.status == "ok"]
    return min(ok, key=lambda row: (row.cost, row.index)).index if ok else None
