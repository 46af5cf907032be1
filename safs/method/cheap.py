"""The cheap search, the paper's future work: both stages by successive halving."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from safs import search as searches
from safs.method.stage1 import Searched, candidate, fitness
from safs.method.stage2 import Tuned, trial
from safs.rows import Trained
from safs.search.base import Chromosome
from safs.search.halving import ScreenedLateAcceptance, halve
from safs.search.tuning_space import Tuner
from safs.settings import Fast, Search, Tune
from safs.spec import Recipe

K = TypeVar("K", bound=Hashable)


def cheap_stage1(
    spec: Search,
    fast: Fast,
    default: Chromosome,
    seed: int,
    train: Callable[[Chromosome, int, int], Trained],
    predict: Callable[[Sequence[Chromosome]], Sequence[float]],
    warm: Chromosome | None = None,
) -> Searched:
    """Stage 1 by successive halving: a screened walk on the first rung, then the best further.

    Args:
        spec, default, seed: as in :func:`~safs.method.stage1.stage1`, with as many candidates.
        fast: rungs, halving and screening.
        train: ``(chromosome, before, until)`` trains to the epoch ``until``, going on from where
            the training to the epoch ``before`` ended (0: from the pruned checkpoint).
        predict: how promising chromosomes are, untrained; larger is better.
        warm: a chromosome to start from, or None to start as the search does.
    """
    rungs = _Rungs(fast.epochs(spec.epochs), train)

    def cost(chromosome: Chromosome, until: int) -> float:
        return fitness(rungs.train(chromosome, until), spec.fitness)

    walk = ScreenedLateAcceptance(
        len(default), spec.operators, spec.moves, seed,
        start=warm or ("random" if spec.start == "random" else default),
        history_length=spec.history, screen=fast.screen, predict=predict,
    )  # fmt: skip
    first, *further = rungs.epochs
    count = min(spec.evaluations, walk.left())
    seen = searches.run(walk, lambda _, chromosome: cost(chromosome, first), count)
    costs = {evaluation.chromosome: evaluation.energy for evaluation in seen}
    won = halve(costs, cost, further, fast.eta)
    rows = []
    for evaluation in seen:
        last = rungs.last[evaluation.chromosome]
        rows.append(candidate(evaluation, last, fitness(last, spec.fitness)))
    best = None if won is None else list(costs).index(won)
    return Searched(won or default, best, tuple(rows), rungs.seconds)


def cheap_stage2(
    spec: Tune,
    fast: Fast,
    dense: Recipe,
    seed: int,
    train: Callable[[Recipe, int, int], Trained],
    chromosome: Chromosome,
    *,
    scaled: bool,
    warm: Recipe | None = None,
) -> Tuned:
    """Stage 2 by successive halving of as many recipes as :func:`~safs.method.stage2.stage2` has.

    Args:
        spec, dense, seed, chromosome, scaled: as in :func:`~safs.method.stage2.stage2`.
        fast: rungs and halving.
        train: as in :func:`cheap_stage1`, for a recipe.
        warm: a recipe to try before the dense one and those that SMAC3 proposes.
    """
    rungs = _Rungs(fast.epochs(spec.epochs), train)

    def cost(recipe: Recipe, until: int) -> float:
        row = trial(0, recipe, rungs.train(recipe, until), spec.objective, chromosome)
        return row.cost if row.status == "ok" else math.inf

    first, *further = rungs.epochs
    costs: dict[Recipe, float] = {}
    if warm is not None and warm != dense and spec.trials > 1:
        costs[warm] = cost(warm, first)
    tuner = Tuner(dense, spec.trials, seed, schedule_for=spec.schedule_for)
    while len(costs) < spec.trials:
        recipe = tuner.ask()
        # SMAC's initial design is that of every ratio, so it can hold the warm start.
        costs[recipe] = costs[recipe] if recipe in costs else cost(recipe, first)
        tuner.tell(recipe, costs[recipe], failed=math.isinf(costs[recipe]))
    won = halve(costs, cost, further, fast.eta)
    rows = tuple(
        trial(index, recipe, result, spec.objective, chromosome, scaled=scaled)
        for index, (recipe, result) in enumerate(rungs.last.items())
    )
    best = None if won is None else list(rungs.last).index(won)
    return Tuned(won, best, rows, rungs.seconds)


@dataclass
class _Rungs(Generic[K]):
    """Trains candidates rung by rung and remembers each one's last result."""

    epochs: tuple[int, ...]
    further: Callable[[K, int, int], Trained]
    last: dict[K, Trained] = field(default_factory=dict)
    spent: dict[K, float] = field(default_factory=dict)

    def train(self, candidate: K, until: int) -> Trained:
        """The result of a candidate's training to the end of a rung."""
        before = max((epoch for epoch in self.epochs if epoch < until), default=0)
        result = self.last[candidate] = self.further(candidate, before, until)
        # A continued training counts its beginning; a failed one may not.
        self.spent[candidate] = max(self.spent.get(candidate, 0.0), result.seconds)
        return result

    @property
    def seconds(self) -> float:
        """Seconds of all trainings."""
        return sum(self.spent.values())
