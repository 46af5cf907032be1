"""Races on a landscape: every registered search, in processes side by side.

The results lie beside the table: ``race-<ratio>-<algorithm>.json``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import lru_cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.landscape.analysis import finite, losses
from bench.landscape.race import HALVING, SURROGATE, Race, Raced, algorithms, lines, race
from bench.landscape.space import BUDGETS
from bench.landscape.table import Landscape, load
from pipelines.compute import settings
from pipelines.config.study import Study
from pipelines.results import landscapes
from pipelines.storage import artefacts, sources
from pipelines.storage.sources import Registered
from safs import sealed
from safs.sealed import digest

AT_ONCE = 50
"""Runs of one task, at most."""


def keep(study: Study, pair: str, ratio: float, table: Landscape) -> Iterator[Path]:
    """Race every search on a published table, but where that is done; the files of the results.

    Raises:
        SafsError: a file of earlier results is damaged.
    """
    place, wanted = landscapes.path(study, pair, ratio), study.profile.studies.landscape
    with processes() as pool:
        for algorithm in algorithms():
            path = place.with_name(f"race-{ratio}-{algorithm}.json")
            before = {each.identity: each for each in _read(path)} if path.is_file() else {}
            heats = [
                Heat(algorithm, replicate, budget, few if algorithm in SURROGATE else wanted.runs)
                for budget, few in zip(BUDGETS, wanted.surrogate_runs, strict=True)
                for replicate in table.replicates
            ]
            runs = [before.get(h.identity(table)) or run(h, place, table, pool) for h in heats]
            sealed.write(path, Race(runs=runs).model_dump(mode="json"))
            yield path


def processes() -> ProcessPoolExecutor:
    """As many processes as a run has workers; none starts before there is work."""
    os.environ["PYTHONHASHSEED"] = "0"  # of the processes: SMAC iterates over sets
    return ProcessPoolExecutor(max(1, settings().count), mp_context=get_context("spawn"))


class Heat(NamedTuple):
    """The runs of a search on one mask at one budget."""

    algorithm: str
    replicate: int
    budget: int
    runs: int

    def identity(self, table: Landscape) -> str:
        """Digest of all that decides them."""
        entry = [] if self.algorithm == HALVING else [Registered("search", self.algorithm)]
        code = sources.of("bench/landscape/race.py", entries=entry)
        return digest([*self, table.digest, code])


def run(heat: Heat, place: Path, table: Landscape, pool: Executor) -> Raced:
    """Run a heat.

    Args:
        heat: what to run.
        place: the table's file.
        table: the same, read.
        pool: who runs it.
    """
    size = 1 if heat.algorithm in SURROGATE else AT_ONCE
    parts = [range(k, min(k + size, heat.runs)) for k in range(0, heat.runs, size)]
    results = list(pool.map(_part, repeat(place), repeat(heat), parts))
    lowest = [curves for _, curves in results]
    highest = float(finite(losses(table, heat.replicate)).max())
    return Raced(
        algorithm=heat.algorithm,
        replicate=heat.replicate,
        budget=heat.budget,
        table=table.digest,
        identity=heat.identity(table),
        picked=" ".join(str(index) for chosen, _ in results for index in chosen),
        lines=() if heat.algorithm == HALVING else lines(np.concatenate(lowest), highest),
    )


_loaded = lru_cache(maxsize=1)(load)


def _part(place: Path, heat: Heat, runs: range) -> tuple[list[int], np.ndarray]:
    return race(_loaded(place), heat.algorithm, heat.replicate, heat.budget, runs)


def read(study: Study, table: Landscape) -> list[Raced]:
    """The races on a table that are published. Raises SafsError for a damaged file."""
    folder = landscapes.path(study, table.meta.pair, table.meta.ratio).parent
    files = sorted(folder.glob(f"race-{table.meta.ratio}-*.json"))
    found = [each for path in files for each in _read(path)]
    return [each for each in found if each.table == table.digest]


def _read(path: Path) -> tuple[Raced, ...]:
    return artefacts.held(path, Race).runs
