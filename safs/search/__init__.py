"""Searches over chromosomes of operators: SAFS's stage 1 and what it is compared with."""

from safs.search import (  # noqa: F401  (they register)
    annealing,
    bayesian,
    evolution,
    lahc,
    random_search,
    singles,
)
from safs.search.base import SEARCHES, Best, Chromosome, Evaluation, Searcher, make, run

__all__ = ["SEARCHES", "Best", "Chromosome", "Evaluation", "Searcher", "make", "run"]
