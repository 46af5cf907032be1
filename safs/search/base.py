"""What every search over chromosomes has in common: ask, tell, the best so far, one loop.

A chromosome is one operator name per activation slot (SAFS, section 4.2 and Figure 3b); its energy
is the fitness to be minimised. Nothing here knows how an energy comes about, and torch is never
imported.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from safs.errors import SafsError
from safs.registry import Registry

Chromosome = tuple[str, ...]
Start = str | Sequence[str]
Best = tuple[int, Chromosome, float]


@dataclass(frozen=True)
class Evaluation:
    """One evaluated chromosome.

    Args:
        index: 0 for the start, then 1, 2, ... for the moves.
        chromosome: what was evaluated.
        energy: its fitness; infinite for a failed training.
        accepted: whether the search took it as its current solution.
    """

    index: int
    chromosome: Chromosome
    energy: float
    accepted: bool


class Searcher(ABC):
    """A search driven from outside by :meth:`ask` and :meth:`tell`.

    Its only source of chance is its seed: told the same energies it asks the same chromosomes, in
    this process or the next, so a journal of energies is enough to go on after a kill.

    Args:
        slots: genes per chromosome, at least 1.
        operators: the candidates, at least 2 different ones.
        budget: moves, that is evaluations after the start.
        seed: any non-negative integer.
        start: ``"random"`` or the chromosome to start from; its genes need not be candidates.

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
    ) -> None:
        self.operators = _checked_operators(operators)
        self.slots = _at_least("slots", slots, 1)
        self.budget = _at_least("budget", budget, 0)
        self.seed = _at_least("seed", seed, 0)
        self.rng = np.random.default_rng(seed)
        self.told = 0
        self._best: Best | None = None
        self._asked: Chromosome | None = None
        self.start = self.random_chromosome() if start == "random" else self._given(start)

    def ask(self) -> Chromosome:
        """The chromosome to evaluate next; the same one until it is told."""
        if self._asked is None:
            self._asked = self._propose() if self.told else self.start
        return self._asked

    def tell(self, chromosome: Chromosome, energy: float) -> bool:
        """Take in the energy of what was asked; NaN counts as infinite.

        Returns:
            Whether it became the current solution.

        Raises:
            SafsError: ``chromosome`` is not the one last asked.
        """
        if self._asked is None or tuple(chromosome) != self._asked:
            raise SafsError(f"told chromosome {tuple(chromosome)}, asked was {self._asked}")
        energy = math.inf if math.isnan(energy) else float(energy)
        if self._best is None or energy < self._best[2]:
            self._best = (self.told, self._asked, energy)
        accepted = self._learn(self._asked, energy)
        self.told += 1
        self._asked = None
        return accepted

    @property
    def best(self) -> Best:
        """Index, chromosome and energy of the best so far, the earliest among equals.

        Raises:
            SafsError: nothing was told yet.
        """
        if self._best is None:
            raise SafsError("no chromosome was evaluated yet")
        return self._best

    def random_chromosome(self) -> Chromosome:
        """Every gene drawn uniformly from the candidates."""
        return tuple(
            self.operators[i] for i in self.rng.integers(len(self.operators), size=self.slots)
        )

    @abstractmethod
    def _propose(self) -> Chromosome:
        """The next chromosome after the start."""

    @abstractmethod
    def _learn(self, chromosome: Chromosome, energy: float) -> bool:
        """Update the search; ``self.told`` evaluations came before this one."""

    def _given(self, start: Start) -> Chromosome:
        if isinstance(start, str) or len(start) != self.slots:
            raise SafsError(f"start must be 'random' or {self.slots} operator names, got {start!r}")
        return tuple(start)


SEARCHES: Registry[type[Searcher]] = Registry("search")


def make(
    name: str,
    slots: int,
    operators: Sequence[str],
    budget: int,
    seed: int,
    **options: object,
) -> Searcher:
    """The search registered as ``name``; see :class:`Searcher` for the arguments.

    Raises:
        UnknownName: no search has that name.
        SafsError: the search has no such option, or a value is out of range.
    """
    kind: Callable[..., Searcher] = SEARCHES[name]
    try:
        return kind(slots, operators, budget, seed, **options)
    except TypeError as error:
        raise SafsError(f"search {name!r}: {error}") from error


def run(
    search: Searcher, evaluate: Callable[[int, Chromosome], float], evaluations: int
) -> list[Evaluation]:
    """Evaluate ``evaluations`` chromosomes, the start included, and return them in order.

    Args:
        search: asked and told.
        evaluate: the energy of a chromosome, given its index and itself.
        evaluations: the paper's 20 iterations are 21 evaluations.
    """
    history = []
    for index in range(evaluations):
        chromosome = search.ask()
        energy = float(evaluate(index, chromosome))
        energy = math.inf if math.isnan(energy) else energy
        accepted = search.tell(chromosome, energy)
        history.append(Evaluation(index, chromosome, energy, accepted))
    return history


def _checked_operators(operators: Sequence[str]) -> Chromosome:
    if len(set(operators)) != len(operators) or len(operators) < 2:
        raise SafsError(f"a search needs 2 or more different operators, got {list(operators)}")
    return tuple(operators)


def _at_least(what: str, value: int, least: int) -> int:
    if value < least:
        raise SafsError(f"{what} must be at least {least}, got {value}")
    return int(value)
