"""What a landscape says: its shape, who agrees with whom, what carries from mask to mask.

Everything is about the chromosomes of the operators that are complete
(:attr:`bench.landscape.table.Landscape.distinct`), each counted once. A failed training is worse
than every other: its loss counts as the highest finite one of its landscape where a number is
needed, its accuracy as 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from bench.landscape.space import SAME, Chromosome
from bench.landscape.table import Landscape, loss_at

Row = dict[str, Any]
BEST = 0.1
"""The share of a landscape that counts as its best."""
STUCK = 0.01
"""A loss this near to that of a network that tells no class from another has not learned."""


def losses(
    table: Landscape, replicate: int, epochs: int | None = None, order: int = 0
) -> np.ndarray:
    """Training losses; a failed training has infinity, one that is not there NaN."""
    column = loss_at(table.meta.epochs[-1] if epochs is None else epochs)
    found = table.values(column, replicate, order)
    failed = table.values("failed_epoch", replicate, order) > 0
    return np.where(failed & np.isnan(found), np.inf, found)


def accuracies(table: Landscape, replicate: int, part: str = "test", order: int = 0) -> np.ndarray:
    """Accuracies on the ``test`` or ``validation`` images; 0 for a failed training."""
    found = table.values(f"{part}_accuracy", replicate, order)
    failed = table.values("failed_epoch", replicate, order) > 0
    return np.where(failed, 0.0, found)


def finite(values: np.ndarray) -> np.ndarray:
    """Losses with the highest finite one in the place of infinity."""
    known = values[np.isfinite(values)]
    highest = known.max() if len(known) else 0.0
    return np.where(np.isposinf(values), highest, values)


def shape(table: Landscape) -> Iterator[Row]:
    """Per replicate: how many failed or did not learn, quantiles, the best, and its test."""
    for replicate in table.replicates:
        loss, test = losses(table, replicate), accuracies(table, replicate)
        trained = loss[np.isfinite(loss)]
        best = int(np.argmin(loss))
        yield {
            "replicate": replicate,
            "chromosomes": len(loss),
            "failed": int(np.isinf(loss).sum()),
            "stuck": int((np.abs(trained - math.log(table.meta.classes)) < STUCK).sum()),
            "best": " ".join(table.space.chromosome(int(table.indices[best]))),
            "lowest": float(loss[best]),
            **{f"q{q}": float(np.quantile(finite(loss), q / 100)) for q in (1, 10, 50, 90)},
            "test_of_best": float(test[best]),
            "highest_test": float(test.max()),
            "median_test": float(np.median(test)),
        }


def agreement(table: Landscape) -> Iterator[Row]:
    """Per replicate: how training loss, validation and test rank the chromosomes alike.

    ``noise`` is the loss under the other batch order, over the chromosomes that have one.
    """
    for replicate in table.replicates:
        loss = losses(table, replicate)
        test, validation = accuracies(table, replicate), accuracies(table, replicate, "validation")
        other = losses(table, replicate, order=1)
        best = np.argsort(loss, kind="stable")[: max(3, round(BEST * len(loss)))]
        pairs = {
            "loss_test": (-loss, test), "loss_validation": (-loss, validation),
            "validation_test": (validation, test), "noise": (loss, other),
        }  # fmt: skip
        for name, (a, b) in pairs.items():
            yield {
                "replicate": replicate,
                "measures": name,
                "n": int((~np.isnan(b)).sum()),
                "all": rank_correlation(a, b),
                "among_best": rank_correlation(a[best], b[best]),
            }


def fidelity(table: Landscape) -> Iterator[Row]:
    """Per replicate and earlier epoch: what the loss there tells of the loss at the end."""
    *earlier, end = table.meta.epochs
    for replicate in table.replicates:
        last = losses(table, replicate)
        count = max(3, round(BEST * len(last)))
        best = np.argsort(last, kind="stable")[:count]
        for epoch in earlier:
            first = losses(table, replicate, epoch)
            order = np.argsort(first, kind="stable")
            yield {
                "replicate": replicate,
                "epochs": epoch,
                "of": end,
                "all": rank_correlation(first, last),
                "among_best": rank_correlation(first[best], last[best]),
                "shared": len(set(order[:count]) & set(best)) / count,
                "regret": float(finite(last)[order[0]] - last[best[0]]),
            }


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, over the places where both are known; NaN where one of them is constant."""
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    if len(a) < 3 or min(len(set(a)), len(set(b))) < 2:
        return math.nan
    return float(stats.spearmanr(a, b).statistic)


def transfer(table: Landscape) -> Iterator[Row]:
    """What each replicate's best chromosome, and each operator everywhere, is worth on each."""
    best = {f"best of replicate {r}": table.optimum(r)[0] for r in table.replicates}
    for target in table.replicates:
        loss, test = losses(table, target), accuracies(table, target)
        for name, chromosome in (best | everywhere(table)).items():
            place = int(np.searchsorted(table.indices, table.space.index(chromosome)))
            yield {
                "on": target,
                "chromosome": name,
                "operators": " ".join(chromosome),
                "loss": float(loss[place]),
                "regret": float(finite(loss)[place] - loss.min()),
                "better": float((loss < loss[place]).mean()),
                "test": float(test[place]),
            }


def effects(table: Landscape, values: np.ndarray) -> dict[str, float]:
    """The exact functional analysis of variance of a landscape: shares of its variance.

    Every chromosome weighs the same, so main effects and interactions are differences of means over
    the whole space, without any model. Keys are slots joined by ``*``; three slots and more are
    together under ``rest``.
    """
    slots, size = table.meta.slots, len(table.distinct)
    grid = np.empty((size,) * len(slots))
    place = {name: k for k, name in enumerate(table.distinct)}
    for index, value in zip(table.indices, values, strict=True):
        grid[tuple(place[name] for name in table.space.chromosome(int(index)))] = value
    total = float(grid.var())
    axes = tuple(range(len(slots)))
    parts: dict[tuple[int, ...], np.ndarray] = {(): np.full_like(grid, grid.mean())}
    found: dict[str, float] = {}
    for subset in (s for k in (1, 2) for s in combinations(axes, k)):
        rest = tuple(axis for axis in axes if axis not in subset)
        mean = np.broadcast_to(grid.mean(axis=rest, keepdims=True), grid.shape)
        lower = sum(part for inner, part in parts.items() if set(inner) < set(subset))
        parts[subset] = mean - lower
        name = "*".join(slots[axis] for axis in subset)
        found[name] = float(parts[subset].var() / total) if total else math.nan
    return found | {"rest": 1 - sum(found.values()) if total else math.nan}


def between(table: Landscape) -> dict[str, float]:
    """Shares of the variance of loss over replicates and chromosomes (two factors, no repeats).

    ``noise`` is the share that the batch order alone makes, where a second one was trained.
    """
    grid = np.array([finite(losses(table, r)) for r in table.replicates])
    total = float(grid.var())
    chromosome = float(grid.mean(0).var() / total)
    replicate = float(grid.mean(1).var() / total)
    again = np.array([finite(losses(table, r, order=1)) for r in table.replicates])
    changes = (again - grid)[~np.isnan(again)]
    noise = float((changes**2).mean() / 2 / total) if len(changes) else math.nan
    both = 1 - chromosome - replicate
    return {"chromosome": chromosome, "replicate": replicate, "interaction": both, "noise": noise}


def operator_means(table: Landscape) -> Iterator[Row]:
    """Per replicate, slot and operator: the mean loss of all chromosomes that have it there."""
    found = [table.space.chromosome(int(index)) for index in table.indices]
    for replicate in table.replicates:
        loss = finite(losses(table, replicate))
        for place, slot in enumerate(table.meta.slots):
            for name in table.distinct:
                here = np.array([chromosome[place] == name for chromosome in found])
                yield {
                    "replicate": replicate, "place": place, "slot": slot, "operator": name,
                    "loss": float(loss[here].mean()), "best": float(loss[here].min()),
                }  # fmt: skip


def random_search(table: Landscape, values: np.ndarray, evaluations: int) -> dict[str, float]:
    """The lowest value that random search finds, without drawing: its mean and quantiles.

    It draws operators with replacement under all their names, so one with two names weighs twice.
    """
    names = [SAME.get(name, name) for name in table.operators]
    weight = {name: names.count(name) / len(names) for name in table.distinct}
    found = (table.space.chromosome(int(index)) for index in table.indices)
    chance = np.array([math.prod(weight[name] for name in chromosome) for chromosome in found])
    order = np.argsort(values, kind="stable")
    # The chance that none of the draws is among the best k, for every k.
    none = np.clip(1 - np.cumsum(chance[order]), 0, 1) ** evaluations
    lowest = np.diff(1 - none, prepend=0.0)
    reached = 1 - none
    ranked = finite(values)[order]
    told = {f"q{q}": float(ranked[np.searchsorted(reached, q / 100)]) for q in (10, 50, 90)}
    return {"mean": float((ranked * lowest).sum()), **told}


def everywhere(table: Landscape) -> dict[str, Chromosome]:
    """One operator in every slot, for each of the operators."""
    return {f"{name} everywhere": (name,) * len(table.meta.slots) for name in table.distinct}
