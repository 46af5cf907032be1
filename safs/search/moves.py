"""The neighbourhood of a chromosome (SAFS, section 4.2, the mutation operation)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from safs.search.base import Chromosome


def move(chromosome: Chromosome, operators: Sequence[str], rng: np.random.Generator) -> Chromosome:
    """Swap two randomly selected genes, then change one gene to another candidate.

    The result always differs: a swap moves two genes or, where they are equal, none, and the
    changed gene can undo at most one of two. A single gene is only changed.
    """
    genes = list(chromosome)
    if len(genes) > 1:
        i, j = rng.choice(len(genes), size=2, replace=False)
        genes[i], genes[j] = genes[j], genes[i]
    k = int(rng.integers(len(genes)))
    others = [name for name in operators if name != genes[k]]
    genes[k] = others[int(rng.integers(len(others)))]
    return tuple(genes)
