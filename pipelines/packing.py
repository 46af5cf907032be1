"""A profile's results as one lab file (:mod:`bench.labs.schema`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.labs.packing import head, runs
from bench.labs.schema import Budget, Failed, LabPair, Trainings
from bench.record import Record
from pipelines.config.pair import Pair
from pipelines.config.study import Study
from pipelines.engine import layout
from pipelines.engine.behind import Behind
from pipelines.publishing import collection, context
from pipelines.spending import spending
from safs.errors import SafsError
from safs.sealed import digest, file_digest


def content(study: Study, name: str, description: str) -> dict[str, Any]:
    """A lab file's content without its digest.

    Raises:
        SafsError: a run has no valid record, or DVC has not recorded the profile.
    """
    profile, arms = study.profile, packed(study)
    lock = Path(profile.params_file).with_name("dvc.lock")
    if not lock.is_file():
        raise SafsError(f"{lock}: no such file; run `safs-bench run {profile.profile}` first")
    found = runs(collection(study), arms, failed)
    about = {
        "lab": {"name": name, "description": description},
        "profile": profile.profile,
        "protocol": context(study).protocol.model_dump(),
        "seed": profile.seed,
        "replicates": profile.replicates,
        "arms": arms,
        "dvc_lock": file_digest(lock),
    }
    return head(about, {pair: described(study, pair) for pair in study.pairs}, found)


def packed(study: Study) -> list[str]:
    """The arms that a lab file holds.

    Not the cheap search: its stages are no number of trainings of one length, so that nobody could
    check its epochs against a budget.
    """
    faithful = [arm for arm in study.profile.arms if layout.trained_in(arm) != "fast"]
    return ["dense", *faithful]


def described(study: Study, name: str) -> LabPair:
    """A pair as it was run: what decides whether labs may be pooled."""
    pair, profile = study.pairs[name], study.profile
    plain = pair.prune.method != "given" and not pair.prune.spare
    parameters = pair.model_dump(mode="json", exclude={"about", "fast"})
    parts = [parameters, profile.protocol.model_dump(mode="json")]
    return LabPair(
        parameters=digest([*parts, profile.faster] if profile.faster else parts),
        layerwise=plain and pair.prune.scope == "layerwise",
        ratios=profile.ratios(name),
        budgets={arm: budget(pair, arm) for arm in packed(study)},
    )


def budget(pair: Pair, arm: str) -> Budget:
    """What an arm may spend: its last training, and the trainings of both stages."""
    spent = spending(pair, arm)
    stages = {}
    for stage in ("search", "tune"):
        trainings, epochs = (spent[stage] or [(0, 0)])[0]
        stages[stage] = Trainings(trainings=trainings, epochs=epochs)
    return Budget(final=spent["final"][0][1], **stages)


def failed(record: Record) -> Failed:
    """Trainings behind a record that failed, counted in the traces of its searches."""
    counts = {"search": 0, "tune": 0}
    for purpose, (_, trace) in Behind.of(record).searches().items():
        counts[purpose] = sum(row.status == "failed" for row in trace.rows)
    return Failed(**counts)
