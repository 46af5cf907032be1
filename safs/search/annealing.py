"""Simulated annealing (SAFS, Figure 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from safs import exact
from safs.search.base import SEARCHES, Chromosome, Searcher, Start
from safs.search.moves import move


@SEARCHES.register("annealing")
class Annealing(Searcher):
    """Metropolis acceptance under a temperature that falls geometrically over the budget.

    Kirkpatrick, Gelatt, Vecchi, "Optimization by Simulated Annealing". The paper names no
    temperatures. Here they are fractions of the first finite energy E0, so that no scale of the
    fitness is presumed: from ``hottest`` E0 at the first move to ``coldest`` E0 at the last. At 0.1
    a candidate worse by a tenth of E0 is accepted with probability 1/e; at 0.001 the search is
    close to hill climbing. Moves are those of Late Acceptance.

    Args:
        hottest: first temperature over E0.
        coldest: last temperature over E0.
    """

    def __init__(
        self,
        slots: int,
        operators: Sequence[str],
        budget: int,
        seed: int,
        *,
        start: Start = "random",
        hottest: float = 0.1,
        coldest: float = 0.001,
    ) -> None:
        super().__init__(slots, operators, budget, seed, start=start)
        self.hottest, self.coldest = hottest, coldest
        self.scale: float | None = None
        self.current: tuple[Chromosome, float] = (self.start, math.inf)

    def temperature(self, number: int) -> float:
        """Temperature at move ``number`` (from 1), in units of E0."""
        cooled = min(1.0, (number - 1) / max(1, self.budget - 1))
        return self.hottest * exact.power(self.coldest / self.hottest, cooled)

    def _propose(self) -> Chromosome:
        return move(self.current[0], self.operators, self.rng)

    def _learn(self, chromosome: Chromosome, energy: float) -> bool:
        if self.scale is None and math.isfinite(energy):
            self.scale = abs(energy)
        accepted = self.told == 0 or self._accepts(energy)
        if accepted:
            self.current = (chromosome, energy)
        return accepted

    def _accepts(self, energy: float) -> bool:
        # Drawn at every move, whether used or not: later moves then depend on the energies through
        # the current solution only.
        chance = self.rng.random()
        if energy <= self.current[1]:
            return True
        warmth = self.temperature(self.told) * (self.scale or 0.0)
        return warmth > 0 and chance < float(exact.exp((self.current[1] - energy) / warmth))
