"""Random search (SAFS, Figure 6)."""

from __future__ import annotations

from safs.search.base import SEARCHES, Chromosome, Searcher


@SEARCHES.register("random")
class RandomSearch(Searcher):
    """Independent uniform chromosomes; the best so far counts as the current solution."""

    def _propose(self) -> Chromosome:
        return self.random_chromosome()

    def _learn(self, chromosome: Chromosome, energy: float) -> bool:
        return self.best[0] == self.told
