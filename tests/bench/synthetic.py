"""Synthetic records, traces and contexts: made from seeds, never from a training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.context import Context
from bench.records.collection import Collection, Expected, collect
from bench.records.record import Record
from bench.records.schema import HISTORY, pack
from bench.records.traces import Traces, curve_frame
from safs import sealed
from safs.arms import ARMS
from safs.rows import SearchTrace, TuneTrace

PAIR = "lenet5_mnist5k"
RATIOS = (0.90, 0.95, 0.99)
SHOWN_ARMS = ("dense", "vanilla", "srelu", "stage1_only", "stage2_only", "safs")
IMAGES = 1000
SLOTS = ("conv1", "conv2", "fc1", "fc2")
OPERATORS = ("relu6", "acon", "srs", "symlog", "symexp", "swish", "tanh", "hardswish", "elu")
LEVELS = {
    "dense": 0.96, "vanilla": 0.44, "srelu": 0.50, "stage1_only": 0.51, "stage2_only": 0.53,
    "safs": 0.55, "default_hpo": 0.53, "srelu_hpo": 0.54,
}  # fmt: skip


def record(
    arm: str = "safs",
    ratio: float = 0.99,
    replicate: int = 0,
    pair: str = PAIR,
    **changes: Any,
) -> Record:
    """A valid record; ``changes`` replace top-level fields."""
    return Record.model_validate(content(arm, ratio, replicate, pair) | changes)


TUNED = ("safs", "stage2_only", "default_hpo", "srelu_hpo")
SEARCHED = ("safs", "stage1_only")


def content(arm: str, ratio: float, replicate: int, pair: str = PAIR) -> dict[str, Any]:
    """A valid record as plain data."""
    dense = arm == "dense"
    ratio = 0.0 if dense else ratio
    connected = sorted(_rng("net", ratio, replicate).permutation(10)[: 4 + replicate % 4].tolist())
    tuned, searched = arm in TUNED, arm in SEARCHED
    epochs = {"final": 20, "search": 84 if searched else 0, "tune": 80 if tuned else 0}
    return {
        "schema": 2,
        "protocol": {"version": 3, "preset": "paper"},
        "profile": "quick",
        "pair": pair,
        "network": "lenet5",
        "dataset": "mnist5k",
        "ratio": ratio,
        "replicate": replicate,
        "fold": replicate % 5,
        "arm": arm,
        "classes": 10,
        "finals": [final(arm, ratio, replicate)],
        "history": history(arm, replicate),
        "epochs": epochs,
        "trials": {"search": 21 if searched else 0, "tune": 20 if tuned else 0},
        "seconds": {name: 0.1 * count for name, count in epochs.items()} | {"of": "processor"},
        "device": {"type": "cpu", "name": "synthetic"},
        "backend": "dense",
        "threads": 1,
        "parameters": _parameters(ratio),
        "macs": {"dense": 281_640, "sparse": round((1 - ratio) * 281_640)},
        "connectivity": None if dense else {"connected": connected, "classes": 10, "cap": 0.995},
        "slots": [_slot(name, arm) for name in SLOTS],
        "recipe": _recipe(),
        "digests": {"parameters": "p", "data": {"mnist_5k.csv": "c0ffee"}, "identity": "i"},
        "chain": chain(arm, ratio, replicate),
        "environment": _environment(),
    }


def chain(arm: str, ratio: float, replicate: int, **changed: Any) -> dict[str, Any]:
    """Links as a run has them: one dense network a replicate, one mask a cell, the arm's own."""

    def links(count: int, *key: object) -> list[str]:
        return [sealed.digest([*key, replicate, i])[:32] for i in range(count)]

    dense = links(1)[0]
    told: dict[str, Any] = {"data": links(1, "data")[0]}
    told["finals"] = [dense] if arm == "dense" else links(1, arm, ratio)
    if arm != "dense":
        told |= {"dense": dense, "mask": links(1, ratio)[0]}
        told["candidates"] = links(21 if arm in SEARCHED else 0, ratio)
        told["trials"] = links(20 if arm in TUNED else 0, arm, ratio)
    return told | changed


def _rng(*key: object) -> np.random.Generator:
    return np.random.default_rng(np.frombuffer(repr(key).encode(), dtype=np.uint8))


def tested(arm: str, ratio: float, replicate: int, images: int = IMAGES) -> dict[str, Any]:
    """The reading of the test images, as plain data."""
    shift = 0.02 * _rng("block", replicate).standard_normal()
    level = LEVELS.get(arm, 0.5) + (0 if arm == "dense" else 4 * (0.99 - ratio)) + shift
    level += 0.01 * _rng(arm, ratio, replicate).standard_normal()
    correct = _rng("images", replicate).random(images) < min(level, 0.99)
    top1 = int(correct.sum()) / images
    found = {"images": images, "top1": top1, "top5": max(top1, 0.95), "loss": 1.3}
    return found | {"correct": pack(correct)}


def _parameters(ratio: float) -> dict[str, Any]:
    kept = 44190 - round(ratio * 44190)
    layers = {"fc1": {"total": 44190, "kept": kept}}
    counts = {"total": 44426, "nonzero": kept + 236, "prunable": 44190, "activation": 8}
    return counts | {"layers": layers}


def _slot(name: str, arm: str) -> dict[str, Any]:
    operator = {"safs": "symlog", "stage1_only": "symlog", "srelu": "srelu"}.get(arm, "relu")
    scale = 1.1 if ARMS[arm].scaled else 1.0
    own = {"t_r": [0.5, 0.6]} if arm == "srelu" else {}
    return {"name": name, "operator": operator, "alpha": scale, "beta": scale, "own": own}


def _recipe() -> dict[str, Any]:
    recipe = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    return recipe | {"schedule": "constant", "restart_epochs": None, "batch_size": 256}


def _environment() -> dict[str, Any]:
    packages = {"torch": "2.14.1", "numpy": "2.4.6"}
    found = {"python": "3.11.2", "platform": "Linux", "cpu": "x86", "packages": packages}
    return found | {"git": "abc1234"}


def final(arm: str, ratio: float, replicate: int, **changes: Any) -> dict[str, Any]:
    """A final training that is ok, as plain data."""
    flow = dict.fromkeys(("flow", "flow_step", "flow_released"), 1.0)
    if history := curve(arm, replicate) if arm in LEVELS else []:
        flow = {name: float(np.mean([epoch[name] for epoch in history])) for name in flow}
    return {
        "test": tested(arm, ratio, replicate),
        "validation": {"top1": 0.5, "loss": 1.2},
        "train": {"loss": 1.1, "accuracy": 0.51},
        "flow": flow,
        "weights": f"w-{arm}-{ratio}-{replicate}",
    } | changes


def failed(arm: str, ratio: float, replicate: int, reason: str, pair: str = PAIR) -> Record:
    """A record of a run whose final training failed."""
    return record(arm, ratio, replicate, pair, finals=[{"reason": reason}], history={})


def expected(
    folder: Path,
    arms: Iterable[str] = SHOWN_ARMS,
    ratios: Sequence[float] = RATIOS,
    replicates: int = 3,
    pair: str = PAIR,
) -> list[Expected]:
    """Every run of a profile, with the file in which it should be."""
    return [
        Expected(pair, at, r, arm, folder / f"{pair}-{at}-{r}-{arm}.json")
        for arm in arms
        for at in ((0.0,) if arm == "dense" else ratios)
        for r in range(replicates)
    ]


def write(runs: Iterable[Expected]) -> None:
    """Write a valid record for each run."""
    for run in runs:
        record(run.arm, run.ratio, run.replicate, run.pair).write(run.path)


def collection(folder: Path, **options: Any) -> Collection:
    """A complete collection, written to and read from ``folder``."""
    runs = expected(folder, **options)
    write(runs)
    return collect(runs)


def context(**changes: Any) -> Context:
    """The quick profile."""
    values: dict[str, Any] = {
        "profile": "quick",
        "title": "LeNet-5 on MNIST-5k",
        "protocol": {"version": 3, "preset": "paper"},
        "pairs": {
            PAIR: {
                "label": "LeNet-5 / MNIST-5k",
                "published": "lenet5_mnist",
                "comparable": False,
                "why_not": "MNIST-5k has 4,000 images, the paper trains on MNIST; budgets reduced",
            }
        },
        "ratios": RATIOS,
        "replicates": 3,
        "arms": SHOWN_ARMS,
        "budgets": {"dense epochs": 20, "search iterations": 20},
        "notes": ("At these budgets 99% is a smoke result.",),
        "deviations": ("Stage 1's fitness is the training loss.",),
        "parameters": {"search": {"iterations": 20}, "tune": {"trials": 20}},
    }
    return Context.model_validate(values | changes)


def search_trace(
    ratio: float = 0.99,
    replicate: int = 0,
    pair: str = PAIR,
    algorithm: str = "lahc",
    start: float = 1.5,
) -> SearchTrace:
    """A stage-1 trace from about ``start`` on, in which the fifth candidate failed."""
    rng = _rng("search", ratio, replicate)
    evaluations = [
        {
            "index": index,
            "chromosome": tuple(rng.choice(OPERATORS, len(SLOTS)).tolist()),
            "energy": None if index == 4 else float(start - 0.02 * index + 0.1 * rng.random()),
            "accepted": bool(rng.random() < 0.5),
            "epochs": 4,
            "status": "failed" if index == 4 else "ok",
            "reason": "loss is not finite" if index == 4 else None,
        }
        for index in range(21)
    ]
    values = {"schema": 1, "pair": pair, "ratio": ratio, "replicate": replicate, "best": 20}
    values |= {"algorithm": algorithm, "slots": SLOTS, "operators": OPERATORS}
    return SearchTrace.model_validate(values | {"evaluations": evaluations})


def single_trace(replicate: int, best: str, ratio: float = 0.99) -> SearchTrace:
    """The search of the best single operator, which found ``best``."""
    evaluations = [
        {"index": index, "chromosome": (name,) * len(SLOTS), "energy": 0.5 + (name != best)}
        | {"accepted": False, "epochs": 4, "status": "ok"}
        for index, name in enumerate(OPERATORS)
    ]
    values = {"schema": 1, "pair": PAIR, "ratio": ratio, "replicate": replicate}
    values |= {"best": OPERATORS.index(best), "algorithm": "singles", "slots": SLOTS}
    values |= {"operators": OPERATORS, "evaluations": evaluations}
    return SearchTrace.model_validate(values)


def tune_trace(ratio: float = 0.99, replicate: int = 0, arm: str = "safs") -> TuneTrace:
    """A stage-2 trace of three trials, the last of which crashed."""
    trials = [
        {"index": i, "config": {"lr": 0.1}, "cost": cost, "validation_top1": top1}
        | {"epochs": 4, "status": "ok" if top1 else "failed", "reason": None if top1 else "nan"}
        for i, (cost, top1) in enumerate([(0.5, 0.5), (0.4, 0.6), (1.0, None)])
    ]
    values = {"schema": 4, "pair": PAIR, "ratio": ratio, "replicate": replicate, "best": 1}
    return TuneTrace.model_validate(values | {"arm": arm, "trials": trials})


def history(arm: str, replicate: int) -> dict[str, list[float]]:
    """A :func:`curve` as a record has it."""
    epochs = curve(arm, replicate) if arm in LEVELS else []
    return {name: [epoch[name] for epoch in epochs] for name in HISTORY} if epochs else {}


def curve(arm: str, replicate: int) -> list[dict[str, float]]:
    """Twenty epochs of a final training; SAFS has 10 times the others' flow, per step 100."""
    flow = {"safs": 1.0}.get(arm, 0.1) * (1 + 0.1 * replicate)
    return [
        {
            "epoch": epoch, "lr": 0.1, "train_loss": 2 / epoch, "train_accuracy": 0.5,
            "validation_loss": 2 / epoch, "validation_accuracy": LEVELS[arm] * epoch / 20,
            "flow": flow / epoch, "flow_step": flow**2 / epoch, "flow_released": flow / 10,
        }
        for epoch in range(1, 21)
    ]  # fmt: skip


def traces(replicates: int = 3, ratios: Sequence[float] = RATIOS) -> Traces:
    """Traces of every ratio and replicate; at the highest one also those of other algorithms."""
    cells = [(ratio, replicate) for ratio in ratios for replicate in range(replicates)]
    searches = [search_trace(*cell) for cell in cells]
    for place, name in enumerate(("annealing", "random", "bayesian"), start=1):
        searches += [
            search_trace(max(ratios), r, algorithm=name, start=1.5 + 0.1 * place + 0.01 * r)
            for r in range(replicates)
        ]
    curves = [record(arm, ratio, r) for ratio, r in cells for arm in SHOWN_ARMS if arm != "dense"]
    return Traces(tuple(searches), tuple(tune_trace(*cell) for cell in cells), curve_frame(curves))


def row(frame: pd.DataFrame, **values: object) -> pd.Series:
    """The one row that has these values."""
    for name, value in values.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]
