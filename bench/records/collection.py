"""From record files to one tidy frame in which failed and missing runs are rows.

The frame has one row per *expected* run, in percent, seconds and counts. Nothing is searched for:
only the files that the caller names are read.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.records import finals
from bench.records.record import Record
from bench.records.schema import Key
from safs.arms import ARMS
from safs.errors import SafsError

NUMBERS = (
    "finals", "failures", "top1", "top1_spread", "top1_finite", "top5", "loss", "images", "flow",
    "flow_step", "flow_released", "validation_top1", "validation_loss", "train_loss",
    "train_accuracy", "connected", "classes", "cap", "epochs_final", "epochs_search",
    "epochs_tune", "epochs", "trials_search", "trials_tune", "seconds_final", "seconds_search",
    "seconds_tune", "seconds", "total", "nonzero", "prunable", "activation", "compression", "macs",
    "sparse_macs", "speedup", "memory", "lr", "momentum", "weight_decay",
)  # fmt: skip
"""Number columns; NaN where a run has no value. Accuracies and ``cap`` are percent.

``finals`` is the number of final trainings, ``failures`` of those that failed. ``top1``, ``top5``
and ``validation_top1`` are means over all of them, a failed one at chance
(:mod:`bench.records.finals`), ``top1_spread`` is the standard deviation between all of them;
``top1_finite``, losses, training accuracy and flow are means over those that did not fail.
``compression`` is dense parameters over non-zero ones, the activations' own among the latter;
``speedup`` the same of multiply-accumulates; ``memory`` is in bytes.
"""

TEXTS = (
    "network", "dataset", "operators", "connected_classes", "optimizer", "schedule", "backend",
    "device", "clock",
)  # fmt: skip
"""Text columns; empty where a run has no value."""

RECIPE = {"optimizer", "schedule", "lr", "momentum", "weight_decay"}
"""The fields of a recipe that are columns."""

KEYS = ("pair", "ratio", "replicate", "arm")
"""The columns that say which run it is."""

COLUMNS = (*KEYS, "status", "reason", *NUMBERS, *TEXTS)


@dataclass(frozen=True)
class Expected:
    """A run that the protocol asks for, and the file in which its record should be."""

    pair: str
    ratio: float
    replicate: int
    arm: str
    path: Path

    @property
    def key(self) -> Key:
        """Identity of the run."""
        return (self.pair, self.ratio, self.replicate, self.arm)


@dataclass(frozen=True)
class Collection:
    """All expected runs.

    ``frame`` has one row per run with :data:`COLUMNS`; ``status`` is ok, failed where any final
    training failed, missing or invalid. ``correct`` holds per-image correctness, a mean over finals
    of shape ``(images,)``, and ``records`` the records of the readable runs, by :data:`Key`.
    """

    frame: pd.DataFrame
    correct: Mapping[Key, npt.NDArray[np.float64]]
    records: Mapping[Key, Record]

    def select(self, **values: object) -> pd.DataFrame:
        """Rows whose columns equal ``values``, e.g. ``select(pair=..., arm="safs")``."""
        mask = pd.Series(True, index=self.frame.index)
        for column, value in values.items():
            mask &= self.frame[column] == value
        return self.frame[mask]

    def ratios(self, pair: str) -> list[float]:
        """The pruning ratios at which runs of a pair are expected, ascending."""
        return sorted(set(self.select(pair=pair)["ratio"]) - {0.0})

    def series(self, pair: str, ratio: float, arm: str, column: str = "top1") -> pd.Series[float]:
        """Values of the runs that have one, indexed by replicate. Dense is at any ``ratio``."""
        at = 0.0 if arm == "dense" else ratio
        return self._runs.get((pair, at, arm), self._runs[()])[column].dropna()

    def classes(self, pair: str) -> float:
        """The number of classes of a pair's data set; NaN where no record says."""
        return float(self.select(pair=pair)["classes"].max())

    @cached_property
    def _runs(self) -> Mapping[tuple[Any, ...], pd.DataFrame]:
        """Every run by (pair, ratio, arm), indexed by replicate; none of them at ``()``."""
        rows = self.frame.set_index("replicate")
        return {(): rows.iloc[:0], **dict(iter(rows.groupby(["pair", "ratio", "arm"])))}

    def paired(self, pair: str, ratio: float, a: str, b: str, column: str = "top1") -> pd.DataFrame:
        """Columns ``a`` and ``b``, indexed by the replicates in which both runs have a value."""
        both = [self.series(pair, ratio, name, column).rename(name) for name in (a, b)]
        return pd.concat(both, axis=1, join="inner").sort_index()

    def difference(
        self, pair: str, ratio: float, a: str, b: str, column: str = "top1"
    ) -> pd.Series[float]:
        """Arm ``a`` minus arm ``b`` on the same replicate, indexed like :meth:`paired`."""
        both = self.paired(pair, ratio, a, b, column)
        return both[a] - both[b]


def collect(expected: Sequence[Expected], known: Mapping[Key, Record] | None = None) -> Collection:
    """The records of all ``expected`` runs: those that are ``known``, else read from their files.

    Raises:
        SafsError: if records that must agree do not: protocol, profile or data checksums
            anywhere, backend, device or mask inside a block.
    """
    order = {arm: place for place, arm in enumerate(ARMS)}
    runs = sorted(expected, key=lambda e: (e.pair, e.ratio, e.replicate, order[e.arm]))
    rows: list[dict[str, Any]] = []
    records: dict[Key, Record] = {}
    for run in runs:
        record, problem = _read(run, known)
        if record is not None:
            records[run.key] = record
        rows.append(_row(run, record, problem))
    check_mixing(records.values())
    correct = _correct(records)
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    types: dict[Hashable, str] = dict.fromkeys(("ratio", *NUMBERS), "float64")
    return Collection(frame.astype(types | {"replicate": "int64"}), correct, records)


def _correct(records: Mapping[Key, Record]) -> dict[Key, npt.NDArray[np.float64]]:
    """Per-image correctness of every run; a failed one's has as many images as others'."""
    tests = [(r.dataset, final.test) for r in records.values() for final in r.finals]
    images = {dataset: test.images for dataset, test in tests if test is not None}
    found = {key: finals.correct(r, images.get(r.dataset)) for key, r in records.items()}
    return {key: values for key, values in found.items() if values is not None}


def _read(
    run: Expected, known: Mapping[Key, Record] | None
) -> tuple[Record | None, tuple[str, str]]:
    """The record, or None with (status, reason); the reason names files without folders."""
    try:
        record = Record.read(run.path) if known is None else known.get(run.key)
    except FileNotFoundError:
        record = None
    except OSError as error:
        return None, ("invalid", f"{run.path.name}: {error.strerror}")
    except SafsError as error:
        return None, ("invalid", "; ".join(str(error).splitlines()))
    if record is None:
        return None, ("missing", f"no record {run.path.name}")
    if record.key != run.key:
        return None, ("invalid", f"{run.path.name}: is of run {record.key}; expected {run.key}")
    return record, (record.status, record.reason)


def _row(run: Expected, record: Record | None, problem: tuple[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(NUMBERS, np.nan) | dict.fromkeys(TEXTS, "")
    row |= {"pair": run.pair, "ratio": run.ratio, "replicate": run.replicate}
    row |= {"arm": run.arm, "status": problem[0], "reason": problem[1]}
    return row if record is None else row | _values(record)


def _values(record: Record) -> dict[str, Any]:
    return {
        "network": record.network,
        "dataset": record.dataset,
        "backend": record.backend,
        "device": record.device.type,
        "clock": record.seconds.of,
        "operators": "|".join(slot.operator for slot in record.slots),
        **_accuracies(record),
        **_spent(record),
        **_sizes(record),
        **(record.recipe.model_dump(include=RECIPE) if record.recipe else {}),
    }


def _accuracies(record: Record) -> dict[str, Any]:
    """What the final trainings came to: means over them (:data:`NUMBERS` says over which)."""
    whole = finals.finite(record)
    values = [100 * value for value in finals.each_top1(record)]
    tests = [final.test for final in whole if final.test]
    found: dict[str, Any] = {
        "finals": len(record.finals),
        "failures": record.failures,
        "top1": 100 * finals.top1(record),
        "top5": 100 * finals.top5(record),
        "top1_spread": float(np.std(values, ddof=1)) if len(values) > 1 else np.nan,
        "top1_finite": _mean(100 * value for value in finals.finite_top1(record)),
        "validation_top1": 100 * _nan(finals.validation_top1(record)),
        "images": tests[0].images if tests else np.nan,
        "loss": _mean(test.loss for test in tests),
    }
    for name, part, field, unit in _OF_FINALS:
        parts = [getattr(final, part) for final in whole]
        found[name] = unit * _mean(getattr(each, field) for each in parts if each)
    return found


_OF_FINALS = (
    ("validation_loss", "validation", "loss", 1),
    ("train_loss", "train", "loss", 1), ("train_accuracy", "train", "accuracy", 100),
    ("flow", "flow", "flow", 1), ("flow_step", "flow", "flow_step", 1),
    ("flow_released", "flow", "flow_released", 1),
)  # fmt: skip
"""Columns: the part and the field of a final that they are means of, and their unit."""


def _mean(values: Iterable[float | None]) -> float:
    """The mean of what is known; NaN without anything."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else np.nan


def _spent(record: Record) -> dict[str, Any]:
    epochs, seconds, trials = record.epochs, record.seconds, record.trials
    purposes = ("final", "search", "tune")
    found: dict[str, Any] = {f"epochs_{name}": getattr(epochs, name) for name in purposes}
    found |= {f"seconds_{name}": getattr(seconds, name) for name in purposes}
    found |= {"epochs": epochs.final + epochs.search + epochs.tune}
    found |= {"seconds": seconds.final + seconds.search + seconds.tune}
    return found | {"trials_search": trials.search, "trials_tune": trials.tune}


def _sizes(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = {"classes": record.classes}
    if counts := record.parameters:
        found |= {"total": counts.total, "nonzero": counts.nonzero, "prunable": counts.prunable}
        found |= {"activation": counts.activation}
        dense = counts.total - counts.activation
        found |= {"compression": dense / counts.nonzero if counts.nonzero else np.nan}
    if macs := record.macs:
        found |= {"macs": macs.dense, "sparse_macs": macs.sparse}
        found |= {"speedup": macs.dense / macs.sparse if macs.sparse else np.nan}
    if record.memory:
        found |= {"memory": record.memory.bytes}
    if reach := record.connectivity:
        found |= {"connected": len(reach.connected)}
        found |= {"cap": 100 * reach.cap}
        found |= {"connected_classes": " ".join(map(str, sorted(reach.connected)))}
    return found


def _nan(value: float | None) -> float:
    return np.nan if value is None else value


def check_mixing(records: Iterable[Record]) -> None:
    """Refuse to put together what must not be compared.

    Everywhere: protocol version and preset, profile; per data set: checksums. Per block (pair,
    replicate): backend, device type and acceleration of the pruned runs, and the dense network that
    they started from. Per (pair, ratio, replicate): the mask (its link of the chain, kept weights
    per layer and connected classes), which its arms share.

    Raises:
        SafsError: one line that names the first disagreement.
    """
    runs = list(records)
    pruned = [run for run in runs if run.arm != "dense" and finals.finite(run)]
    _agree((("all", (r.protocol.version, r.protocol.preset), r) for r in runs), "protocol")
    _agree((("all", r.profile, r) for r in runs), "profile")
    _agree(((r.dataset, sorted(r.digests.data.items()), r) for r in runs), "data checksums")
    tested = ((r, final.test) for r in runs for final in r.finals if final.test)
    _agree(((r.dataset, test.images, r) for r, test in tested), "numbers of test images")
    block = [(f"pair {r.pair}, replicate {r.replicate}", r) for r in pruned]
    _agree(((name, (r.backend, r.device.type), r) for name, r in block), "backend and device")
    _agree(((name, r.acceleration, r) for name, r in block), "acceleration")
    chained = [(name, r, r.chain) for name, r in block if r.chain]
    _agree(((name, chain.dense, r) for name, r, chain in chained), "dense network")
    cell = ((f"pair {r.pair}, ratio {r.ratio}, replicate {r.replicate}", r) for r in pruned)
    _agree(((name, _mask(r), r) for name, r in cell if r.connectivity), "mask")


def _mask(record: Record) -> tuple[str | None, list[int], dict[str, int]]:
    link = record.chain.mask if record.chain else None
    connected = sorted(record.connectivity.connected) if record.connectivity else []
    layers = record.parameters.layers if record.parameters else {}
    return link, connected, {name: layer.kept for name, layer in layers.items()}


def _agree(found: Iterable[tuple[str, object, Record]], what: str) -> None:
    first: dict[str, tuple[object, Record]] = {}
    for group, value, record in found:
        known, other = first.setdefault(group, (value, record))
        if known != value:
            raise SafsError(
                f"{what} differ inside {group}: {_name(other)} has {known}, "
                f"{_name(record)} has {value}; such runs are never put together"
            )


def _name(record: Record) -> str:
    return f"{record.pair}/{record.ratio}/{record.replicate}/{record.arm}"
