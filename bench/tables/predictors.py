"""How well zero-cost predictors rank the candidates of stage 1, before any is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from bench.columns import RATIO, figure, pair_by, words
from bench.context import Context
from bench.records.predictions import Predictions
from bench.render import Column, Table, spread_text
from bench.stats import spread


def table(found: Iterable[Predictions], context: Context) -> Table:
    """One row per (pair, ratio, predictor): how well it ranks, over the replicates' searches."""
    every = [each for each in found if len(each.candidates) > 1]
    rows = [
        _row([each for each in every if (each.pair, each.ratio) == cell], *cell, predictor)
        for cell in sorted({(each.pair, each.ratio) for each in every})
        for predictor in _names(every, cell)
    ]
    columns = (
        pair_by(context.label), RATIO, words("Predictor", "predictor"), words("Searches", "n"),
        figure("Candidates", "candidates", 1),
        Column("Rank correlation", lambda row: spread_text(row["mean"], row["sd"])),
        figure("Lowest", "lowest"), figure("Rank of its choice", "rank", 1),
    )  # fmt: skip
    caption = (
        "Spearman's rank correlation between a predictor's score of a candidate and the fitness "
        "that the faithful search found by training it, mean ± sample standard deviation over "
        "searches, and its lowest value. The last column is the mean place, by trained fitness, of "
        "the candidate that the predictor likes best. Predictors see one batch of training images. "
        "The predictor 'loss', the loss before training, is the control."
    )
    title = "How well zero-cost predictors rank candidates"
    return Table.of("predictors", title, caption, rows, columns)


def _row(every: list[Predictions], pair: str, ratio: float, predictor: str) -> dict[str, Any]:
    found = [each for each in every if each.has(predictor)]
    values = np.array([each.correlation(predictor) for each in found])
    known = values[np.isfinite(values)]
    return {
        "pair": pair,
        "ratio": ratio,
        "predictor": predictor,
        "n": len(known),
        "candidates": float(np.mean([len(each.candidates) for each in found])),
        "mean": float(known.mean()) if len(known) else np.nan,
        "sd": spread(known),
        "lowest": float(known.min()) if len(known) else np.nan,
        "rank": float(np.mean([each.rank(predictor) for each in found])),
    }


def _names(found: list[Predictions], cell: tuple[str, float]) -> list[str]:
    """The predictors of a cell's candidates, in the order in which they stand there.

    A replicate from before one of them was added does not have it.
    """
    own = (each for each in found if (each.pair, each.ratio) == cell)
    every = (candidate.scores for each in own for candidate in each.candidates)
    return list(dict.fromkeys(name for scores in every for name in scores))
