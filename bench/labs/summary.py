"""What a lab file says that follows from its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic_core import to_jsonable_python

from bench.contrasts import contrasts_of
from bench.labs.schema import CellSummary, Gain, Run
from bench.records.finals import top1
from bench.records.record import Record
from bench.records.schema import Environment


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


def data_of(records: Iterable[Record]) -> dict[str, dict[str, str]]:
    """Checksums by data set."""
    return {record.dataset: dict(record.digests.data) for record in records}


def environments_of(records: Iterable[Record]) -> list[Environment]:
    """Every distinct environment, in order."""
    found = {r.environment.model_dump_json(): r.environment for r in records}
    return list(found.values())


def cells_of(records: Sequence[Record]) -> list[CellSummary]:
    """The summary of every (pair, ratio) in order."""
    keys = sorted({(r.pair, r.ratio) for r in records if r.arm != "dense"})
    arms = {r.arm for r in records}
    return [
        CellSummary(
            pair=pair,
            ratio=ratio,
            sparsity=_sparsity(r for r in records if (r.pair, r.ratio) == (pair, ratio)),
            gains={
                contrast.name: _gain(differences(records, pair, ratio, contrast.a, contrast.b))
                for contrast in contrasts_of(arms)
            },
        )
        for pair, ratio in keys
    ]


def differences(
    records: Iterable[Record], pair: str, ratio: float, a: str, b: str
) -> dict[int, float]:
    """Test top-1 of ``a`` minus ``b`` in percentage points, by replicate with both results."""
    top1s = {
        (r.arm, r.replicate): top1(r)
        for r in records
        if r.arm in (a, b) and (r.pair, r.ratio) == (pair, ratio)
    }
    replicates = sorted(r for arm, r in top1s if arm == a and (b, r) in top1s)
    return {r: round(100 * (top1s[a, r] - top1s[b, r]), 10) for r in replicates}


def _gain(found: Mapping[int, float]) -> Gain:
    mean = round(float(np.mean(list(found.values()))), 10) if found else None
    return Gain(n=len(found), mean=mean)


def _sparsity(records: Iterable[Record]) -> float | None:
    shares = [
        1 - sum(layer.kept for layer in r.parameters.layers.values()) / r.parameters.prunable
        for r in records
        if r.parameters is not None and r.parameters.prunable
    ]
    return round(float(np.mean(shares)), 10) if shares else None
