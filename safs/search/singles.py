"""One operator everywhere: the control behind the arm ``best_single_hpo``."""

from __future__ import annotations

from safs.search.base import SEARCHES, Chromosome, Searcher


@SEARCHES.register("singles")
class Singles(Searcher):
    """Each candidate in every slot, in the order of the list; then from the beginning again.

    It takes no chances: seed and start are ignored, and only an improvement is accepted.
    """

    def ask(self) -> Chromosome:
        self._asked = self._propose()
        return self._asked

    def _propose(self) -> Chromosome:
        return (self.operators[self.told % len(self.operators)],) * self.slots

    def _learn(self, chromosome: Chromosome, energy: float) -> bool:
        return self.best[0] == self.told
