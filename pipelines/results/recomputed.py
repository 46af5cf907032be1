"""Rows of a published landscape, trained once more and compared bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.landscape.table import KEYS, Landscape
from pipelines.engine.starts import PrunedStart
from pipelines.engine.trainings import candidate
from pipelines.engine.work import Work
from pipelines.results import landscapes
from pipelines.tasks.jobs import Job
from pipelines.tasks.landscape import candidates

AT_ONCE = 8
"""Rows of one task."""


@dataclass(frozen=True)
class Retrained:
    """A row as the table has it, and as it came out here.

    Attributes:
        replicate, order, chromosome: which training.
        said, now: the columns of the table from the losses on.
    """

    replicate: int
    order: int
    chromosome: tuple[str, ...]
    said: dict[str, float]
    now: dict[str, float]

    @property
    def differing(self) -> list[str]:
        """The columns that came out otherwise."""
        return [
            name
            for name, value in self.said.items()
            if not np.array_equal(value, self.now[name], equal_nan=True)
        ]

    @property
    def same(self) -> bool:
        """Whether every bit came out as the table says."""
        return not self.differing

    def row(self) -> dict[str, Any]:
        """Plain data."""
        place = {"replicate": self.replicate, "order": self.order}
        told = {"chromosome": " ".join(self.chromosome), "differing": " ".join(self.differing)}
        return place | told

    @property
    def words(self) -> str:
        """What came out, in a line."""
        place = f"replicate {self.replicate}, order {self.order}, {' '.join(self.chromosome)}"
        if self.same:
            return f"{place}: identical"
        name = self.differing[0]
        return f"{place}: {name} is {self.now[name]:.9g} here, {self.said[name]:.9g} in the table"


def job(
    work: Work, start: PrunedStart, replicate: int, order: int, chromosome: tuple[str, ...]
) -> Job:
    """The training of a candidate, under the batch order of stage 1 (0) or another."""
    trained = candidate(work, replicate, start, work.pair.search, chromosome)
    return trained.model_copy(update={"final": order})


def train_rows(
    work: Work, starts: Mapping[int, PrunedStart], table: Landscape, rows: Iterable[int]
) -> list[Retrained]:
    """Train rows of a table, by their numbers, and compare.

    Args:
        work: of the stage ``landscape``, in the cell of the table.
        starts: the pruned checkpoints by replicate.
        table: as published.
        rows: numbers in its frame.
    """
    replicates, orders, indices = (table.frame[key].to_numpy() for key in KEYS)
    groups: dict[tuple[int, int], list[int]] = {}
    for row in sorted(rows):
        groups.setdefault((int(replicates[row]), int(orders[row])), []).append(row)
    units = [
        (*key, found[k : k + AT_ONCE])
        for key, found in groups.items()
        for k in range(0, len(found), AT_ONCE)
    ]

    def one(replicate: int, order: int, chosen: list[int]) -> list[Retrained]:
        found = [table.space.chromosome(int(indices[row])) for row in chosen]
        now = trained(work, starts[replicate], table, replicate, order, found)
        return [
            Retrained(replicate, order, chromosome, _said(table, row), told)
            for row, chromosome, told in zip(chosen, found, now, strict=True)
        ]

    return [each for group in work.each(one, units) for each in group]


def trained(
    work: Work,
    start: PrunedStart,
    table: Landscape,
    replicate: int,
    order: int,
    chromosomes: list[tuple[str, ...]],
) -> list[dict[str, float]]:
    """What chromosomes come to, as columns of the table."""
    first, epochs = job(work, start, replicate, order, chromosomes[0]), table.meta.epochs
    arguments = (first, start.files(), chromosomes, epochs, work.pool.topic, first.identity)
    rows = work.run(candidates, *arguments)
    work.progress.finished(first.identity, len(chromosomes) * epochs[-1])
    return [landscapes.columns(row, epochs) for row in rows]


def _said(table: Landscape, row: int) -> dict[str, float]:
    names = list(table.meta.types)[len(KEYS) :]
    return {name: table.frame[name].to_numpy()[row].item() for name in names}
