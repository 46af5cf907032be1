"""A run's record as far as it is known without the test images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from bench.records.schema import EPOCHS_KEPT, HISTORY, OWN_KEPT, SCHEMA_VERSION, Flow
from pipelines.engine.work import Work
from pipelines.storage import artefacts
from pipelines.storage.behind import Behind
from safs.datasets import DATASETS, fold_of
from safs.rows import Trained
from safs.sealed import Json, digest
from safs.settings import PROTOCOL_VERSION


def describe(work: Work, run: Behind, trainings: Sequence[Json]) -> Json:
    """Everything of a record that is known without the test images."""
    first = trainings[0]
    job, result = first["job"], Trained.model_validate(first["result"])
    before = _spent(run)
    dataset = DATASETS[work.pair.dataset.name]
    clock = "processor" if result.bits["device"] == "cpu" else "wall"
    mask = run.mask and artefacts.read(run.mask)
    return {
        "schema": SCHEMA_VERSION,
        "protocol": {"version": PROTOCOL_VERSION, "preset": work.study.profile.protocol.preset},
        "profile": work.study.profile.profile,
        "pair": work.pair_name,
        "network": work.pair.network.name,
        "dataset": dataset.name,
        "ratio": run.ratio,
        "replicate": run.replicate,
        "fold": fold_of(run.replicate, dataset.folds),
        "arm": run.arm,
        "classes": dataset.classes,
        "finals": [_final(artefact) for artefact in trainings],
        "history": _history(result),
        "epochs": {"final": result.epochs, **before["epochs"]},
        "trials": before["trials"],
        "seconds": {"final": result.seconds, **before["seconds"], "of": clock},
        "memory": result.memory,
        "device": {"type": result.where["device"], "name": result.where["name"]},
        "backend": result.backend,
        "portable": run.portable,
        "compiler": result.where.get("compiler"),
        "acceleration": work.study.profile.faster,
        "threads": int(result.where["threads"]),
        "bits": result.bits,
        "connectivity": mask and mask.get("connectivity"),
        "slots": _slots(result),
        "recipe": job["recipe"],
        "digests": {
            "parameters": _parameters(work),
            "data": {"train": work.data, "test": work.test_data},
        },
        "chain": run.chain(),
    }


def _final(artefact: Json) -> Json:
    """What a record says of one final training (:class:`bench.records.schema.Final`)."""
    result = Trained.model_validate(artefact["result"])
    if result.failure is not None:
        return {"reason": result.failure}
    kept = result.history[result.kept - 1]
    return {
        "validation": {"top1": kept["validation_accuracy"], "loss": kept["validation_loss"]},
        "train": {"loss": kept["train_loss"], "accuracy": kept["train_accuracy"]},
        "flow": {
            name: _mean(epoch[name] for epoch in result.history) for name in Flow.model_fields
        },
        "weights": artefact["weights"],
    }


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean over epochs; None where one of them has none that is finite."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def _history(result: Trained) -> Json:
    """Some epochs of a training, for the curves: a list for each of what was measured."""
    last = len(result.history)
    places = sorted({round(x) for x in np.linspace(0, last - 1, min(last, EPOCHS_KEPT))})
    kept = [result.history[place] for place in places]
    return {name: [_short(epoch[name]) for epoch in kept] for name in HISTORY} if kept else {}


def _slots(result: Trained) -> list[Json]:
    """What every slot learned; of channels' parameters, evenly spread ones where they are many."""
    lists = [v for slot in result.slots for v in slot["own"].values() if isinstance(v, list)]
    step = max(1, math.ceil(sum(map(len, lists)) / OWN_KEPT))

    def few(value: float | list[float]) -> float | list[float]:
        return value[::step] if isinstance(value, list) else value

    return [
        {**slot, "own": {name: few(value) for name, value in slot["own"].items()}}
        for slot in result.slots
    ]


def _short(value: float | None) -> float | None:
    """A number to six digits, as a curve is drawn."""
    return value if value is None else float(f"{value:.6g}")


def _spent(run: Behind) -> Json:
    """Epochs, trainings and seconds that stage 1 and stage 2 spent on an arm.

    What a predictor looked at counts as the epochs, rounded up, that have as many images.
    """
    epochs, trials, seconds = ({"search": 0, "tune": 0} for _ in range(3))
    for purpose, (path, trace) in run.searches.items():
        screened = math.ceil(getattr(trace, "predictor_epochs", 0))
        epochs[purpose] = sum(row.epochs for row in trace.rows) + screened
        trials[purpose] = len(trace.rows)
        seconds[purpose] = artefacts.read(path)["seconds"]
    return {"epochs": epochs, "trials": trials, "seconds": seconds}


def _parameters(work: Work) -> str:
    """Digest of everything that parameters say of a run, whatever the number of replicates."""
    profile = work.study.profile
    parts = [work.pair.model_dump(mode="json"), profile.protocol.model_dump(), profile.seed]
    return digest([*parts, profile.faster] if profile.faster else parts)
