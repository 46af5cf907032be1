"""A profile's results as one lab file (:mod:`bench.labs.schema`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.labs.schema import VERSION, Budget, Failed, LabPair, Run, Trainings
from bench.labs.summary import pack_runs
from bench.records.archive import Replicate
from bench.records.collection import Collection
from bench.records.record import Record
from bench.records.schema import Key
from pipelines.config.pair import Pair
from pipelines.config.study import Study
from pipelines.engine.spending import spending
from pipelines.results import archiving
from pipelines.results.publishing import context, shown
from pipelines.storage import layout
from pipelines.storage.behind import Behind
from safs.errors import SafsError
from safs.sealed import digest, file_digest


def content(study: Study, name: str, description: str) -> dict[str, Any]:
    """A lab file's content without its digest.

    Its runs are those that ``show`` shows, so replicates that ``run --from-records`` left out too.

    Raises:
        SafsError: nothing was run, a run has no valid record, or DVC has not recorded the profile.
    """
    profile, arms = study.profile, packed(study)
    lock = Path(profile.params_file).with_name("dvc.lock")
    if not lock.is_file():
        raise SafsError(f"{lock}: no such file; run `safs-bench run {profile.profile}` first")
    told, here = shown(study)[0], study.runs
    if not (told.records and any(here.glob("evaluate/*/*.json"))):
        raise SafsError(f"{here}: no records; `safs-bench run {profile.profile}` makes them")
    return {
        "lab_file": VERSION,
        "lab": {"name": name, "description": description},
        "profile": profile.profile,
        "protocol": context(study).protocol.model_dump(),
        "seed": profile.seed,
        "replicates": profile.replicates,
        "arms": arms,
        "dvc_lock": file_digest(lock),
        "pairs": {pair: described(study, pair).model_dump() for pair in study.pairs},
        **pack_runs(runs(study, told)),
    }


def runs(study: Study, told: Collection) -> list[Run]:
    """Every run of the packed arms, without weights.

    Raises:
        SafsError: a run has no valid record.
    """
    arms = packed(study)
    frame = told.frame[told.frame["arm"].isin(arms)]
    bad = frame[~frame["status"].isin(["ok", "failed"])]
    for row in bad.itertuples():
        missing = f"{len(bad)} of {len(frame)} runs have no record, the first: {row.reason}"
        raise SafsError(
            f"{missing}; `safs-bench run {study.profile.profile}` makes what is missing"
        )
    known = {record.key: each for each in archiving.read(study) for record in each.records}
    return [
        Run(failed=failed(known, record), record=without_weights(record))
        for record in told.records.values()
        if record.arm in arms
    ]


def without_weights(record: Record) -> Record:
    """The record without its activations' own parameters and its history, and so its digest."""
    slots = [slot.model_copy(update={"own": {}}) for slot in record.slots]
    return record.model_copy(update={"slots": slots, "history": {}, "digest": None})


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


def failed(published: Mapping[Key, Replicate], record: Record) -> Failed:
    """Trainings behind a record that failed, counted in the traces of its searches.

    Those of a record that is ``published`` as it is are published with it; others are in ``runs/``.
    """
    replicate = published.get(record.key)
    if replicate is not None and record in replicate.records:
        traces = dict(replicate.traces(record))
    else:
        traces = {name: trace for name, (_, trace) in Behind.of(record).searches.items()}
    counts = {name: sum(r.status == "failed" for r in trace.rows) for name, trace in traces.items()}
    return Failed(**({"search": 0, "tune": 0} | counts))
