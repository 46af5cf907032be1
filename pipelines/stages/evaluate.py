"""Evaluation: the test images, once per arm and replicate, and the record of each run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from bench.record import SCHEMA_VERSION, Record, pack
from pipelines.config.study import Study
from pipelines.engine import artefacts, compute, environment, layout
from pipelines.engine.behind import Behind
from pipelines.engine.work import Work, replicates
from pipelines.tasks import evaluation
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
        units: list[tuple[Any, ...]] = [(work, "dense", 0.0, r) for r in replicates(study)]
        for ratio in study.profile.ratios(pair):
            for arm in study.profile.every_arm(pair, ratio):
                units += [(work, arm, ratio, r) for r in replicates(study)]
        for _, arm, ratio, replicate in units:
            work.named(f"{layout.record_name(arm, ratio, replicate)}.json")
        if ratios:
            units = [u for u in units if u[2] in (0.0, *ratios) and behind(*u).final.exists()]
        work.each(evaluate, units)


def behind(work: Work, arm: str, ratio: float, replicate: int) -> Behind:
    """What a run of this pair rests on."""
    return Behind(work.study.profile.profile, work.pair_name, ratio, arm, replicate)


def evaluate(work: Work, arm: str, ratio: float, replicate: int) -> None:
    """Bring one record up to date, reading the test images only if no valid record exists."""
    name = layout.record_name(arm, ratio, replicate)
    target = work.named(f"{name}.json")
    rests_on = behind(work, arm, ratio, replicate)
    artefact = artefacts.whole(rests_on.final)
    record = describe(work, rests_on, artefact)
    lasting = {key: value for key, value in record.items() if key not in ("seconds", "memory")}
    identity = digest([lasting, work.evaluation(_chromosome(artefact))])
    known = _record(target)
    if known is not None and known.digests.identity == identity:
        cost = {"seconds": record["seconds"], "memory": record["memory"]}
        now = Record.model_validate(known.model_dump(by_alias=True) | {**cost, "digest": None})
        if (now.seconds, now.memory) != (known.seconds, known.memory):
            now.write(target)
        return
    record["digests"]["identity"] = identity
    if artefact["result"]["failure"] is None:
        measured = work.run(
            evaluation.evaluate,
            work.pair.network,
            work.pair.dataset.name,
            artefacts.weights_of(rests_on.final).resolve(),
            _chromosome(artefact),
            {key: artefact["job"][key] for key in ("scaled", "train_own")},
            compute.data_directory(),
        )
        measured["test"]["correct"] = pack(measured["test"]["correct"])
        record |= measured
    record["environment"] = environment.describe()
    Record.model_validate(record).write(target)


def _record(path: Path) -> Record | None:
    """The record at ``path``, if there is one that is whole."""
    try:
        return Record.read(path) if path.exists() else None
    except SafsError:
        return None


def describe(work: Work, behind: Behind, artefact: Json) -> Json:
    """Everything of a record that is known without the test images."""
    job, result = artefact["job"], Trained.model_validate(artefact["result"])
    before = _spent(behind)
    failed = result.failure is not None
    kept = None if failed else result.history[result.kept - 1]
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
        "method": behind.arm,
        "status": "failed" if failed else "ok",
        "reason": result.failure,
        "validation": kept
        and {"top1": kept["validation_accuracy"], "loss": kept["validation_loss"]},
        "train": kept and {"loss": kept["train_loss"], "accuracy": kept["train_accuracy"]},
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
        "slots": list(result.slots),
        "recipe": job["recipe"],
        "digests": {
            "parameters": _parameters(work),
            "data": {"train": work.data, "test": work.test_data},
            "weights": artefact["weights"],
        },
        "chain": behind.chain(),
    }


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
