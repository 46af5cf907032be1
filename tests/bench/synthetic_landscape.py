"""Synthetic landscapes: made from seeds, never from a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from synthetic import PAIR, SLOTS, traces

from bench.landscape.analysis import finite, losses
from bench.landscape.promises import Promised
from bench.landscape.race import Raced, lines, race
from bench.landscape.space import SAME, Space
from bench.landscape.table import KEYS, Begun, Landscape, Meta, loss_at
from bench.records.traces import Traces
from safs.spec import Recipe

EPOCHS = (10, 20, 40, 80)
UNTRAINED = "relu6"
"""A candidate without rows, unless it is asked for."""
FAILED = {0: (3, 15), 1: (15,)}
"""By replicate: the epochs in which a training fails, one each; other replicates as the last."""
SECOND = 4
"""One chromosome in so many is trained under the second batch order too."""


def synthetic_landscape(
    operators: Sequence[str] = ("srs", "swish", "tanh"), replicates: int = 2, seed: int = 0
) -> Landscape:
    """A landscape that is complete for some operators over four slots.

    The candidates are these, ``acon`` (another name of ``swish``) and ``relu6``. Losses are sums of
    what each operator does in its slot, the same on every replicate, and of noise; they fall from
    epoch to epoch. Accuracies fall with the loss. Nothing but the seed decides a value.

    Args:
        operators: those that are trained, in this order; no aliases.
        replicates: how many.
        seed: of every value.
    """
    assert len(operators) > 1
    assert not set(operators) & set(SAME)
    meta = _meta(tuple(operators), replicates, seed)
    effects = np.random.default_rng([seed, 0]).normal(0.0, 0.2, (len(SLOTS), len(operators)))
    parts = [
        part
        for replicate in range(replicates)
        for part in _replicate(meta, effects, replicate, seed)
    ]
    frame = pd.concat(parts).sort_values(KEYS, ignore_index=True)
    seconds = frame.pop("seconds").to_numpy(dtype=np.float32)
    return Landscape(meta, frame[list(meta.types)].astype(meta.types), seconds)


def synthetic_races(
    table: Landscape, names: Sequence[str] = ("lahc", "random"), budget: int = 12, runs: int = 6
) -> list[Raced]:
    """Searches raced on a landscape, as the stage ``records`` keeps them."""
    found = []
    for name in names:
        for replicate in table.replicates:
            chosen, lowest = race(table, name, replicate, budget, range(runs))
            highest = float(finite(losses(table, replicate)).max())
            found.append(
                Raced(
                    algorithm=name, replicate=replicate, budget=budget, table=table.digest,
                    identity=f"{name} {replicate}", picked=" ".join(map(str, chosen)),
                    lines=lines(lowest, highest),
                )
            )  # fmt: skip
    return found


def traces_with_landscape() -> Traces:
    """Those of the synthetic searches, and a landscape with races and promises on it."""
    table = synthetic_landscape()
    races, promised = tuple(synthetic_races(table)), tuple(synthetic_promises(table))
    return replace(traces(), landscapes=(table,), races=races, promised=promised)


def synthetic_promises(table: Landscape) -> list[Promised]:
    """A predictor that knows the loss up to noise, one that knows nothing, and a spectrum of it."""
    found = []
    for replicate in table.replicates:
        rng = np.random.default_rng([table.meta.seed, 2, replicate])
        loss = finite(losses(table, replicate))
        told = {
            "good": -loss + rng.normal(0.0, 0.02, len(loss)),
            "blind": rng.normal(0.0, 1.0, len(loss)),
        }
        found.append(
            Promised(
                pair=table.meta.pair, ratio=table.meta.ratio, replicate=replicate,
                starts=table.meta.starts[str(replicate)], identity=f"promised {replicate}",
                indices=" ".join(map(str, table.indices)),
                scores={name: text(values) for name, values in told.items()},
                spectrum={"conv": text(np.stack([loss, loss**2], axis=1).ravel())},
            )
        )  # fmt: skip
    return found


def text(values: np.ndarray) -> str:
    """Numbers as a file has them."""
    return " ".join(f"{value:.6g}" for value in values)


def _meta(operators: tuple[str, ...], replicates: int, seed: int) -> Meta:
    return Meta(
        profile="synthetic", pair=PAIR, ratio=0.99, classes=10, seed=seed, protocol=3,
        operators=tuple(dict.fromkeys((UNTRAINED, "acon", *operators))), slots=SLOTS,
        trained=operators, epochs=EPOCHS, recipe=Recipe(lr=0.01),
        data="data", test_data="test", code=("code",), bits={"processor": "synthetic"},
        starts={str(r): Begun(dense=f"dense {r}", mask=f"mask {r}") for r in range(replicates)},
    )  # fmt: skip


def _replicate(meta: Meta, effects: np.ndarray, replicate: int, seed: int) -> list[pd.DataFrame]:
    """The rows of a replicate: of every chromosome, and of some the second batch order."""
    rng = np.random.default_rng([seed, 1, replicate])
    chosen = np.array(list(product(range(len(meta.trained)), repeat=len(meta.slots))))
    level = 1.2 + effects[np.arange(len(meta.slots)), chosen].sum(1)
    level += rng.normal(0.0, 0.05, len(chosen))
    first = _rows(meta, chosen, level, rng).assign(replicate=replicate, order=0)
    epochs = FAILED[min(replicate, max(FAILED))]
    for row, epoch in zip(rng.permutation(len(chosen)), epochs, strict=False):
        _fail(first, int(row), epoch)
    again = np.sort(rng.permutation(len(chosen))[: len(chosen) // SECOND])
    level = level[again] + rng.normal(0.0, 0.02, len(again))
    return [first, _rows(meta, chosen[again], level, rng).assign(replicate=replicate, order=1)]


def _rows(
    meta: Meta, chosen: np.ndarray, level: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """Trainings that did not fail; ``level`` is about their loss at the end."""
    space = Space(meta.operators, meta.slots)
    count, level = len(chosen), np.maximum(level, 0.05)
    columns = {
        loss_at(epoch): level * (EPOCHS[-1] / epoch) ** 0.2 + rng.normal(0.0, 0.01, count)
        for epoch in meta.epochs
    }
    accuracy = np.clip(1.0 - level / 3.0, 0.1, 0.99)
    return pd.DataFrame({
        "index": [space.index([meta.trained[digit] for digit in row]) for row in chosen],
        **columns,
        "validation_accuracy": np.clip(accuracy + rng.normal(0.0, 0.01, count), 0.0, 1.0),
        "test_accuracy": np.clip(accuracy + rng.normal(0.0, 0.01, count), 0.0, 1.0),
        "failed_epoch": 0,
        "failed_step": 0,
        "outcome": rng.integers(0, 2**63, count, dtype=np.uint64),
        "seconds": rng.uniform(1.0, 3.0, count),
    })  # fmt: skip


def _fail(frame: pd.DataFrame, row: int, epoch: int) -> None:
    """Let a training fail: no loss from that epoch on, and no accuracy."""
    lost = [loss_at(known) for known in EPOCHS if known >= epoch]
    frame.loc[row, [*lost, "validation_accuracy", "test_accuracy"]] = np.nan
    frame.loc[row, ["failed_epoch", "failed_step"]] = epoch, 2
