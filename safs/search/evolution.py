"""Regularised evolution: a population in which the oldest dies, not the worst."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from safs.errors import SafsError
from safs.search.base import SEARCHES, Chromosome, Searcher, Start
from safs.search.moves import move


@SEARCHES.register("evolution")
class Evolution(Searcher):
    """The best of a few contestants has a child, which replaces the oldest of the population.

    Real, Aggarwal, Huang, Le, "Regularized Evolution for Image Classifier Architecture Search"
    (2019). The start and random chromosomes fill the population. Then contestants are drawn from it
    uniformly and with replacement, and the best of them, the first drawn among equals, is copied
    with one gene changed to another candidate. Their mutation that changes nothing is left out: a
    training repeats bit for bit, so it would tell nothing. The best so far counts as the current
    solution.

    Their 100 and 25 are for 20,000 models. With 5 and 3, 16 of the paper's 21 evaluations are
    children, the last of them of the fourth generation or later, and the best of the population is
    among the contestants every other time (1 - 0.8^3 = 0.49). Neither was tuned; on synthetic
    energies a tournament as large as the population ends a little lower.

    Args:
        population: how many of the latest chromosomes may become parents, at least 1.
        tournament: contestants for each child, from 1 (any becomes the parent) to ``population``.

    Raises:
        SafsError: an argument is outside of these.
    """

    def __init__(
        self,
        slots: int,
        operators: Sequence[str],
        budget: int,
        seed: int,
        *,
        start: Start = "random",
        population: int = 5,
        tournament: int = 3,
    ) -> None:
        super().__init__(slots, operators, budget, seed, start=start)
        if population < 1:
            raise SafsError(f"population must be at least 1, got {population}")
        if not 1 <= tournament <= population:
            raise SafsError(
                f"tournament must be from 1 to the population of {population}, got {tournament}"
            )
        self.tournament = tournament
        self.population: deque[tuple[Chromosome, float]] = deque(maxlen=population)

    def _propose(self) -> Chromosome:
        if self.told < (self.population.maxlen or 0):
            return self.random_chromosome()
        return self._mutated(self._parent())

    def _parent(self) -> Chromosome:
        drawn = self.rng.integers(len(self.population), size=self.tournament)
        return min((self.population[i] for i in drawn), key=lambda member: member[1])[0]

    def _mutated(self, parent: Chromosome) -> Chromosome:
        place = int(self.rng.integers(self.slots))
        return (
            *parent[:place],
            *move((parent[place],), self.operators, self.rng),  # a single gene is only changed
            *parent[place + 1 :],
        )

    def _learn(self, chromosome: Chromosome, energy: float) -> bool:
        self.population.append((chromosome, energy))
        return self.best[0] == self.told
