"""The lab file, version 2: everything that one lab found in one profile, without weights.

One JSON object. ``runs`` holds the records as the suite wrote them
(:class:`bench.records.record.Record`), but without the own parameters of activations, which are
weights; everything above it is for the reviewer and is checked against the runs. Accuracies are
fractions, gains percentage points.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from bench.records.record import Record
from bench.records.schema import Environment, Protocol
from safs import sealed
from safs.spec import Count, Epochs, Fraction, Items, Name, Positive, Spec, Text

VERSION = 2
"""Version of the format; a reader knows exactly one."""

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

    ``digest`` seals the rest of the file as :mod:`safs.sealed` says.
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
    head = {"lab_file": content["lab_file"], "digest": sealed.seal(content)[sealed.DIGEST]}
    return "{\n" + ",\n".join(_entry(*item) for item in {**head, **content}.items()) + "\n}\n"


def _entry(key: str, value: Any) -> str:
    name = json.dumps(key)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{name}: [\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"
    if key == "pairs":
        lines = (f"{json.dumps(pair)}: {json.dumps(entry)}" for pair, entry in value.items())
        return f"{name}: {{\n" + ",\n".join(lines) + "\n}"
    return f"{name}: {json.dumps(value)}"
