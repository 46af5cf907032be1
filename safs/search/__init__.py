"""Searches over chromosomes of operators: SAFS's stage 1 and what its Figure 6 compares it with."""

from safs.search import annealing, bayesian, lahc, random_search, singles  # noqa: F401  (they register)
from safs.search.base import SEARCHES, Best, Chromosome, Evaluation, Searcher, make, run

__all__ = ["SEARCHES", "Best", "Chromosome", "Evaluation", "Searcher", "make", "run"]
