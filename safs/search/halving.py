"""The cheap search: Late Acceptance on the first rung of a successive halving.

Jamieson, Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization". A
search needs an answer to every candidate before it asks the next, so it walks on what the first
few epochs tell; the halving then trains the best further and decides. Costs are compared at the
same epoch only, under the schedule of a whole training: every acceptance of the walk stays a
comparison of like with like.

Nothing here knows what a candidate is or how it is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from safs.errors import SafsError
from safs.search.base import Chromosome, Start
from safs.search.lahc import LateAcceptance
from safs.search.moves import move

K = TypeVar("K", bound=Hashable)

_MOVES_PER_CANDIDATE = 20


def survivors(costs: Mapping[K, float], eta: int) -> list[K]:
    """The best ``n / eta`` of n candidates, rounded up, without those of infinite cost.

    Args:
        costs: all at the same rung, in the order in which they were asked; the earlier of two
            equal ones is the better.
        eta: 2 or more.
    """
    if eta < 2:
        raise SafsError(f"eta must be at least 2, got {eta}")
    ranked = sorted(costs, key=lambda candidate: costs[candidate])
    best = ranked[: math.ceil(len(ranked) / eta)]
    return [candidate for candidate in best if math.isfinite(costs[candidate])]


def halve(
    costs: Mapping[K, float], train: Callable[[K, int], float], rungs: Iterable[int], eta: int
) -> K | None:
    """The winner of a successive halving, or None if every candidate failed.

    Args:
        costs: of every candidate after the first rung.
        train: continues a candidate to an epoch; returns its cost there, infinite if it failed.
        rungs: the epochs of the further rungs, ascending.
        eta: of n candidates, n / eta go on to the next rung.
    """
    best = _best(costs)
    for epoch in rungs:
        costs = {candidate: train(candidate, epoch) for candidate in survivors(costs, eta)}
        best = best if _best(costs) is None else _best(costs)
    return best


def _best(costs: Mapping[K, float]) -> K | None:
    """The earliest of the cheapest candidates, or None if none is finite."""
    finite = {candidate: cost for candidate, cost in costs.items() if math.isfinite(cost)}
    return min(finite, key=lambda candidate: finite[candidate]) if finite else None


def planned(candidates: int, rungs: Sequence[int], eta: int) -> list[tuple[int, int]]:
    """(candidates, epochs added to each) rung by rung, if nothing fails."""
    steps, before = [], 0
    for epoch in rungs:
        steps.append((candidates, epoch - before))
        candidates, before = math.ceil(candidates / eta), epoch
    return steps


class ScreenedLateAcceptance(LateAcceptance):
    """Late Acceptance that never asks a chromosome twice and lets a predictor choose its moves.

    Each proposal is the most promising of ``screen`` different new moves from the current
    solution, the first among equals. Where a neighbourhood has no new ones left, chromosomes are
    drawn at random; :meth:`left` says how many there are at all.

    Args:
        screen: moves to choose from; 1 needs no predictor.
        predict: a number for each chromosome; larger is more promising.
    """

    def __init__(
        self,
        slots: int,
        operators: Sequence[str],
        budget: int,
        seed: int,
        *,
        start: Start = "random",
        history_length: int = 3,
        screen: int,
        predict: Callable[[Sequence[Chromosome]], Sequence[float]],
    ) -> None:
        super().__init__(slots, operators, budget, seed, start=start, history_length=history_length)
        if screen < 1:
            raise SafsError(f"screen must be at least 1, got {screen}")
        self.screen, self.predict = screen, predict
        self.seen: set[Chromosome] = set()

    def left(self) -> int:
        """Chromosomes that were not evaluated yet."""
        known = sum(set(chromosome) <= set(self.operators) for chromosome in self.seen)
        return len(self.operators) ** self.slots - known

    def _propose(self) -> Chromosome:
        new = self._new_moves()
        if len(new) == 1:
            return new[0]
        promise = self.predict(new)
        return new[max(range(len(new)), key=lambda i: (promise[i], -i))]

    def _learn(self, chromosome: Chromosome, energy: float) -> bool:
        self.seen.add(chromosome)
        return super()._learn(chromosome, energy)

    def _new_moves(self) -> list[Chromosome]:
        """Up to ``screen`` different new chromosomes, at least one."""
        if self.left() == 0:
            raise SafsError("every chromosome was evaluated")
        new: dict[Chromosome, None] = {}
        for _ in range(_MOVES_PER_CANDIDATE * self.screen):
            proposed = move(self.current[0], self.operators, self.rng)
            if proposed not in self.seen:
                new[proposed] = None
            if len(new) == self.screen:
                break
        while not new:
            proposed = self.random_chromosome()
            if proposed not in self.seen:
                new[proposed] = None
        return list(new)
