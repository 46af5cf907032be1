"""Evaluation: the test images, once per arm and replicate, and the record of each run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.records.record import Record
from bench.records.schema import EPOCHS_KEPT, HISTORY, OWN_KEPT, SCHEMA_VERSION, Flow, pack
from pipelines import compute
from pipelines.config.study import Study
from pipelines.engine.work import Work
from pipelines.storage import artefacts, environment, layout
from pipelines.storage.behind import Behind
from pipelines.tasks import evaluation
from safs.arms import finals
from safs.datasets import DATASETS, fold_of
from safs.errors import SafsError
from safs.rows import Trained
from safs.sealed import Json, digest
from safs.settings import PROTOCOL_VERSION


def run(study: Study, pair: str, *ratios: float) -> None:
    """Write the record of every run of a pair; one whose inputs are unchanged stays as it is.

    ``ratios`` names the pruning ratios to evaluate, without the arms that no stage has trained yet;
    by default all are, with every arm.
    """
    with Work(study, "evaluate", pair) as work:
        units: list[tuple[Any, ...]] = [(work, "dense", 0.0, r) for r in work.replicates]
        for ratio in study.profile.ratios(pair):
            for arm in study.profile.every_arm(pair, ratio):
                units += [(work, arm, ratio, r) for r in work.replicates]
        for _, arm, ratio, replicate in units:
            work.named(f"{layout.record_name(arm, ratio, replicate)}.json")
        if ratios:
            units = [u for u in units if u[2] in (0.0, *ratios) and trained(*u)]
        work.each(evaluate, units)


def behind(work: Work, arm: str, ratio: float, replicate: int) -> Behind:
    """What a run of this pair rests on."""
    profile = work.study.profile
    count = finals(arm, profile.protocol)
    return Behind(profile.profile, work.pair_name, ratio, arm, replicate, count)


def trained(work: Work, arm: str, ratio: float, replicate: int) -> bool:
    """Whether a stage has trained a run."""
    return all(path.exists() for path in behind(work, arm, ratio, replicate).finals)


def evaluate(work: Work, arm: str, ratio: float, replicate: int) -> None:
    """Bring one record up to date, reading the test images only if no valid record exists.

    They are opened once, for all final trainings. A run one of whose workers died, in a final, a
    candidate, a trial or the dense training, has no record: it is missing, not failed, until it is
    tried again.
    """
    name = layout.record_name(arm, ratio, replicate)
    target = work.named(f"{name}.json")
    rests_on = behind(work, arm, ratio, replicate)
    if rests_on.died:
        target.unlink(missing_ok=True)
        return
    trainings = [artefacts.whole(path) for path in rests_on.finals]
    record = describe(work, rests_on, trainings)
    lasting = {key: value for key, value in record.items() if key not in ("seconds", "memory")}
    identity = digest([lasting, work.evaluation(_chromosome(trainings[0]))])
    known = _record(target)
    if known is not None and known.digests.identity == identity:
        cost = {"seconds": record["seconds"], "memory": record["memory"]}
        now = Record.model_validate(known.model_dump(by_alias=True) | {**cost, "digest": None})
        if (now.seconds, now.memory) != (known.seconds, known.memory):
            now.write(target)
        return
    record["digests"]["identity"] = identity
    whole = {
        place: artefacts.weights_of(path).resolve()
        for place, path in enumerate(rests_on.finals)
        if trainings[place]["result"]["failure"] is None
    }
    if whole:
        tests, counted = work.run(
            evaluation.evaluate,
            work.pair.network,
            work.pair.dataset.name,
            list(whole.values()),
            _chromosome(trainings[0]),
            {key: trainings[0]["job"][key] for key in ("scaled", "train_own")},
            compute.data_directory(),
        )
        for place, test in zip(whole, tests, strict=True):
            record["finals"][place] = _scored(record["finals"][place], test)
        record |= counted
    record["environment"] = environment.describe()
    Record.model_validate(record).write(target)


def _record(path: Path) -> Record | None:
    """The record at ``path``, if there is one that is whole."""
    try:
        return Record.read(path) if path.exists() else None
    except SafsError:
        return None


def describe(work: Work, behind: Behind, trainings: Sequence[Json]) -> Json:
    """Everything of a record that is known without the test images."""
    first = trainings[0]
    job, result = first["job"], Trained.model_validate(first["result"])
    before = _spent(behind)
    dataset = DATASETS[work.pair.dataset.name]
    clock = "processor" if result.bits["device"] == "cpu" else "wall"
    mask = behind.mask and artefacts.read(behind.mask)
    return {
        "schema": SCHEMA_VERSION,
        "protocol": {"version": PROTOCOL_VERSION, "preset": work.study.profile.protocol.preset},
        "profile": work.study.profile.profile,
        "pair": work.pair_name,
        "network": work.pair.network.name,
        "dataset": dataset.name,
        "ratio": behind.ratio,
        "replicate": behind.replicate,
        "fold": fold_of(behind.replicate, dataset.folds),
        "arm": behind.arm,
        "classes": dataset.classes,
        "finals": [_final(artefact) for artefact in trainings],
        "history": _history(result),
        "epochs": {"final": result.epochs, **before["epochs"]},
        "trials": before["trials"],
        "seconds": {"final": result.seconds, **before["seconds"], "of": clock},
        "memory": result.memory,
        "device": {"type": result.where["device"], "name": result.where["name"]},
        "backend": result.backend,
        "portable": behind.portable,
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
        "chain": behind.chain(),
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


def _scored(final: Json, test: Json) -> Json:
    """A final training with what it came to; failed where its loss on the test images is none."""
    if test["loss"] is None:
        return {"reason": "the test loss is not finite"}
    return final | {"test": test | {"correct": pack(test["correct"])}}


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


def _spent(behind: Behind) -> Json:
    """Epochs, trainings and seconds that stage 1 and stage 2 spent on an arm.

    What a predictor looked at counts as the epochs, rounded up, that have as many images.
    """
    epochs, trials, seconds = ({"search": 0, "tune": 0} for _ in range(3))
    for purpose, (path, trace) in behind.searches().items():
        screened = math.ceil(getattr(trace, "predictor_epochs", 0))
        epochs[purpose] = sum(row.epochs for row in trace.rows) + screened
        trials[purpose] = len(trace.rows)
        seconds[purpose] = artefacts.read(path)["seconds"]
    return {"epochs": epochs, "trials": trials, "seconds": seconds}


def _chromosome(artefact: Json) -> tuple[str, ...]:
    return tuple(str(slot["operator"]) for slot in artefact["result"]["slots"])


def _parameters(work: Work) -> str:
    """Digest of everything that parameters say of a run, whatever the number of replicates."""
    profile = work.study.profile
    parts = [work.pair.model_dump(mode="json"), profile.protocol.model_dump(), profile.seed]
    return digest([*parts, profile.faster] if profile.faster else parts)
