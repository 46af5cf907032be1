"""What the runs of a race lose to the best chromosome there is, and how searches differ in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import stats as scipy_stats

from bench.landscape.analysis import accuracies, finite, losses
from bench.landscape.race import Raced
from bench.landscape.table import Landscape
from bench.stats import LEVEL, spread

LEAST_RUNS = 5
"""Below this a spread tells too little of how many pairs of runs would be needed."""


def regrets(table: Landscape, raced: Raced) -> np.ndarray:
    """What each run's chromosome loses to the best there is, in training loss."""
    loss = losses(table, raced.replicate)
    return finite(loss)[np.searchsorted(table.indices, raced.chosen)] - float(loss.min())


def tested(table: Landscape, raced: Raced) -> np.ndarray:
    """The test accuracy of each run's chromosome."""
    found = accuracies(table, raced.replicate)
    return found[np.searchsorted(table.indices, raced.chosen)]


def compared(table: Landscape, raced: Sequence[Raced]) -> Iterator[dict[str, Any]]:
    """Every search's regret and test accuracy, and its difference to random search, run by run."""
    by = {(each.replicate, each.budget, each.algorithm): each for each in raced}
    for (replicate, budget, algorithm), own in sorted(by.items()):
        regret, test = regrets(table, own), tested(table, own)
        row = {
            "replicate": replicate, "budget": budget, "algorithm": algorithm, "runs": len(regret),
            "regret": float(regret.mean()), "regret_sd": spread(regret),
            "q10": float(np.quantile(regret, 0.1)), "q90": float(np.quantile(regret, 0.9)),
            "optimum": float((regret == 0).mean()), "test": float(test.mean()),
            "test_sd": spread(test),
        }  # fmt: skip
        other = by.get((replicate, budget, "random")) if algorithm != "random" else None
        yield row | (_difference(regret, regrets(table, other)) if other else {})


def _difference(own: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Mean difference, its 95% interval by Student's t, and the pairs that show it.

    ``pairs`` is how many pairs of runs a paired t test needs to find it with a power of 80 % at the
    level of 5 %; NaN below :data:`LEAST_RUNS` runs.
    """
    from statsmodels.stats.power import TTestPower

    count = min(len(own), len(other))
    change = own[:count] - other[:count]
    mean, sd = float(change.mean()), spread(change)
    half = float(scipy_stats.t.ppf(1 - LEVEL / 2, count - 1)) * sd / math.sqrt(count)
    told = {"difference": mean, "low": mean - half, "high": mean + half, "pairs": math.nan}
    if count >= LEAST_RUNS and sd > 0 and mean:
        effect = min(abs(mean) / sd, 5.0)
        told["pairs"] = float(np.ceil(TTestPower().solve_power(effect, power=0.8, alpha=LEVEL)))
    return told
