"""The lab file, version 2: everything that one lab found in one profile, without weights.

One JSON object. ``runs`` holds the records as the suite wrote them
(:class:`bench.records.record.Record`), but without the own parameters of activations, which are
weights; everything above it is for the reviewer and is checked against the runs. Accuracies are
fractions, gains percentage points.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from pydantic_core import to_jsonable_python

from bench.contrasts import contrasts_of
from bench.records.finals import top1
from bench.records.record import Record
from bench.records.schema import Environment, Protocol
from safs.spec import Count, Epochs, Fraction, Items, Name, Positive, Spec, Text

VERSION = 2
"""Version of the format; files of version 1, with records of schema 1, are read too."""

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Lab(Spec):
    """Who: a short name (lower-case letters, digits, hyphens) and a line about the set-up."""

    name: Slug
    description: Annotated[Text, Field(max_length=300)]


class Trainings(Spec):
    """What a search may spend: ``trainings`` of ``epochs`` each."""

    trainings: Annotated[int, Field(ge=0, le=200_000)]
    epochs: Annotated[int, Field(ge=0, le=100_000)]


class Budget(Spec):
    """Epochs of an arm's last training, and what its stage 1 and stage 2 may spend."""

    final: Epochs
    search: Trainings
    tune: Trainings


class LabPair(Spec):
    """A (network, data set) pair as it was run.

    Attributes:
        parameters: digest of the pair's resolved parameters and of the protocol's switches, without
            the seed: labs are pooled only where it agrees.
        layerwise: every layer was pruned to the same ratio, so kept weights can be checked.
        ratios: the pruning ratios, ascending.
        budgets: what each arm may spend.
    """

    parameters: Sha256
    layerwise: bool
    ratios: Items[Annotated[float, Field(gt=0, lt=1)]]
    budgets: dict[Text, Budget]


class Gain(Spec):
    """Mean paired difference of a contrast in percentage points over ``n`` replicates."""

    n: Count
    mean: Annotated[float, Field(ge=-100, le=100)] | None


class CellSummary(Spec):
    """What a (pair, ratio) came to: the mean share of pruned weights, and the gains."""

    pair: Name
    ratio: float
    sparsity: Fraction | None
    gains: dict[Text, Gain]


class Failed(Spec):
    """Trainings inside stage 1 and stage 2 that failed, and so may have ended early."""

    search: Count
    tune: Count


class Run(Spec):
    """One record, and how many of its searches' trainings failed."""

    failed: Failed
    record: Record


class Contents(Spec):
    """The fields of a lab file, each checked by itself.

    ``digest`` seals the rest of the file as :func:`seal` says.
    """

    lab_file: Annotated[int, Field(ge=VERSION, le=VERSION)]
    digest: Sha256
    lab: Lab
    profile: Name
    protocol: Protocol
    seed: Count
    replicates: Positive
    arms: Items[Text]
    dvc_lock: Sha256
    data: dict[Name, dict[Text, Text]]
    environments: Items[Environment]
    pairs: dict[Name, LabPair]
    cells: Items[CellSummary]
    runs: Items[Run]

    @property
    def records(self) -> list[Record]:
        """The records of all runs."""
        return [run.record for run in self.runs]


def render(content: Mapping[str, Any]) -> str:
    """The file's text from its content without digest, which it computes.

    One line per run, cell, environment and pair, so that a line number finds it.
    """
    sealed = {"lab_file": content["lab_file"], "digest": seal(content), **content}
    return "{\n" + ",\n".join(_entry(*item) for item in sealed.items()) + "\n}\n"


def seal(content: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of all of ``content`` but its ``digest``."""
    rest = {key: value for key, value in content.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


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
    found = {
        (r.arm, r.replicate): top1(r)
        for r in records
        if r.arm in (a, b) and (r.pair, r.ratio) == (pair, ratio)
    }
    top1s = {key: value for key, value in found.items() if value is not None}
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


def _entry(key: str, value: Any) -> str:
    name = json.dumps(key)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{name}: [\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"
    if key == "pairs":
        lines = (f"{json.dumps(pair)}: {json.dumps(entry)}" for pair, entry in value.items())
        return f"{name}: {{\n" + ",\n".join(lines) + "\n}"
    return f"{name}: {json.dumps(value)}"
