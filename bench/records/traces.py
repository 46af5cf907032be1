"""Frames of the traces: every candidate of stage 1, every trial of stage 2, every epoch.

Energies are training losses (Eq. 5), costs are 1 - validation accuracy; both are minimised. A
failed candidate has no energy (``null``), never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from bench.landscape.promises import Promised
from bench.landscape.race import Raced
from bench.landscape.table import Landscape
from bench.records.record import Record
from bench.records.schema import HISTORY
from safs.arms import ARMS
from safs.rows import SearchTrace, TuneTrace


@dataclass(frozen=True)
class Traces:
    """All traces of a profile; ``curves`` is a :func:`curve_frame`.

    ``search`` are the searches of stage 1 that are compared at equal budget, ``others`` those
    behind control arms: one operator everywhere, the cheap search. ``races`` are run on the
    ``landscapes``; what is ``promised`` of them was said before any was trained.
    """

    search: tuple[SearchTrace, ...] = ()
    tune: tuple[TuneTrace, ...] = ()
    curves: pd.DataFrame = field(default_factory=lambda: curve_frame(()))
    others: tuple[SearchTrace, ...] = ()
    landscapes: tuple[Landscape, ...] = ()
    races: tuple[Raced, ...] = ()
    promised: tuple[Promised, ...] = ()


def best_so_far(values: Sequence[float | None]) -> list[float]:
    """Running minimum; failed candidates (None) change nothing, NaN before the first success."""
    numbers = np.array([np.nan if v is None else v for v in values], dtype=float)
    return [float(v) for v in np.fmin.accumulate(numbers)] if len(numbers) else []


def search_frame(traces: Iterable[SearchTrace]) -> pd.DataFrame:
    """One row per evaluation: pair, ratio, algorithm, replicate, index, energy, best, status."""
    rows = [
        {"pair": t.pair, "ratio": t.ratio, "algorithm": t.algorithm, "replicate": t.replicate}
        | {"evaluation": e.index, "energy": np.nan if e.energy is None else e.energy}
        | {"best": best, "accepted": e.accepted, "status": e.status}
        for t in traces
        for e, best in zip(t.evaluations, best_so_far(_energies(t)), strict=True)
    ]
    columns = ["pair", "ratio", "algorithm", "replicate", "evaluation", "energy", "best"]
    return pd.DataFrame(rows, columns=[*columns, "accepted", "status"])


def candidate_frame(traces: Iterable[SearchTrace]) -> pd.DataFrame:
    """Every candidate of every search: a :func:`search_frame` with chromosome, epochs, reason and
    outcome (:data:`safs.rows.Outcome`).

    The operators of a chromosome stand in the order of the slots, with spaces between.
    """
    frame = search_frame(traces := tuple(traces))
    evaluations = [e for t in traces for e in t.evaluations]
    return frame.assign(
        chromosome=[" ".join(e.chromosome) for e in evaluations],
        epochs=[e.epochs for e in evaluations],
        reason=[e.reason or "" for e in evaluations],
        outcome=[e.outcome or "" for e in evaluations],
    )


def trial_frame(traces: Iterable[TuneTrace]) -> pd.DataFrame:
    """Every trial: pair, ratio, arm, replicate, trial, recipe, result and outcome."""
    rows = [
        {"pair": t.pair, "ratio": t.ratio, "arm": t.arm, "replicate": t.replicate}
        | {"trial": trial.index, **dict(sorted(trial.config.model_dump().items()))}
        | trial.model_dump(include={"cost", "epochs", "status", "reason", "outcome"})
        for t in traces
        for trial in t.trials
    ]
    return pd.DataFrame(rows)


ALGORITHMS = {
    "lahc": "LAHC", "annealing": "SA", "random": "RS", "bayesian": "BO",
    "evolution": "Regularised evolution", "bayesian_refit": "BO, refitted",
}  # fmt: skip
"""Labels of the search algorithms: the paper's as its Figure 6 names them, then this suite's own.

Any other has the name under which it is registered.
"""


def final_losses(traces: Iterable[SearchTrace]) -> pd.DataFrame:
    """The lowest training loss each search found: pair, ratio, algorithm, replicate, loss."""
    frame = search_frame(traces)
    keys = ["pair", "ratio", "algorithm", "replicate"]
    return frame.groupby(keys, sort=False)["best"].min().rename("loss").reset_index()


def _energies(trace: SearchTrace) -> list[float | None]:
    return [e.energy if e.status == "ok" else None for e in trace.evaluations]


def curve_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per epoch that pruned records keep: pair, ratio, replicate, arm, :data:`HISTORY`.

    A value that was not measured or not finite is NaN.
    """
    keys = ("pair", "ratio", "replicate", "arm")
    frames = [
        pd.DataFrame(dict(zip(keys, record.key, strict=True)) | record.history)
        for record in records
        if record.history and record.arm != "dense"
    ]
    frame = pd.concat(frames) if frames else pd.DataFrame(columns=[*keys, *HISTORY])
    whole = dict.fromkeys(("ratio", *HISTORY[1:]), "float64")
    return frame.astype(whole).reset_index(drop=True)


def operator_frequency(traces: Iterable[SearchTrace]) -> pd.DataFrame:
    """How often each operator stood in each slot, over all evaluations (Figure 5).

    One row per (pair, ratio, algorithm, slot, operator) with ``count``; operators that were never
    drawn have count 0. ``place`` is the slot's position from the input.
    """
    rows = [
        {"pair": t.pair, "ratio": t.ratio, "algorithm": t.algorithm, "place": place}
        | {"slot": slot, "operator": operator}
        | {"count": sum(e.chromosome[place] == operator for e in t.evaluations)}
        for t in traces
        for place, slot in enumerate(t.slots)
        for operator in t.operators
    ]
    keys = ["pair", "ratio", "algorithm", "place", "slot", "operator"]
    frame = pd.DataFrame(rows, columns=[*keys, "count"])
    return frame.groupby(keys, sort=True)["count"].sum().reset_index()


SINGLES = ARMS["best_single_hpo"].search
"""The search that tries one operator everywhere, each in turn."""


def single_wins(traces: Iterable[SearchTrace]) -> pd.DataFrame:
    """Which operator was best as the only one, over the searches that try one operator everywhere.

    One row per (pair, ratio, operator): ``best_single`` is in how many of ``singles`` searches, one
    per replicate, it had the lowest loss. Operators that never won have 0.
    """
    own = [t for t in traces if t.algorithm == SINGLES and t.best is not None]
    rows = [
        {"pair": t.pair, "ratio": t.ratio, "operator": operator, "singles": 1}
        | {"best_single": int(t.evaluations[t.best or 0].chromosome[0] == operator)}
        for t in own
        for operator in t.operators
    ]
    keys = ["pair", "ratio", "operator"]
    frame = pd.DataFrame(rows, columns=[*keys, "best_single", "singles"])
    return frame.groupby(keys, sort=True)[["best_single", "singles"]].sum().reset_index()
