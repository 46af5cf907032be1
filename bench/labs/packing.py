"""Packing: a lab file's content from its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic_core import to_jsonable_python

from bench.labs.schema import VERSION, Failed, LabPair, Run
from bench.labs.summary import cells_of, data_of, environments_of
from bench.records.collection import Collection
from bench.records.record import Record
from safs.errors import SafsError


def runs(
    collection: Collection, arms: Sequence[str], failed: Callable[[Record], Failed]
) -> list[Run]:
    """Every run of the arms, without weights.

    Args:
        collection: the records of a profile.
        arms: those to pack.
        failed: how many trainings of a record's searches failed.

    Raises:
        SafsError: a run has no valid record.
    """
    frame = collection.frame[collection.frame["arm"].isin(arms)]
    bad = frame[~frame["status"].isin(["ok", "failed"])]
    for row in bad.itertuples():
        missing = f"{len(bad)} of {len(frame)} runs have no record, the first: {row.reason}"
        raise SafsError(f"{missing}; `safs-bench run PROFILE` makes what is missing")
    return [
        Run(failed=failed(record), record=without_weights(record))
        for record in collection.records.values()
        if record.arm in arms
    ]


def without_weights(record: Record) -> Record:
    """The record without its activations' own parameters and its history, and so its digest."""
    slots = [slot.model_copy(update={"own": {}}) for slot in record.slots]
    return record.model_copy(update={"slots": slots, "history": {}, "digest": None})


def head(
    about: Mapping[str, Any], pairs: Mapping[str, LabPair], found: Sequence[Run]
) -> dict[str, Any]:
    """The content of a lab file without its digest, as plain data in the order of the file."""
    described = {name: pair.model_dump() for name, pair in pairs.items()}
    return {"lab_file": VERSION, **about, "pairs": described, **pack_runs(found)}


def pack_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """The parts of a lab file that follow from its runs, as plain data."""
    records = [run.record for run in runs]
    parts = {
        "data": data_of(records),
        "environments": environments_of(records),
        "cells": cells_of(records),
        "runs": runs,
    }
    return to_jsonable_python(parts)
