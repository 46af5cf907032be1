"""Late Acceptance Hill Climbing, the search of SAFS's stage 1 (section 4.2, Table 4)."""

from __future__ import annotations

from collections.abc import Sequence

from safs.errors import SafsError
from safs.search.base import SEARCHES, Chromosome, Searcher, Start
from safs.search.moves import move


@SEARCHES.register("lahc")
class LateAcceptance(Searcher):
    """Accept what is no worse than now, or better than some moves ago.

    Burke, Bykov, "The Late Acceptance Hill-Climbing Heuristic" (2017). The history holds ``L``
    energies, at first all that of the start. At move ``i``, with ``v = i mod L``, a candidate is
    accepted if its energy is below ``history[v]`` or not above the current one; then ``history[v]``
    is lowered to the current energy where that is less, and never raised.

    Args:
        history_length: L; Table 4 has 3.
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
    ) -> None:
        super().__init__(slots, operators, budget, seed, start=start)
        if history_length < 1:
            raise SafsError(f"history_length must be at least 1, got {history_length}")
        self.history_length = history_length
        self.history: list[float] = []
        self.current: tuple[Chromosome, float] = (self.start, float("inf"))

    def _propose(self) -> Chromosome:
        return move(self.current[0], self.operators, self.rng)

    def _learn(self, chromosome: Chromosome, energy: float) -> bool:
        if self.told == 0:
            self.current = (chromosome, energy)
            self.history = [energy] * self.history_length
            return True
        v = (self.told - 1) % self.history_length
        accepted = energy < self.history[v] or energy <= self.current[1]
        if accepted:
            self.current = (chromosome, energy)
        self.history[v] = min(self.history[v], self.current[1])
        return accepted
