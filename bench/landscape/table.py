"""The table of a landscape: its file, and the reader that searches are tried on.

A row is one training of stage 1: a chromosome of a replicate, under a batch order. The file is
Parquet under a digest of its content; how long trainings took stands in a file beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from bench.landscape.space import SAME, Chromosome, Space
from safs.checked import typed
from safs.errors import SafsError, shown
from safs.files import replacing
from safs.spec import Count, Epochs, Fraction, Positive, Recipe, Spec, Text

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

VERSION = 1
"""Version of the file; a reader knows exactly one."""
KEYS = ["replicate", "order", "index"]
_KEY = b"landscape"
_TYPES = {"replicate": "uint16", "order": "uint8", "index": "uint32"}
_ENDED = {
    "validation_accuracy": "float32", "test_accuracy": "float32",
    "failed_epoch": "uint32", "failed_step": "uint32", "outcome": "uint64",
}  # fmt: skip


class Begun(Spec):
    """What the trainings of a replicate start from: digests of dense network and mask."""

    dense: Text
    mask: Text


class Meta(Spec):
    """What a table says of itself.

    Attributes:
        profile, pair, ratio, seed: whose trainings these are; ``seed`` is the root seed.
        classes: of the data set.
        protocol: version of the protocol.
        operators: candidates of stage 1.
        slots: of the network, in the order of use.
        trained: the operators whose chromosomes are trained, in the order in which they were, each
            once.
        epochs: those after which losses are noted; the last is the end of a training.
        recipe: of every training.
        data, test_data: checksums of the training and the test images.
        starts: by replicate, as text.
        code: fingerprints of the code that trained.
        bits: what decides the bits of a training.
    """

    landscape: int = VERSION
    profile: Text
    pair: Text
    ratio: Fraction
    classes: Positive
    seed: Count
    protocol: Count
    operators: tuple[Text, ...]
    slots: tuple[Text, ...]
    trained: tuple[Text, ...]
    epochs: Annotated[tuple[Epochs, ...], Field(min_length=1)]
    recipe: Recipe
    data: Text
    test_data: Text
    starts: dict[str, Begun]
    code: tuple[Text, ...]
    bits: dict[str, str]

    @property
    def space(self) -> Space:
        """All chromosomes that there are."""
        return Space(self.operators, self.slots)

    @property
    def types(self) -> dict[str, str]:
        """The columns of the table and their types, in order."""
        return _TYPES | {loss_at(epoch): "float32" for epoch in self.epochs} | _ENDED


def loss_at(epoch: int) -> str:
    """The column of the training loss after an epoch."""
    return f"train_loss_{epoch}"


class Landscape:
    """A table of trainings, to be looked up instead of trained.

    Losses are means over an epoch in nats, accuracies fractions; both have single precision. A
    failed training has neither from its ``failed_epoch`` on (0: it did not fail). ``outcome`` are
    the first 64 bits of the digest of what a training computed
    (:meth:`safs.rows.Trained.outcome`).

    Args:
        meta: what the table says of itself.
        frame: a row per training, the columns of :attr:`Meta.types`.
        seconds: of processor time, one per row; None where they are not known.
    """

    def __init__(self, meta: Meta, frame: pd.DataFrame, seconds: np.ndarray | None = None) -> None:
        self.meta = meta
        self.space = meta.space
        self.frame = frame
        self.seconds = np.full(len(frame), np.nan) if seconds is None else seconds
        self._losses = {e: frame[loss_at(e)].to_numpy() for e in meta.epochs}
        self._validation = frame["validation_accuracy"].to_numpy()
        self._test = frame["test_accuracy"].to_numpy()

    @cached_property
    def _rows(self) -> dict[tuple[int, int], np.ndarray]:
        """By replicate and order: the row of each chromosome, -1 where there is none."""
        replicate, order, index = (self.frame[key].to_numpy() for key in KEYS)
        found = {}
        for r, o in sorted(set(zip(replicate.tolist(), order.tolist(), strict=True))):
            own = np.flatnonzero((replicate == r) & (order == o))
            found[r, o] = np.full(len(self.space), -1, dtype=np.int64)
            found[r, o][index[own]] = own
        return found

    @property
    def replicates(self) -> tuple[int, ...]:
        """The replicates that have rows: a mask, and images held out, each."""
        return tuple(sorted({replicate for replicate, order in self._rows if order == 0}))

    @cached_property
    def distinct(self) -> tuple[str, ...]:
        """The operators of which every chromosome is there, on every replicate; each once."""
        complete: list[str] = []
        for name, shell in zip(
            self.meta.trained, self.space.shells(self.meta.trained), strict=True
        ):
            if not all((self._rows[r, 0][shell] >= 0).all() for r in self.replicates):
                break
            complete.append(name)
        return tuple(complete)

    @cached_property
    def operators(self) -> tuple[str, ...]:
        """The candidates of a search on this table, under all their names (Acon is Swish)."""
        here = set(self.distinct)
        return tuple(name for name in self.meta.operators if SAME.get(name, name) in here)

    @cached_property
    def indices(self) -> np.ndarray:
        """The numbers of all chromosomes of :attr:`distinct`, ascending."""
        shells = self.space.shells(self.distinct)
        return np.sort(np.array([index for shell in shells for index in shell], dtype=np.int64))

    def trained(self, replicate: int, order: int = 0) -> frozenset[int]:
        """The numbers of the chromosomes that a replicate has rows of."""
        rows = self._rows.get((replicate, order))
        return frozenset() if rows is None else frozenset(np.flatnonzero(rows >= 0).tolist())

    def _of(self, replicate: int, order: int = 0) -> np.ndarray:
        """The row of each chromosome. Raises SafsError where the table has no such replicate."""
        if (replicate, order) not in self._rows:
            known = ", ".join(map(str, self.replicates))
            raise SafsError(
                f"replicate {shown(replicate)}, order {shown(order)}: not in this table; "
                f"replicates: {known}"
            )
        return self._rows[replicate, order]

    def row(self, chromosome: Sequence[str], replicate: int = 0, order: int = 0) -> int:
        """The number of a training's row in ``frame``. Raises SafsError if it has none."""
        row = int(self._of(replicate, order)[self.space.index(chromosome)])
        if row < 0:
            raise SafsError(f"{' '.join(chromosome)}: not in this table, which has every "
                            f"chromosome of {', '.join(self.operators)}")  # fmt: skip
        return row

    def evaluate(
        self, chromosome: Sequence[str], replicate: int = 0, epochs: int | None = None
    ) -> dict[str, float]:
        """What a search may see of a chromosome: never its test accuracy.

        Args:
            chromosome: an operator per slot.
            replicate: whose mask.
            epochs: how far it is trained; None is to the end.

        Returns:
            ``cost``, the training loss, infinite where the training failed; ``seconds`` of
            processor time, estimated where it ends early; at the end ``validation_accuracy``, 0
            for a failed training.

        Raises:
            SafsError: the table has no such training, or does not know that epoch.
        """
        row, end = self.row(chromosome, replicate), self.meta.epochs[-1]
        at = end if epochs is None else epochs
        if at not in self._losses:
            known = ", ".join(map(str, self.meta.epochs))
            raise SafsError(f"epochs {shown(epochs)}: expected one of {known}")
        loss = float(self._losses[at][row])
        told = {"cost": loss if np.isfinite(loss) else np.inf}
        told["seconds"] = float(self.seconds[row]) * at / end
        return told | ({"validation_accuracy": _or_0(self._validation[row])} if at == end else {})

    def final(self, chromosome: Sequence[str], replicate: int = 0) -> float:
        """Test accuracy, for the report of a search that has ended; 0 for a failed training."""
        return _or_0(self._test[self.row(chromosome, replicate)])

    def optimum(self, replicate: int = 0) -> tuple[Chromosome, float]:
        """The chromosome of the lowest loss at the end, and that loss.

        Raises:
            SafsError: the table has no such replicate, or all of its trainings failed.
        """
        loss = self._losses[self.meta.epochs[-1]][self._of(replicate)[self.indices]]
        if np.isnan(loss).all():
            raise SafsError(f"replicate {replicate}: every training failed")
        best = int(np.nanargmin(loss))
        return self.space.chromosome(int(self.indices[best])), float(loss[best])

    def values(self, column: str, replicate: int = 0, order: int = 0) -> np.ndarray:
        """A column for each of :attr:`indices`; NaN where there is no such training."""
        rows = self._rows.get((replicate, order), np.full(len(self.space), -1))[self.indices]
        found = self.frame[column].to_numpy()[rows].astype(float)
        found[rows < 0] = np.nan
        return found

    def configspace(self, seed: int | None = None) -> ConfigurationSpace:
        """The space for a library that optimises: a categorical parameter per slot."""
        from ConfigSpace import Categorical, ConfigurationSpace

        space = ConfigurationSpace(seed=seed)
        space.add([Categorical(name, list(self.operators)) for name in self.meta.slots])
        return space

    def chromosome(self, configuration: Mapping[str, Any]) -> Chromosome:
        """The chromosome of a configuration of :meth:`configspace`."""
        missing = [slot for slot in self.meta.slots if slot not in configuration]
        if missing:
            raise SafsError(f"configuration without {missing[0]}; expected "
                            f"{', '.join(self.meta.slots)}")  # fmt: skip
        return tuple(str(configuration[slot]) for slot in self.meta.slots)

    @property
    def digest(self) -> str:
        """Digest of what the table says of itself and of every row; not of the file's bytes."""
        content = hashlib.sha256(json.dumps(self.meta.model_dump(mode="json")).encode())
        for name, kind in self.meta.types.items():
            column = self.frame[name].to_numpy().astype(np.dtype(kind).newbyteorder("<"))
            content.update(name.encode() + column.tobytes())
        return content.hexdigest()

    def write(self, path: Path) -> Path:
        """Write the file, and beside it the one of the seconds, atomically."""
        times = self.frame[KEYS].assign(seconds=self.seconds.astype(np.float32))
        _write(times_of(path), times, _TYPES | {"seconds": "float32"}, {})
        about = {"digest": self.digest, **self.meta.model_dump(mode="json")}
        return _write(path, self.frame, self.meta.types, about)


def load(path: str | Path) -> Landscape:
    """Read and check a table.

    Args:
        path: its file, or the folder of one.

    Raises:
        SafsError: there is none, or it is damaged or not such a table.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(path.rglob("landscape-*.parquet"))
        if len(found) != 1:
            names = ", ".join(map(str, found)) or "none"
            raise SafsError(
                f"{path}: expected one table of a landscape, landscape-*.parquet; found {names}"
            )
        path = found[0]
    about, frame = _read(path)
    if about.get("landscape") != VERSION:
        raise SafsError(f"{path}: landscape: expected a table of version {VERSION}")
    told = about.pop("digest", None)
    meta = typed(Meta, json.dumps(about), path)
    if list(frame.columns) != list(meta.types):
        raise SafsError(f"{path}: expected the columns {', '.join(meta.types)}")
    _check_types(path, meta, frame)
    table = Landscape(meta, frame, _times(times_of(path), frame))
    if table.digest != told:
        raise SafsError(f"{path}: its content does not fit its digest: damaged or edited")
    if len(frame) and frame["index"].max() >= len(table.space):
        raise SafsError(f"{path}: index {frame['index'].max()}: expected less than "
                        f"{len(table.space)}, the chromosomes of its operators")  # fmt: skip
    if frame.duplicated(KEYS).any():
        raise SafsError(f"{path}: a training stands twice; expected each once")
    _check_ranges(path, meta, frame)
    return table


def _check_types(path: Path, meta: Meta, frame: pd.DataFrame) -> None:
    """Other types would be cast to those that the digest is of, and so pass under it."""
    for name, kind in meta.types.items():
        if frame[name].dtype != np.dtype(kind):
            raise SafsError(f"{path}: column {name}: type {frame[name].dtype}; expected {kind}")


def _check_ranges(path: Path, meta: Meta, frame: pd.DataFrame) -> None:
    """Losses are of 0 or more, accuracies of 0 to 1; NaN where a training has none."""
    limits = {loss_at(epoch): np.inf for epoch in meta.epochs}
    for name, most in (limits | {"validation_accuracy": 1.0, "test_accuracy": 1.0}).items():
        found = frame[name].to_numpy()
        bad = found[(found < 0) | (found > most)]
        if len(bad):
            expected = "0 or more" if most == np.inf else "0 to 1"
            raise SafsError(f"{path}: column {name}: {bad[0]:g}; expected {expected}, or NaN")


def _or_0(accuracy: float) -> float:
    """An accuracy; 0 for a training that failed, which has none."""
    return float(accuracy) if np.isfinite(accuracy) else 0.0


def name_of(ratio: float) -> str:
    """The name of the file of a pruning ratio."""
    return f"landscape-{ratio}.parquet"


def times_of(path: Path) -> Path:
    """The file of the seconds beside a table."""
    return path.with_name(path.name.replace("landscape-", "seconds-"))


def _write(path: Path, frame: pd.DataFrame, types: Mapping[str, str], about: Any) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {name: pa.array(frame[name].to_numpy().astype(kind)) for name, kind in types.items()}
    schema = pa.table(columns).schema.with_metadata({_KEY: json.dumps(about).encode()})
    whole = [name for name, kind in types.items() if kind.startswith("u") and name != "outcome"]
    with replacing(path) as temporary:
        parquet.write_table(
            pa.table(columns, schema=schema),
            temporary,
            compression="zstd",
            compression_level=19,
            use_dictionary=False,
            column_encoding={
                name: "DELTA_BINARY_PACKED" if name in whole else "BYTE_STREAM_SPLIT"
                for name in types
            },
        )
    return path


def _read(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        about = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
    except FileNotFoundError:
        raise SafsError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SafsError(f"{path}: not a Parquet file that can be read: "
                        f"{str(error).splitlines()[0]}") from None  # fmt: skip
    if not isinstance(about, dict):
        raise SafsError(f"{path}: expected a table of a landscape")
    return about, table.to_pandas()


def _times(path: Path, frame: pd.DataFrame) -> np.ndarray | None:
    """The seconds of a table's rows; None where their file is not there or of other rows."""
    if not path.is_file():
        return None
    _, times = _read(path)
    if not {"seconds", *KEYS} <= set(times) or len(times) != len(frame):
        return None
    same = all((times[key].to_numpy() == frame[key].to_numpy()).all() for key in KEYS)
    return times["seconds"].to_numpy() if same else None
