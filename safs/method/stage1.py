"""Stage 1: one operator per slot, by late acceptance hill climbing (Section 4.2, Eq. 5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from safs import search as searches
from safs.rows import Candidate, Trained
from safs.search.base import Chromosome
from safs.settings import Fitness, Search


@dataclass(frozen=True)
class Searched:
    """What stage 1 found.

    Attributes:
        chromosome: the winner; the first candidate if every one failed.
        best: its row.
        rows: one per candidate, in the order of the search.
        seconds: what the candidates' trainings took.
    """

    chromosome: Chromosome
    best: int | None
    rows: tuple[Candidate, ...]
    seconds: float


def stage1(
    spec: Search, default: Chromosome, seed: int, train: Callable[[Chromosome], Trained]
) -> Searched:
    """Search one operator per slot, alpha = beta = 1, by a candidate's fitness (Eq. 5).

    Args:
        spec: algorithm, budget, candidates and fitness.
        default: the network's own operators, one per slot.
        seed: of the search.
        train: trains a chromosome from the pruned checkpoint with the dense recipe.
    """
    own = {"history_length": spec.history} if spec.algorithm == "lahc" else {}
    search = searches.make(
        spec.algorithm, len(default), spec.operators, spec.moves, seed,
        start="random" if spec.start == "random" else default, **own,
    )  # fmt: skip
    seen: list[Trained] = []

    def energy(index: int, chromosome: Chromosome) -> float:
        seen.append(train(chromosome))
        return fitness(seen[-1], spec.fitness)

    evaluations = searches.run(search, energy, spec.evaluations)
    best, chromosome, _ = search.best
    rows = tuple(candidate(*both) for both in zip(evaluations, seen, strict=True))
    return Searched(chromosome, best, rows, sum(result.seconds for result in seen))


def fitness(result: Trained, of: Fitness) -> float:
    """What stage 1 minimises; infinite for a failed training."""
    if result.failure is not None:
        return math.inf
    if of == "best_validation_error":
        return 1 - max(float(entry["validation_accuracy"] or 0) for entry in result.history)
    last = result.history[-1]
    if of == "validation_error":
        return 1 - float(last["validation_accuracy"] or 0)
    value = last["train_loss" if of == "training_loss" else of]
    return math.inf if value is None else float(value)


def candidate(
    evaluation: searches.Evaluation, result: Trained, energy: float | None = None
) -> Candidate:
    """The row of a candidate; ``energy`` if it is not the one that the walk was told."""
    energy = evaluation.energy if energy is None else energy
    return Candidate(
        index=evaluation.index,
        chromosome=evaluation.chromosome,
        energy=energy if math.isfinite(energy) else None,
        accepted=evaluation.accepted,
        **result.ended(),
    )
