"""The result schema: one JSON record per (pair, ratio, replicate, method), version 1.

Units: accuracies, losses' caps and ratios are fractions in [0, 1], times are seconds, the rest are
counts. JSON knows no NaN: a number that is not finite is ``null``, and only where the schema says
so. A failed run is a record too; it carries its reason and no test result.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from bench.arms import ARMS, Arm
from bench.errors import BenchError
from bench.files import write_text

__all__ = ["ARMS", "SCHEMA_VERSION", "Arm", "Record", "describe", "pack", "validate_file"]

SCHEMA_VERSION = 1

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]
Problem = tuple[tuple[str, ...], object, str]
"""Where (key path), what stands there, what was expected."""


class Model(BaseModel):
    """Base of the schema: immutable, unknown keys and non-finite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Protocol(Model):
    """Version of the rules and the named preset (``paper``, ``as_released``)."""

    version: Positive
    preset: str


class Test(Model):
    """The one reading of the test images.

    ``correct`` is base64 of ``numpy.packbits`` over the per-image top-1 correctness, in the order
    of the test set. ``loss`` is the mean loss per image, ``null`` if not finite.
    """

    __test__ = False  # not a pytest class

    images: Positive
    top1: Fraction
    top5: Fraction
    loss: float | None
    correct: str

    def bits(self) -> npt.NDArray[np.bool_]:
        """Per-image correctness, shape ``(images,)``. Raises BenchError if it does not fit."""
        try:
            raw = base64.b64decode(self.correct, validate=True)
        except binascii.Error:
            raise BenchError("test.correct: not base64") from None
        if len(raw) != (self.images + 7) // 8:
            raise BenchError(f"test.correct: {len(raw)} bytes for {self.images} images")
        packed = np.frombuffer(raw, dtype=np.uint8)
        return np.unpackbits(packed, count=self.images).astype(np.bool_)


class Validation(Model):
    """Validation images after the last epoch."""

    top1: Fraction | None
    loss: float | None


class Train(Model):
    """Training images during the last epoch."""

    loss: float | None
    accuracy: Fraction | None


class Epochs(Model):
    """Training epochs spent, by purpose."""

    final: Count
    search: Count
    tune: Count


class Trials(Model):
    """Trainings inside stage 1 (``search``) and stage 2 (``tune``)."""

    search: Count
    tune: Count


class Times(Model):
    """Seconds spent training, by purpose: of the ``processor`` or on the ``wall`` clock.

    Processor time is what a core worked, whatever else ran on it; a GPU's time is wall time.
    """

    final: Seconds
    search: Seconds
    tune: Seconds
    of: Literal["processor", "wall"] = "wall"


class Memory(Model):
    """Peak memory of the final training: the ``device``'s, or the resident one of a ``process``."""

    bytes: Count
    of: Literal["device", "process"]


class Device(Model):
    """Where it ran: ``cpu`` or ``cuda``, and the processor's name."""

    type: str
    name: str


class Layer(Model):
    """Weights of a prunable layer, and those its mask keeps."""

    total: Positive
    kept: Count


class Parameters(Model):
    """Parameter counts of the network; ``activation`` are the learnable ones of the slots."""

    total: Positive
    nonzero: Count
    prunable: Count
    activation: Count
    layers: dict[str, Layer]


class Macs(Model):
    """Multiply-accumulates of convolutions and linear layers for one image (Appendix D).

    ``dense`` are those of the network without its mask, ``sparse`` those of surviving weights.
    """

    dense: Positive
    sparse: Count


class Connectivity(Model):
    """Classes still reachable from the input and the accuracy that this allows at most."""

    connected: list[int]
    classes: Positive
    cap: Fraction


class Slot(Model):
    """One activation slot: y = alpha f(beta x); ``null`` where a scale does not apply."""

    name: str
    operator: str
    alpha: float | None
    beta: float | None
    own: dict[str, float | list[float]] = Field(default_factory=dict)


class Recipe(Model):
    """Hyperparameters of the final training."""

    optimizer: str
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: str
    restart_epochs: Positive | None = None
    batch_size: Positive


class Digests(Model):
    """Digests that identify inputs and result; ``weights`` is null for a failed run only."""

    parameters: str
    data: dict[str, str]
    weights: str | None
    identity: str


class Environment(Model):
    """What it ran on; ``git`` is the commit, null outside a repository."""

    python: str
    platform: str
    cpu: str
    packages: dict[str, str]
    git: str | None


class Record(Model):
    """The result of one run. See the module for units and :data:`bench.arms.ARMS` for methods.

    A record with ``status`` ok has ``test``, ``parameters``, ``recipe`` and ``digests.weights``
    and, unless it is dense, ``connectivity``; one with ``status`` failed has ``reason`` and no
    ``test``. ``bits`` is what another run must share to repeat the final training bit for bit:
    processor, PyTorch and, where they trained, the kernels' source, compiler and flags.
    ``acceleration`` are the ways of faster arithmetic that were on, each of which rounds otherwise.
    """

    schema_: Annotated[int, Field(alias="schema")] = SCHEMA_VERSION
    protocol: Protocol
    profile: str
    pair: str
    network: str
    dataset: str
    ratio: Annotated[float, Field(ge=0, lt=1)]
    replicate: Count
    fold: Count
    method: str
    status: Literal["ok", "failed"]
    reason: str | None = None
    test: Test | None = None
    validation: Validation | None = None
    train: Train | None = None
    epochs: Epochs
    trials: Trials
    seconds: Times
    memory: Memory | None = None
    device: Device
    backend: str
    acceleration: dict[str, bool | str] = Field(default_factory=dict)
    threads: Positive
    parameters: Parameters | None = None
    macs: Macs | None = None
    connectivity: Connectivity | None = None
    slots: list[Slot] = Field(default_factory=list)
    recipe: Recipe | None = None
    digests: Digests
    bits: dict[str, str] = Field(default_factory=dict)
    environment: Environment

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = list(_inconsistencies(self))
        if problems:
            raise ValidationError.from_exception_data("Record", [detail(p) for p in problems])
        return self

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read and check a record. Raises BenchError, naming every problem, or OSError."""
        try:
            return cls.model_validate_json(path.read_bytes(), strict=True)
        except ValidationError as error:
            raise BenchError("\n".join(describe(error, path.name))) from None

    def text(self) -> str:
        """The record as JSON: sorted keys, one space of indent, newline at the end."""
        data = self.model_dump(mode="json", by_alias=True)
        return json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Write the record atomically to ``path``."""
        write_text(path, self.text())


def pack(correct: npt.ArrayLike) -> str:
    """Encode per-image correctness, shape ``(images,)``, as :class:`Test` stores it."""
    bits = np.packbits(np.asarray(correct, dtype=np.bool_))
    return base64.b64encode(bits.tobytes()).decode("ascii")


def validate_file(path: Path) -> list[str]:
    """Problems of a record file: one line each with file, key path, value and expectation."""
    try:
        Record.model_validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        return describe(error, str(path))
    except OSError as error:
        return [f"{path}: cannot be read: {error.strerror}; expected a record (JSON)"]
    return []


def describe(
    error: ValidationError, source: str, lines: Mapping[tuple[str, ...], int] | None = None
) -> list[str]:
    """One line per problem of ``error``, each starting with ``source`` and the key path.

    ``lines`` are the line numbers of key paths in the file; with it ``source`` gets one.
    """
    found = [dict(detail) for detail in error.errors(include_url=False)]
    return [_line(_at(source, detail, lines), detail) for detail in found]


def _at(source: str, detail: dict[str, Any], lines: Mapping[tuple[str, ...], int] | None) -> str:
    """``source`` with the line of the problem, or of the nearest key around it."""
    if lines is None:
        return source
    told = re.search(r" at line (\d+)", str(detail["msg"]))
    if told and detail["type"] == "json_invalid":
        return f"{source}:{told[1]}"
    path = tuple(str(part) for part in detail["loc"])
    return (
        f"{source}:{next(lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines)}"
    )


def _line(source: str, detail: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in detail["loc"]) or "(whole file)"
    message = str(detail["msg"])
    if detail["type"] == "json_invalid":
        return f"{source}: {where}: not JSON: {message.removeprefix('Invalid JSON: ')}"
    if detail["type"] == "missing":
        return f"{source}: {where}: missing; expected a value"
    if detail["type"] == "extra_forbidden":
        return f"{source}: {where}: unknown key{_nearest(str(detail['loc'][-1]))}"
    expected = message.removeprefix("Input should be ")
    return f"{source}: {where}: got {_short(detail['input'])}; expected {expected}"


def _short(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _nearest(key: str) -> str:
    known = sorted({name for model in _models(Record) for name in _keys(model)})
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else "; expected only keys of the schema"


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(root: type[BaseModel]) -> list[type[BaseModel]]:
    return [root, *Model.__subclasses__()]


def detail(problem: Problem) -> InitErrorDetails:
    """A problem as pydantic reports it."""
    where, value, expected = problem
    text = expected.replace("{", "(").replace("}", ")")
    return InitErrorDetails(type=PydanticCustomError("bench", text), loc=where, input=value)


def _inconsistencies(record: Record) -> Iterator[Problem]:
    """Everything that one field alone cannot show to be wrong."""
    yield from _header_problems(record)
    yield from _status_problems(record)
    if record.test is not None:
        yield from _test_problems(record.test)
    if record.parameters is not None:
        yield from _count_problems(record.parameters)
    if record.connectivity is not None:
        yield from _connectivity_problems(record.connectivity)


def _header_problems(record: Record) -> Iterator[Problem]:
    if record.schema_ != SCHEMA_VERSION:
        yield ("schema",), record.schema_, f"schema version {SCHEMA_VERSION}"
    if record.method not in ARMS:
        close = difflib.get_close_matches(record.method, ARMS, n=1)
        hint = f"{close[0]!r}? Known: " if close else "one of: "
        yield ("method",), record.method, hint + ", ".join(ARMS)
    if record.seconds.of == "processor" and record.device.type != "cpu":
        yield ("seconds", "of"), record.seconds.of, f"wall on {record.device.type}"
    if record.method == "dense" and record.ratio != 0:
        yield ("ratio",), record.ratio, "0.0 for method dense"
    if record.method == "dense" and record.connectivity is not None:
        yield ("connectivity",), "an object", "null for method dense"


def _status_problems(record: Record) -> Iterator[Problem]:
    if record.status == "failed":
        if not record.reason:
            yield ("reason",), record.reason, "the reason of a failed run"
        if record.test is not None:
            yield ("test",), "an object", "null for a failed run"
        return
    if record.reason is not None:
        yield ("reason",), record.reason, "null for a run that is ok"
    needed: dict[tuple[str, ...], object] = {
        ("test",): record.test,
        ("parameters",): record.parameters,
        ("recipe",): record.recipe,
        ("digests", "weights"): record.digests.weights,
    }
    if record.method != "dense":
        needed[("connectivity",)] = record.connectivity
    for where, value in needed.items():
        if value is None:
            yield where, None, "a value, as the run is ok"


def _test_problems(test: Test) -> Iterator[Problem]:
    if test.top1 > test.top5:
        yield ("test", "top1"), test.top1, f"at most top5 = {test.top5}"
    try:
        share = int(test.bits().sum()) / test.images
    except BenchError as error:
        yield ("test", "correct"), test.correct, f"packed bits of the images ({error})"
        return
    if abs(share - test.top1) > 1e-9:
        yield ("test", "top1"), test.top1, f"{share}, the share of ones in test.correct"


def _count_problems(counts: Parameters) -> Iterator[Problem]:
    if counts.nonzero > counts.total:
        yield ("parameters", "nonzero"), counts.nonzero, f"at most total = {counts.total}"
    if counts.prunable > counts.total:
        yield ("parameters", "prunable"), counts.prunable, f"at most total = {counts.total}"
    for name, layer in counts.layers.items():
        if layer.kept > layer.total:
            where = ("parameters", "layers", name, "kept")
            yield where, layer.kept, f"at most total = {layer.total}"


def _connectivity_problems(found: Connectivity) -> Iterator[Problem]:
    known = all(0 <= label < found.classes for label in found.connected)
    if not known or len(set(found.connected)) != len(found.connected):
        yield (
            ("connectivity", "connected"),
            found.connected,
            f"distinct classes from 0 to {found.classes - 1}",
        )
