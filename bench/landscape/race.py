"""Searches raced on a landscape: thousands of runs, each at the cost of looking numbers up.

Every search that is registered takes part. Run ``k`` of each has the same seed, and so most begin
with the same chromosome. A run ends with the chromosome of the lowest training loss that it has
seen. What that loses to the best there is, is told elsewhere (:mod:`bench.landscape.regret`), so
that what decides a race is all that its identity depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from bench.landscape.analysis import losses
from bench.landscape.table import Landscape
from safs import search as searches
from safs import seeds
from safs.search.halving import halve, planned
from safs.spec import Count, Positive, Spec, Text

Costs = Callable[[Sequence[str], int], float]
"""The training loss of a chromosome after an epoch; infinite if the training failed before."""
Runner = Callable[[Landscape, Costs, int, int], list[tuple[int, float]]]
"""A search: of a table, costs, evaluations and a seed, what it saw: chromosome and loss."""

SURROGATE = ("bayesian", "bayesian_refit")
"""Searches that fit a surrogate: one of their runs takes seconds."""
HALVING, ETA = "halving", 2
STEPS = (0, 10, 50, 90)
"""Of a curve: the mean, and quantiles in percent."""


class Raced(Spec):
    """The runs of one search on one landscape at one budget.

    Attributes:
        table: digest of the landscape.
        identity: digest of that, of the number of runs and of the search's code.
        picked: the number of each run's chromosome, as text with spaces between.
        lines: the curve, likewise: by evaluation the mean over runs of the lowest loss so far, and
            its 10 %, 50 % and 90 % quantiles; none where a run knows nothing before its end.
    """

    algorithm: Text
    replicate: Count
    budget: Positive
    table: Text
    identity: Text
    picked: Annotated[str, Field(pattern=r"^\d+( \d+)*$", max_length=2**20)]
    lines: tuple[Annotated[str, Field(pattern=r"^[-+.e\d]+( [-+.e\d]+)*$")], ...]

    @property
    def chosen(self) -> np.ndarray:
        """The number of each run's chromosome."""
        return np.array(self.picked.split(), dtype=np.int64)

    @property
    def curve(self) -> np.ndarray:
        """``[4, evaluations]``: mean and quantiles of the lowest losses so far."""
        return np.array([line.split() for line in self.lines], dtype=float)


class Race(Spec):
    """All runs of one search on one landscape."""

    runs: tuple[Raced, ...]


def algorithms() -> list[str]:
    """Every search that can be raced: the registered ones, and successive halving."""
    return [*searches.SEARCHES, HALVING]


def race(
    table: Landscape, algorithm: str, replicate: int, budget: int, runs: range
) -> tuple[list[int], np.ndarray]:
    """Some runs of a search: each one's chromosome, and its lowest losses so far.

    Args:
        table: a landscape.
        algorithm: one of :func:`algorithms`.
        replicate: whose mask.
        budget: evaluations; halving spends as many epochs.
        runs: their numbers, which decide their seeds.

    Returns:
        The chromosomes by number, and the losses ``[runs, budget]``; of halving those alone that it
        trained to the end.
    """
    run, cost = runner(algorithm), costs(table, replicate)
    chosen, lowest = [], []
    for number in runs:
        seed = seeds.integer(table.meta.seed, "search", replicate, number)
        seen = run(table, cost, budget, seed)
        values = np.array([loss for _, loss in seen])
        chosen.append(seen[int(np.argmin(values))][0])
        lowest.append(np.minimum.accumulate(values))
    return chosen, np.array(lowest)


def costs(table: Landscape, replicate: int) -> Costs:
    """A fast look-up of a replicate's losses."""
    found = {}
    for epoch in table.meta.epochs:
        found[epoch] = np.full(len(table.space), np.nan)
        found[epoch][table.indices] = losses(table, replicate, epoch)

    def cost(chromosome: Sequence[str], epoch: int) -> float:
        return float(found[epoch][table.space.index(chromosome)])

    return cost


def runner(algorithm: str) -> Runner:
    """How a search is run. Raises UnknownName where none has that name."""
    if algorithm == HALVING:
        return _halving

    def run(table: Landscape, cost: Costs, budget: int, seed: int) -> list[tuple[int, float]]:
        end = table.meta.epochs[-1]
        search = searches.make(algorithm, len(table.meta.slots), table.operators, budget - 1, seed)
        done = searches.run(search, lambda _, chromosome: cost(chromosome, end), budget)
        return [(table.space.index(each.chromosome), each.energy) for each in done]

    searches.SEARCHES[algorithm]
    return run


def _halving(table: Landscape, cost: Costs, budget: int, seed: int) -> list[tuple[int, float]]:
    """Successive halving over different random chromosomes, for the epochs of so many trainings."""
    rungs = table.meta.epochs
    count = candidates(rungs, budget, len(table.indices))
    drawn = np.random.default_rng(seed).choice(table.indices, size=count, replace=False)
    names = {int(index): table.space.chromosome(int(index)) for index in drawn}
    first = {index: cost(names[index], rungs[0]) for index in names}
    last: list[tuple[int, float]] = []

    def further(index: int, epoch: int) -> float:
        found = cost(names[index], epoch)
        if epoch == rungs[-1]:
            last.append((index, found))
        return found

    won = halve(first, further, rungs[1:], ETA)
    return last or [(won if won is not None else int(drawn[0]), np.inf)]


def candidates(rungs: Sequence[int], budget: int, most: int) -> int:
    """How many candidates a halving can begin with for the epochs of ``budget`` trainings."""
    count = 1
    while count < most:
        spent = sum(n * epochs for n, epochs in planned(count + 1, rungs, ETA))
        if spent > budget * rungs[-1]:
            break
        count += 1
    return count


def lines(lowest: np.ndarray, highest: float) -> tuple[str, ...]:
    """:attr:`Raced.lines` of the lowest losses so far; ``highest`` stands for none yet."""
    known = np.where(np.isfinite(lowest), lowest, highest)
    rows = [known.mean(0), *(np.quantile(known, q / 100, axis=0) for q in STEPS[1:])]
    return tuple(" ".join(f"{value:.7g}" for value in row) for row in rows)
