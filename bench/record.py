"""The result schema: one JSON record per (pair, ratio, replicate, arm), version 1.

Units: accuracies, losses' caps and ratios are fractions in [0, 1], times are seconds, the rest are
counts. JSON knows no NaN: a number that is not finite is ``null``, and only where the schema says
so. A failed run is a record too; it carries its reason and no test result.
"""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from safs import checked, sealed
from safs.arms import ARMS
from safs.errors import SafsError
from safs.rows import Outcome
from safs.spec import Count, Fraction, Positive, Spec

SCHEMA_VERSION = 1

Key = tuple[str, float, int, str]
"""Identity of a run: (pair, ratio, replicate, arm); dense has ratio 0.0."""
Seconds = Annotated[float, Field(ge=0)]
Problem = tuple[tuple[str, ...], object, str]
"""Where (key path), what stands there, what was expected."""


class Protocol(Spec):
    """Version of the rules and the named preset (``paper``, ``as_released``)."""

    version: Positive
    preset: str


class Test(Spec):
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
        """Per-image correctness, shape ``(images,)``. Raises SafsError if it does not fit."""
        try:
            raw = base64.b64decode(self.correct, validate=True)
        except binascii.Error:
            raise SafsError("test.correct: not base64") from None
        if len(raw) != (self.images + 7) // 8:
            raise SafsError(f"test.correct: {len(raw)} bytes for {self.images} images")
        packed = np.frombuffer(raw, dtype=np.uint8)
        return np.unpackbits(packed, count=self.images).astype(np.bool_)


class Validation(Spec):
    """Validation images after the last epoch."""

    top1: Fraction | None
    loss: float | None


class Train(Spec):
    """Training images during the last epoch."""

    loss: float | None
    accuracy: Fraction | None


class EpochsSpent(Spec):
    """Training epochs spent, by purpose."""

    final: Count
    search: Count
    tune: Count


class Trials(Spec):
    """Trainings inside stage 1 (``search``) and stage 2 (``tune``)."""

    search: Count
    tune: Count


class Times(Spec):
    """Seconds spent training, by purpose: of the ``processor`` or on the ``wall`` clock.

    Processor time is what a core worked, whatever else ran on it; a GPU's time is wall time.
    """

    final: Seconds
    search: Seconds
    tune: Seconds
    of: Literal["processor", "wall"] = "wall"


class Memory(Spec):
    """Peak memory of the final training: the ``device``'s, or the resident one of a ``process``."""

    bytes: Count
    of: Literal["device", "process"]


class Device(Spec):
    """Where it ran: ``cpu`` or ``cuda``, and the processor's name."""

    type: str
    name: str


class LayerCount(Spec):
    """Weights of a prunable layer, and those its mask keeps."""

    total: Positive
    kept: Count


class Parameters(Spec):
    """Parameter counts of the network; ``activation`` are the learnable ones of the slots."""

    total: Positive
    nonzero: Count
    prunable: Count
    activation: Count
    layers: dict[str, LayerCount]


class Macs(Spec):
    """Multiply-accumulates of convolutions and linear layers for one image (Appendix D).

    ``dense`` are those of the network without its mask, ``sparse`` those of surviving weights.
    """

    dense: Positive
    sparse: Count


class Reach(Spec):
    """Classes still reachable from the input and the accuracy that this allows at most."""

    connected: list[int]
    classes: Positive
    cap: Fraction


class SlotRecord(Spec):
    """One activation slot: y = alpha f(beta x); ``null`` where a scale does not apply."""

    name: str
    operator: str
    alpha: float | None
    beta: float | None
    own: dict[str, float | list[float]] = Field(default_factory=dict)


class RecipeRecord(Spec):
    """Hyperparameters of the final training."""

    optimizer: str
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: str
    restart_epochs: Positive | None = None
    batch_size: Positive


class Digests(Spec):
    """Digests that identify inputs and result; ``weights`` is null for a failed run only."""

    parameters: str
    data: dict[str, str]
    weights: str | None
    identity: str


class Chain(Spec):
    """What a run rests on, link by link beside ``digests.data``, and its own end.

    ``dense`` and ``final`` are the :data:`~safs.rows.Outcome` of those trainings, ``candidates``
    and ``trials`` those of the searches behind the arm in their order, ``mask`` the head of the
    digest of the mask's file. A dense run has no link but ``final``; a link that is null was not
    made, because what is before it failed.
    """

    dense: Outcome | None = None
    mask: Outcome | None = None
    candidates: list[Outcome] = Field(default_factory=list)
    trials: list[Outcome] = Field(default_factory=list)
    final: Outcome


class Environment(Spec):
    """What it ran on; ``git`` is the commit, null outside a repository."""

    python: str
    platform: str
    cpu: str
    packages: dict[str, str]
    git: str | None


class Record(Spec):
    """The result of one run. See the module for units and :data:`safs.arms.ARMS` for arms.

    A record with ``status`` ok has ``test``, ``parameters``, ``recipe`` and ``digests.weights``
    and, unless it is dense, ``connectivity``; one with ``status`` failed has ``reason`` and no
    ``test``. ``bits`` is what another run must share to repeat the final training bit for bit:
    processor, PyTorch and, where they trained, the kernels' source, compiler and flags.
    ``acceleration`` are the ways of faster arithmetic that were on, each of which rounds otherwise.
    ``digest`` is that of the file that a record stands in (:mod:`safs.sealed`).
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
    arm: Annotated[str, Field(alias="method")]
    status: Literal["ok", "failed"]
    reason: str | None = None
    test: Test | None = None
    validation: Validation | None = None
    train: Train | None = None
    epochs: EpochsSpent
    trials: Trials
    seconds: Times
    memory: Memory | None = None
    device: Device
    backend: str
    acceleration: dict[str, bool | str] = Field(default_factory=dict)
    threads: Positive
    parameters: Parameters | None = None
    macs: Macs | None = None
    connectivity: Reach | None = None
    slots: list[SlotRecord] = Field(default_factory=list)
    recipe: RecipeRecord | None = None
    digests: Digests
    chain: Chain | None = None
    bits: dict[str, str] = Field(default_factory=dict)
    environment: Environment
    digest: str | None = None

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = list(_inconsistencies(self))
        if problems:
            raise ValidationError.from_exception_data("Record", [detail(p) for p in problems])
        return self

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read and check a record. Raises SafsError, naming every problem, or OSError."""
        record = checked.read(cls, path)
        if record.digest is None:
            raise SafsError(f"{path.name}: digest: missing; this edition writes records with one")
        return record

    @property
    def key(self) -> Key:
        """Identity of the run."""
        return (self.pair, self.ratio, self.replicate, self.arm)

    def write(self, path: Path) -> None:
        """Write the record atomically to ``path``, under the digest of its content."""
        sealed.write(path, self.model_dump(mode="json", by_alias=True))


def pack(correct: npt.ArrayLike) -> str:
    """Encode per-image correctness, shape ``(images,)``, as :class:`Test` stores it."""
    bits = np.packbits(np.asarray(correct, dtype=np.bool_))
    return base64.b64encode(bits.tobytes()).decode("ascii")


def validate_file(path: Path) -> list[str]:
    """Problems of a record file: one line each with file, key path, value and expectation."""
    try:
        checked.parsed(Record, path.read_bytes(), path)
    except SafsError as error:
        return str(error).splitlines()
    except OSError as error:
        return [f"{path}: cannot be read: {error.strerror}; expected a record (JSON)"]
    return []


def detail(problem: Problem) -> InitErrorDetails:
    """A problem as pydantic reports it."""
    where, value, expected = problem
    text = expected.replace("{", "(").replace("}", ")")
    return InitErrorDetails(type=PydanticCustomError("bench", text), loc=where, input=value)


def _inconsistencies(record: Record) -> Iterator[Problem]:
    """Everything that one field alone cannot show to be wrong."""
    yield from _digest_problems(record)
    yield from _header_problems(record)
    yield from _status_problems(record)
    if record.chain is not None:
        yield from _chain_problems(record, record.chain)
    if record.test is not None:
        yield from _test_problems(record.test)
    if record.parameters is not None:
        yield from _count_problems(record.parameters)
    if record.connectivity is not None:
        yield from _connectivity_problems(record.connectivity)


def _digest_problems(record: Record) -> Iterator[Problem]:
    if record.digest is not None:
        expected = sealed.seal(record.model_dump(mode="json", by_alias=True))[sealed.DIGEST]
        if record.digest != expected:
            yield ("digest",), record.digest, "the digest of the content: damaged or edited"


def _header_problems(record: Record) -> Iterator[Problem]:
    if record.schema_ != SCHEMA_VERSION:
        yield ("schema",), record.schema_, f"schema version {SCHEMA_VERSION}"
    if record.arm not in ARMS:
        close = difflib.get_close_matches(record.arm, ARMS, n=1)
        hint = f"{close[0]!r}? Known: " if close else "one of: "
        yield ("method",), record.arm, hint + ", ".join(ARMS)
    if record.seconds.of == "processor" and record.device.type != "cpu":
        yield ("seconds", "of"), record.seconds.of, f"wall on {record.device.type}"
    if record.arm == "dense" and record.ratio != 0:
        yield ("ratio",), record.ratio, "0.0 for arm dense"
    if record.arm == "dense" and record.connectivity is not None:
        yield ("connectivity",), "an object", "null for arm dense"


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
    if record.arm != "dense":
        needed[("connectivity",)] = record.connectivity
    for where, value in needed.items():
        if value is None:
            yield where, None, "a value, as the run is ok"


def _chain_problems(record: Record, chain: Chain) -> Iterator[Problem]:
    for name, links, trainings in (
        ("candidates", chain.candidates, record.trials.search),
        ("trials", chain.trials, record.trials.tune),
    ):
        if len(links) != trainings:
            yield ("chain", name), len(links), f"{trainings} links, one per training"
    for name in ("dense", "mask"):
        link = getattr(chain, name)
        if record.arm == "dense" and link is not None:
            yield ("chain", name), link, "null for arm dense"
        if record.arm != "dense" and record.status == "ok" and link is None:
            yield ("chain", name), None, "a link, as the run is ok"


def _test_problems(test: Test) -> Iterator[Problem]:
    if test.top1 > test.top5:
        yield ("test", "top1"), test.top1, f"at most top5 = {test.top5}"
    try:
        share = int(test.bits().sum()) / test.images
    except SafsError as error:
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


def _connectivity_problems(found: Reach) -> Iterator[Problem]:
    known = all(0 <= label < found.classes for label in found.connected)
    if not known or len(set(found.connected)) != len(found.connected):
        expected = f"distinct classes from 0 to {found.classes - 1}"
        yield ("connectivity", "connected"), found.connected, expected
