"""What can be said of a landscape's chromosomes before any of them is trained.

Zero-cost predictors promise a value. Features promise nothing by themselves: from some chromosomes
that are trained, a regression learns what they mean (Bingham and Miikkulainen, "Efficient
Activation Function Optimization through Surrogate Modeling", section 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator
from scipy import stats

from bench.landscape.analysis import BEST, finite, losses, rank_correlation
from bench.landscape.space import BUDGETS, SAMPLE, Chromosome
from bench.landscape.table import Begun, Landscape
from safs.operators import OPERATORS
from safs.spec import Count, Fraction, Spec, Text

Numbers = Annotated[str, Field(pattern=r"^[-+.e\dinf]+( [-+.e\dinf]+)*$", max_length=2**22)]
"""Numbers as text, with spaces between."""

NEIGHBOURS = 3
"""Trained chromosomes whose mean loss a regression promises: the nearest."""
DRAWS = 20
"""Random choices of trained chromosomes that a regression's figures are means over."""
_POINTS = 64
"""Inputs at which outputs of operators are compared: quantiles of the standard normal."""


class Promised(Spec):
    """What is said of chromosomes of a replicate.

    Attributes:
        pair, ratio, replicate: whose pruned network.
        starts: digests of its dense network and mask.
        identity: digest of all that decides what is said.
        indices: numbers of the chromosomes.
        scores: by predictor, one for each of ``indices``; larger promises more.
        spectrum: by layer, as many numbers for each of them as the layer's spectrum has.
    """

    pair: Text
    ratio: Fraction
    replicate: Count
    starts: Begun
    identity: Text
    indices: Numbers
    scores: dict[Text, Numbers]
    spectrum: dict[Text, Numbers]

    @model_validator(mode="after")
    def _one_each(self) -> Promised:
        count = len(self.numbers)
        for name, told in self.scores.items():
            if len(values(told)) != count:
                raise ValueError(f"{name}: {len(values(told))} scores; expected {count}")
        for name, told in self.spectrum.items():
            if len(values(told)) % count:
                raise ValueError(f"{name}: {len(values(told))} numbers of {count} chromosomes")
        return self

    @property
    def numbers(self) -> np.ndarray:
        """The numbers of the chromosomes."""
        return np.array(self.indices.split(), dtype=np.int64)


class Promises(Spec):
    """What is said of a landscape, replicate by replicate."""

    replicates: tuple[Promised, ...]


def values(told: str) -> np.ndarray:
    """Numbers that stand in a text."""
    return np.array(told.split(), dtype=float)


def chosen(complete: np.ndarray, *key: int) -> np.ndarray:
    """The chromosomes of a replicate that are asked about: all, or a random part, ascending."""
    if len(complete) <= SAMPLE:
        return np.sort(complete)
    return np.sort(np.random.default_rng(key).choice(complete, SAMPLE, replace=False))


def rows(table: Landscape, promised: Promised) -> Iterator[dict[str, Any]]:
    """How well each predictor, and each regression on features, ranks the chromosomes.

    ``trained`` chromosomes are what it has to see first. Ranks are over the others, and over the
    tenth of these with the lowest loss; ``regret`` is what the one that it likes best loses to the
    best chromosome there is.
    """
    every = losses(table, promised.replicate)
    loss = every[np.searchsorted(table.indices, promised.numbers)]
    worst = np.where(np.isposinf(loss), finite(every).max(), loss)
    lowest, n = float(every.min()), len(loss)
    for name, told in promised.scores.items():
        yield {
            "replicate": promised.replicate, "says": name, "trained": 0, "n": n,
            **_ranked(values(told), loss, worst, lowest),
        }  # fmt: skip
    for name, distance in _distances(table, promised).items():
        for trained in (count for count in BUDGETS if count < n):
            found = [
                _regressed(distance, loss, worst, lowest, order[:trained], order[trained:])
                for order in _orders(table, promised)
            ]
            mean = {key: float(np.mean([each[key] for each in found])) for key in found[0]}
            yield {
                "replicate": promised.replicate, "says": name, "trained": trained,
                "n": n - trained, **mean,
            }  # fmt: skip


def _orders(table: Landscape, promised: Promised) -> Iterator[np.ndarray]:
    """Random orders of the chromosomes, the same ones for all features."""
    for draw in range(DRAWS):
        key = (table.meta.seed, promised.replicate, draw)
        yield np.random.default_rng(key).permutation(len(promised.numbers))


def _regressed(
    distance: np.ndarray,
    loss: np.ndarray,
    worst: np.ndarray,
    lowest: float,
    trained: np.ndarray,
    others: np.ndarray,
) -> dict[str, float]:
    near = np.argsort(distance[np.ix_(others, trained)], axis=1, kind="stable")[:, :NEIGHBOURS]
    promise = -worst[trained][near].mean(axis=1)
    return _ranked(promise, loss[others], worst[others], lowest)


def _ranked(
    promise: np.ndarray, loss: np.ndarray, worst: np.ndarray, lowest: float
) -> dict[str, float]:
    best = np.argsort(loss, kind="stable")[: max(3, round(BEST * len(loss)))]
    return {
        "all": rank_correlation(promise, -loss),
        "among_best": rank_correlation(promise[best], -loss[best]),
        "regret": float(worst[int(np.argmax(promise))] - lowest),
    }


def _distances(table: Landscape, promised: Promised) -> dict[str, np.ndarray]:
    """Features by their names, as how far apart each two chromosomes are by them."""
    found = [table.space.chromosome(int(index)) for index in promised.numbers]
    distances = {"operators": _apart(_same(found))}
    if promised.spectrum:
        spectra = [values(told).reshape(len(found), -1) for told in promised.spectrum.values()]
        distances["fisher"] = _apart(np.nan_to_num(np.concatenate(spectra, axis=1), posinf=99.0))
    if all(name in OPERATORS and OPERATORS[name].formula for name in table.distinct):
        distances["outputs"] = _apart(_outputs(found))
    if {"fisher", "outputs"} <= set(distances):
        fisher, outputs = (distances[name] for name in ("fisher", "outputs"))
        distances["fisher_outputs"] = fisher / fisher.mean() + outputs / outputs.mean()
    return distances


def _apart(features: np.ndarray) -> np.ndarray:
    """Mean absolute differences of features ``[n, k]``, between each two rows."""
    from scipy.spatial.distance import cdist

    return cdist(features, features, "cityblock") / features.shape[1]


def _same(chromosomes: list[Chromosome]) -> np.ndarray:
    """Features of which as many differ as two chromosomes have different operators."""
    names = sorted({name for chromosome in chromosomes for name in chromosome})
    return np.array([[float(n == name) for n in c for name in names] for c in chromosomes])


def _outputs(chromosomes: list[Chromosome]) -> np.ndarray:
    """What the operators of each slot make of standard normal inputs."""
    x = stats.norm.ppf((np.arange(_POINTS) + 0.5) / _POINTS)
    used = {name for chromosome in chromosomes for name in chromosome}
    curves: Mapping[str, np.ndarray] = {name: OPERATORS[name].curve(x) for name in used}
    return np.array([np.concatenate([curves[name] for name in c]) for c in chromosomes])
