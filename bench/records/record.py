"""The result schema: one JSON record per (pair, ratio, replicate, arm), version 2.

Units: accuracies, losses' caps and ratios are fractions in [0, 1], times are seconds, the rest are
counts. JSON knows no NaN: a number that is not finite is ``null``, and only where the schema says
so. A run has one or more final trainings; a failed one is told with its reason and has no test
result. Records of version 1 are read as if they had been written so (:mod:`bench.records.older`).
"""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from bench.records import older
from safs import checked, sealed
from safs.arms import ARMS
from safs.errors import SafsError
from safs.files import json_text, write_text
from safs.rows import Outcome
from safs.spec import Count, Float32, Fraction, Items, Positive, Recipe, Spec, Text

SCHEMA_VERSION = 2

Key = tuple[str, float, int, str]
"""Identity of a run: (pair, ratio, replicate, arm); dense has ratio 0.0."""
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Loss = Annotated[Float32, Field(ge=0)]
Problem = tuple[tuple[str, ...], object, str]
"""Where (key path), what stands there, what was expected."""


class Protocol(Spec):
    """Version of the rules and the named preset (``paper``, ``as_released``)."""

    version: Positive
    preset: Text


class Test(Spec):
    """The one reading of the test images.

    ``correct`` is base64 of ``numpy.packbits`` over the per-image top-1 correctness, in the order
    of the test set. ``loss`` is the mean loss per image, ``null`` if not finite, which only records
    of older versions of the protocol say: since version 3 such a final has failed.
    """

    __test__ = False  # not a pytest class

    images: Positive
    top1: Fraction
    top5: Fraction
    loss: Loss | None
    correct: Text

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
    loss: Loss | None


class Train(Spec):
    """Training images during the last epoch."""

    loss: Loss | None
    accuracy: Fraction | None


class Flow(Spec):
    """Means over the epochs of a final training: gradient flow, as :data:`HISTORY` names it."""

    flow: float | None
    flow_step: float | None
    flow_released: float | None


class Final(Spec):
    """One of a run's final trainings, which differ in batch order alone.

    A failed one has a ``reason`` and nothing else. ``weights`` is the digest of the file of those
    that met the test images.
    """

    reason: Text | None = None
    test: Test | None = None
    validation: Validation | None = None
    train: Train | None = None
    flow: Flow | None = None
    weights: Text | None = None


HISTORY = (
    "epoch", "lr", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "flow",
    "flow_step", "flow_released",
)  # fmt: skip
"""What a training leaves behind after an epoch. Accuracies are fractions; ``flow`` is the mean over
steps of lr ||g||^2 (Appendix B), ``flow_step`` that of -g . delta, ``flow_released`` the mean
absolute gradient of the last batch, as the released code has it."""
EPOCHS_KEPT = 20
"""Epochs that a record keeps of its first final training, evenly spread, the last among them."""


class EpochsSpent(Spec):
    """Training epochs spent, by purpose; ``final`` counts the first final training alone."""

    final: Count
    search: Count
    tune: Count


class Trials(Spec):
    """Trainings inside stage 1 (``search``) and stage 2 (``tune``)."""

    search: Count
    tune: Count


class Times(Spec):
    """Seconds spent training, by purpose: of the ``processor`` or on the ``wall`` clock.

    ``final`` counts the first final training alone. Processor time is what a core worked, whatever
    else ran on it; a GPU's time is wall time.
    """

    final: Seconds
    search: Seconds
    tune: Seconds
    of: Literal["processor", "wall"] = "wall"


class Memory(Spec):
    """Peak memory of the first final: the ``device``'s, or the resident one of a ``process``."""

    bytes: Count
    of: Literal["device", "process"]


class Device(Spec):
    """Where it ran, and the processor's name."""

    type: Literal["cpu", "cuda"]
    name: Text


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
    layers: dict[Text, LayerCount]


class Macs(Spec):
    """Multiply-accumulates of convolutions and linear layers for one image (Appendix D).

    ``dense`` are those of the network without its mask, ``sparse`` those of surviving weights.
    """

    dense: Positive
    sparse: Count


class Reach(Spec):
    """Classes still reachable from the input and the accuracy that this allows at most."""

    connected: Items[Count]
    classes: Positive
    cap: Fraction


OWN_KEPT = 1000
"""Own parameters of channels that a record keeps, of all its slots together: of more, those of
every second, third ... channel of each slot."""


class SlotRecord(Spec):
    """One activation slot: y = alpha f(beta x); ``null`` where a scale does not apply.

    ``own`` are the operator's own parameters, a list where every channel has one (SReLU), of which
    a large network's record keeps some (:data:`OWN_KEPT`).
    """

    name: Text
    operator: Text
    alpha: Float32 | None
    beta: Float32 | None
    own: dict[Text, Float32 | Items[Float32]] = Field(default_factory=dict)


class Digests(Spec):
    """Digests that identify inputs and result."""

    parameters: Text
    data: dict[Text, Text]
    identity: Text


class Chain(Spec):
    """What a run rests on, link by link, and its own end.

    ``data`` is a digest of what its replicate trains and validates on: images, labels and which of
    them are held out; null, and not written, in older records. ``dense`` and ``finals`` are the
    :data:`~safs.rows.Outcome` of those trainings, ``candidates`` and ``trials`` those of the
    searches behind the arm in their order, ``mask`` the head of the digest of the mask's file. A
    dense run has no link but ``data`` and its final; a link that is null was not made, because what
    is before it failed.
    """

    data: Outcome | None = None
    dense: Outcome | None = None
    mask: Outcome | None = None
    candidates: Items[Outcome] = Field(default_factory=list)
    trials: Items[Outcome] = Field(default_factory=list)
    finals: Annotated[Items[Outcome], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _of_any_version(cls, values: object) -> object:
        return older.chain(values)

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(("data",), plain(self))


class Environment(Spec):
    """What it ran on; ``git`` is the commit, null outside a repository."""

    python: Text
    platform: Text
    cpu: Text
    packages: dict[Text, Text]
    git: Text | None


class Record(Spec):
    """The result of one run. See the module for units and :data:`safs.arms.ARMS` for arms.

    A record with a final that is ok has ``parameters`` and ``recipe`` and, unless it is dense,
    ``connectivity``. ``history`` are some epochs of the first final (:data:`HISTORY`, a list for
    each), ``slots`` what it learned. ``classes`` is the number of classes of the data set, null in
    an older record of a run that failed. ``bits`` is what another run must share to repeat the
    final trainings bit for bit; with ``portable``, where the kernels did all the training that it
    rests on, any processor will do. ``compiler`` built the kernels.
    ``acceleration`` are the ways of faster arithmetic that were on, each of which rounds otherwise.
    ``digest`` is that of the file that a record stands in (:mod:`safs.sealed`).
    """

    schema_: Annotated[int, Field(alias="schema")] = SCHEMA_VERSION
    protocol: Protocol
    profile: Text
    pair: Text
    network: Text
    dataset: Text
    ratio: Annotated[float, Field(ge=0, lt=1)]
    replicate: Count
    fold: Count
    arm: Text
    classes: Positive | None
    finals: Annotated[Items[Final], Field(min_length=1, max_length=100)]
    history: dict[Text, Items[float | None]] = Field(default_factory=dict)
    epochs: EpochsSpent
    trials: Trials
    seconds: Times
    memory: Memory | None = None
    device: Device
    backend: Text
    portable: bool | None = None
    compiler: Text | None = None
    acceleration: dict[Text, bool | Text] = Field(default_factory=dict)
    threads: Positive
    parameters: Parameters | None = None
    macs: Macs | None = None
    connectivity: Reach | None = None
    slots: Items[SlotRecord] = Field(default_factory=list)
    recipe: Recipe | None = None
    digests: Digests
    chain: Chain | None = None
    bits: dict[Text, Text] = Field(default_factory=dict)
    environment: Environment
    digest: Text | None = None

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    @model_validator(mode="before")
    @classmethod
    def _of_any_version(cls, values: object) -> object:
        return older.record(values)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = list(_inconsistencies(self))
        if problems:
            raise ValidationError.from_exception_data("Record", [detail(p) for p in problems])
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(("portable", "compiler"), plain(self))

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read and check a record. Raises SafsError, naming every problem, or OSError."""
        record = checked.read(cls, path)
        if not sealed.is_sealed(path.read_text(encoding="utf-8")):
            raise SafsError(f"{path.name}: digest: not what was written: damaged, edited or older")
        return record

    @property
    def key(self) -> Key:
        """Identity of the run."""
        return (self.pair, self.ratio, self.replicate, self.arm)

    @property
    def failures(self) -> int:
        """How many of its final trainings failed."""
        return sum(final.reason is not None for final in self.finals)

    @property
    def status(self) -> Literal["ok", "failed"]:
        """Failed if any of its final trainings did."""
        return "failed" if self.failures else "ok"

    @property
    def reason(self) -> str:
        """Why finals failed, each with its number where there are several."""
        several = len(self.finals) > 1
        return "; ".join(
            f"final {number} of {len(self.finals)}: {final.reason}" if several else final.reason
            for number, final in enumerate(self.finals, start=1)
            if final.reason is not None
        )

    def text(self) -> str:
        """The record as sealed JSON (:mod:`safs.sealed`)."""
        return json_text(sealed.seal(self.model_dump(mode="json", by_alias=True)))

    def write(self, path: Path) -> None:
        """Write the record atomically to ``path``."""
        write_text(path, self.text())


def _without(names: tuple[str, ...], plain: dict[str, Any]) -> dict[str, Any]:
    """Plain data without those of these fields that are null: older files do not have them."""
    return {k: v for k, v in plain.items() if k not in names or v is not None}


def pack(correct: npt.ArrayLike) -> str:
    """Encode per-image correctness, shape ``(images,)``, as :class:`Test` stores it."""
    bits = np.packbits(np.asarray(correct, dtype=np.bool_))
    return base64.b64encode(bits.tobytes()).decode("ascii")


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
    yield from _spent_problems(record)
    yield from _slot_problems(record)
    yield from _history_problems(record)
    if record.chain is not None:
        yield from _chain_problems(record, record.chain)
    for place, final in enumerate(record.finals):
        if final.test is not None:
            yield from _test_problems(final.test, ("finals", str(place), "test"))
    if record.parameters is not None:
        yield from _count_problems(record.parameters)
    if record.macs is not None and record.macs.sparse > record.macs.dense:
        yield ("macs", "sparse"), record.macs.sparse, f"at most dense = {record.macs.dense}"
    if record.connectivity is not None:
        yield from _connectivity_problems(record.connectivity)
        if record.classes not in (None, record.connectivity.classes):
            expected = f"{record.classes}, as the record says elsewhere"
            yield ("connectivity", "classes"), record.connectivity.classes, expected


def _digest_problems(record: Record) -> Iterator[Problem]:
    if record.digest is not None:
        expected = sealed.seal(record.model_dump(mode="json", by_alias=True))[sealed.DIGEST]
        if record.digest != expected:
            yield ("digest",), record.digest, "the digest of the content: damaged or edited"


def _header_problems(record: Record) -> Iterator[Problem]:
    if record.schema_ != SCHEMA_VERSION:
        yield ("schema",), record.schema_, f"schema version {SCHEMA_VERSION}"
    if record.fold > record.replicate:
        yield ("fold",), record.fold, f"at most the replicate {record.replicate}"
    for key, value in (("device", record.device.type), ("processor", record.device.name),
                       ("threads", str(record.threads))):  # fmt: skip
        if record.bits.get(key, value) != value:
            yield ("bits", key), record.bits[key], f"{value!r}, as the record says elsewhere"
    if record.arm not in ARMS:
        close = difflib.get_close_matches(record.arm, ARMS, n=1)
        hint = f"{close[0]!r}? Known: " if close else "one of: "
        yield ("arm",), record.arm, hint + ", ".join(ARMS)
    if record.seconds.of == "processor" and record.device.type != "cpu":
        yield ("seconds", "of"), record.seconds.of, f"wall on {record.device.type}"
    if record.arm == "dense" and record.ratio != 0:
        yield ("ratio",), record.ratio, "0.0 for arm dense"
    if record.arm == "dense" and record.connectivity is not None:
        yield ("connectivity",), "an object", "null for arm dense"


def _status_problems(record: Record) -> Iterator[Problem]:
    for place, final in enumerate(record.finals):
        yield from _final_problems(final, ("finals", str(place)))
        if final.test is not None and final.test.loss is None and record.protocol.version >= 3:
            expected = "a number, as a final that is not finite on the test images has failed"
            yield ("finals", str(place), "test", "loss"), None, expected
    if record.failures == len(record.finals):
        return
    needed: dict[str, object] = {"parameters": record.parameters, "recipe": record.recipe}
    if record.arm != "dense":
        needed |= {"connectivity": record.connectivity, "classes": record.classes}
    for where, value in needed.items():
        if value is None:
            yield (where,), None, "a value, as a final training is ok"


def _final_problems(final: Final, at: tuple[str, ...]) -> Iterator[Problem]:
    if final.reason == "":
        yield (*at, "reason"), final.reason, "the reason of a failed training"
    for what in ("test", "weights"):
        value = getattr(final, what)
        if final.reason is not None and value is not None:
            yield (*at, what), "a value", "null for a failed training"
        if final.reason is None and value is None:
            yield (*at, what), None, "a value, as the training is ok"


def _chain_problems(record: Record, chain: Chain) -> Iterator[Problem]:
    for name, links, trainings in (
        ("candidates", chain.candidates, record.trials.search),
        ("trials", chain.trials, record.trials.tune),
        ("finals", chain.finals, len(record.finals)),
    ):
        if len(links) != trainings:
            yield ("chain", name), len(links), f"{trainings} links, one per training"
    for name in ("dense", "mask"):
        link = getattr(chain, name)
        if record.arm == "dense" and link is not None:
            yield ("chain", name), link, "null for arm dense"
        some = record.failures < len(record.finals)
        if record.arm != "dense" and some and link is None:
            yield ("chain", name), None, "a link, as a final training is ok"


def _test_problems(test: Test, at: tuple[str, ...]) -> Iterator[Problem]:
    if test.top1 > test.top5:
        yield (*at, "top1"), test.top1, f"at most top5 = {test.top5}"
    try:
        share = int(test.bits().sum()) / test.images
    except SafsError as error:
        yield (*at, "correct"), test.correct, f"packed bits of the images ({error})"
        return
    if abs(share - test.top1) > 1e-9:
        yield (*at, "top1"), test.top1, f"{share}, the share of ones in test.correct"


def _history_problems(record: Record) -> Iterator[Problem]:
    lengths = {len(values) for values in record.history.values()}
    if record.history and (set(record.history) != set(HISTORY) or len(lengths) > 1):
        yield ("history",), sorted(record.history), f"lists of one length: {', '.join(HISTORY)}"


def _spent_problems(record: Record) -> Iterator[Problem]:
    """An arm without a search, or without tuning, spends nothing on it."""
    if record.arm not in ARMS:
        return
    arm = ARMS[record.arm]
    for stage, used in (("search", arm.searched), ("tune", arm.tuned)):
        for what in ("epochs", "trials", "seconds"):
            value = getattr(getattr(record, what), stage)
            if value and not used:
                yield (what, stage), value, f"0, as arm {record.arm} has no such stage"


def _slot_problems(record: Record) -> Iterator[Problem]:
    scaled = record.arm not in ARMS or ARMS[record.arm].scaled
    seen: set[str] = set()
    for place, slot in enumerate(record.slots):
        if slot.name in seen:
            yield ("slots", str(place), "name"), slot.name, "each slot once"
        seen.add(slot.name)
        for what, value in (("alpha", slot.alpha), ("beta", slot.beta)):
            if value not in (1, None) and not scaled:
                where = ("slots", str(place), what)
                yield where, value, f"1.0, as arm {record.arm} learns no scales"


def _count_problems(counts: Parameters) -> Iterator[Problem]:
    """The layers' counts against each other's sums."""
    total = sum(layer.total for layer in counts.layers.values())
    kept = sum(layer.kept for layer in counts.layers.values())
    if counts.prunable != total:
        yield ("parameters", "prunable"), counts.prunable, f"{total}, the sum of the layers' totals"
    least = total + counts.activation
    if counts.total < least:
        expected = f"at least {least}, the prunable and the activations' own"
        yield ("parameters", "total"), counts.total, expected
    most = counts.total - total + kept
    if not kept <= counts.nonzero <= most:
        expected = f"{kept} to {most}: what the layers keep, and what is not prunable"
        yield ("parameters", "nonzero"), counts.nonzero, expected
    for name, layer in counts.layers.items():
        if layer.kept > layer.total:
            where = ("parameters", "layers", name, "kept")
            yield where, layer.kept, f"at most total = {layer.total}"


def _connectivity_problems(found: Reach) -> Iterator[Problem]:
    least = min(1.0, (len(found.connected) + 1) / found.classes)
    if found.cap < least - 1e-9:
        expected = f"at least {least:.6g}: the share of the connected classes and one more"
        yield ("connectivity", "cap"), found.cap, expected
    known = all(0 <= label < found.classes for label in found.connected)
    if not known or len(set(found.connected)) != len(found.connected):
        expected = f"distinct classes from 0 to {found.classes - 1}"
        yield ("connectivity", "connected"), found.connected, expected
