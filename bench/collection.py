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

from bench.record import Key, Record
from safs.arms import ARMS
from safs.errors import SafsError

NUMBERS = (
    "top1", "top5", "loss", "images", "validation_top1", "validation_loss", "train_loss",
    "train_accuracy", "connected", "classes", "cap", "epochs_final", "epochs_search",
    "epochs_tune", "epochs", "trials_search", "trials_tune", "seconds_final", "seconds_search",
    "seconds_tune", "seconds", "total", "nonzero", "prunable", "activation", "compression", "macs",
    "sparse_macs", "speedup", "memory", "lr", "momentum", "weight_decay",
)  # fmt: skip
"""Number columns; NaN where a run has no value. Accuracies and ``cap`` are percent.

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

COLUMNS = ("pair", "ratio", "replicate", "method", "status", "reason", *NUMBERS, *TEXTS)


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

    ``frame`` has one row per run with :data:`COLUMNS` (``status`` ok, failed, missing or invalid);
    ``correct`` holds per-image correctness, shape ``(images,)``, and ``records`` the records of
    the readable runs, by :data:`Key`.
    """

    frame: pd.DataFrame
    correct: Mapping[Key, npt.NDArray[np.bool_]]
    records: Mapping[Key, Record]

    def select(self, *, arm: str | None = None, **values: object) -> pd.DataFrame:
        """Rows whose columns equal ``values``, e.g. ``select(pair=..., arm="safs")``."""
        mask = pd.Series(True, index=self.frame.index)
        for column, value in (values | ({} if arm is None else {"method": arm})).items():
            mask &= self.frame[column] == value
        return self.frame[mask]

    def ratios(self, pair: str) -> list[float]:
        """The pruning ratios at which runs of a pair are expected, ascending."""
        return sorted(set(self.select(pair=pair)["ratio"]) - {0.0})

    def series(self, pair: str, ratio: float, arm: str, column: str = "top1") -> pd.Series[float]:
        """Values of the ok runs, indexed by replicate. Dense is found at any ``ratio``."""
        at = 0.0 if arm == "dense" else ratio
        return self._ok.get((pair, at, arm), self._ok[()])[column].dropna()

    @cached_property
    def _ok(self) -> Mapping[tuple[Any, ...], pd.DataFrame]:
        """The ok runs by (pair, ratio, arm), indexed by replicate; none of them at ``()``."""
        ok = self.frame[self.frame["status"] == "ok"].set_index("replicate")
        return {(): ok.iloc[:0], **dict(iter(ok.groupby(["pair", "ratio", "method"])))}

    def paired(self, pair: str, ratio: float, a: str, b: str, column: str = "top1") -> pd.DataFrame:
        """Columns ``a`` and ``b``, indexed by the replicates in which both runs are ok."""
        both = [self.series(pair, ratio, name, column).rename(name) for name in (a, b)]
        return pd.concat(both, axis=1, join="inner").sort_index()


def collect(expected: Sequence[Expected]) -> Collection:
    """Read the records of all ``expected`` runs.

    Raises:
        SafsError: if a run is expected twice, or if records that must agree do not: protocol,
            profile or data checksums anywhere, backend, device or mask inside a block.
    """
    _no_repeats(expected)
    order = {arm: place for place, arm in enumerate(ARMS)}
    runs = sorted(expected, key=lambda e: (e.pair, e.ratio, e.replicate, order[e.arm]))
    rows: list[dict[str, Any]] = []
    records: dict[Key, Record] = {}
    for run in runs:
        record, problem = _read(run)
        if record is not None:
            records[run.key] = record
        rows.append(_row(run, record, problem))
    check_mixing(records.values())
    correct = {key: r.test.bits() for key, r in records.items() if r.test is not None}
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    types: dict[Hashable, str] = dict.fromkeys(("ratio", *NUMBERS), "float64")
    return Collection(frame.astype(types | {"replicate": "int64"}), correct, records)


def published(table: Path) -> Collection:
    """A collection from its published table, ``runs.csv``: the frame, without any record."""
    types: dict[Hashable, str] = dict.fromkeys(("ratio", *NUMBERS), "float64")
    texts: dict[Hashable, str] = dict.fromkeys(("reason", *TEXTS), "str")
    frame = pd.read_csv(table, dtype=types | texts, keep_default_na=False, na_values=[""])
    return Collection(frame.fillna(dict.fromkeys(map(str, texts), "")), {}, {})


def _no_repeats(expected: Sequence[Expected]) -> None:
    seen: set[Key] = set()
    for run in expected:
        if run.arm not in ARMS:
            raise SafsError(f"unknown arm {run.arm!r}; known: {', '.join(ARMS)}")
        if run.key in seen:
            raise SafsError(f"run {run.key} is expected twice")
        seen.add(run.key)


def _read(run: Expected) -> tuple[Record | None, tuple[str, str]]:
    """The record, or None with (status, reason); the reason names files without folders."""
    try:
        record = Record.read(run.path)
    except FileNotFoundError:
        return None, ("missing", f"no record {run.path.name}")
    except OSError as error:
        return None, ("invalid", f"{run.path.name}: {error.strerror}")
    except SafsError as error:
        return None, ("invalid", "; ".join(str(error).splitlines()))
    if record.key != run.key:
        return None, ("invalid", f"{run.path.name}: is of run {record.key}; expected {run.key}")
    return record, (record.status, record.reason or "")


def _row(run: Expected, record: Record | None, problem: tuple[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(NUMBERS, np.nan) | dict.fromkeys(TEXTS, "")
    row |= {"pair": run.pair, "ratio": run.ratio, "replicate": run.replicate}
    row |= {"method": run.arm, "status": problem[0], "reason": problem[1]}
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
    test, validation, train = record.test, record.validation, record.train
    found: dict[str, Any] = {}
    if test:
        found |= {"top1": 100 * test.top1, "top5": 100 * test.top5, "images": test.images}
        found |= {"loss": _nan(test.loss)}
    if validation:
        found |= {"validation_top1": 100 * _nan(validation.top1)}
        found |= {"validation_loss": _nan(validation.loss)}
    if train:
        found |= {"train_loss": _nan(train.loss), "train_accuracy": 100 * _nan(train.accuracy)}
    return found


def _spent(record: Record) -> dict[str, Any]:
    epochs, seconds, trials = record.epochs, record.seconds, record.trials
    purposes = ("final", "search", "tune")
    found: dict[str, Any] = {f"epochs_{name}": getattr(epochs, name) for name in purposes}
    found |= {f"seconds_{name}": getattr(seconds, name) for name in purposes}
    found |= {"epochs": epochs.final + epochs.search + epochs.tune}
    found |= {"seconds": seconds.final + seconds.search + seconds.tune}
    return found | {"trials_search": trials.search, "trials_tune": trials.tune}


def _sizes(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = {}
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
        found |= {"connected": len(reach.connected), "classes": reach.classes}
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
    pruned = [run for run in runs if run.arm != "dense" and run.status == "ok"]
    _agree((("all", (r.protocol.version, r.protocol.preset), r) for r in runs), "protocol")
    _agree((("all", r.profile, r) for r in runs), "profile")
    _agree(((r.dataset, sorted(r.digests.data.items()), r) for r in runs), "data checksums")
    tested = ((r, r.test) for r in runs if r.test)
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
