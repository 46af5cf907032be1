"""The result schema: one JSON record per (pair, ratio, replicate, arm), version 2.

Units: accuracies, caps and ratios are fractions in [0, 1], times are seconds, the rest are
counts. JSON knows no NaN: a number that is not finite is ``null``, and only where the schema says
so. A run has one or more final trainings; a failed one is told with its reason and has no test
result.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from safs.errors import SafsError
from safs.rows import Outcome
from safs.settings import PROTOCOL_VERSION
from safs.spec import Count, Float32, Fraction, Items, Positive, Recipe, Spec, Text

SCHEMA_VERSION = 2

Key = tuple[str, float, int, str]
"""Identity of a run: (pair, ratio, replicate, arm); dense has ratio 0.0."""
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Loss = Annotated[Float32, Field(ge=0)]


class Protocol(Spec):
    """Version of the rules and the named preset (``paper``, ``as_released``)."""

    version: Annotated[Positive, Field(le=PROTOCOL_VERSION)]
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
    them are held out. ``dense`` and ``finals`` are the :data:`~safs.rows.Outcome` of those
    trainings, ``candidates`` and ``trials`` those of the searches behind the arm in their order,
    ``mask`` the head of the digest of the mask's file. A dense run has no link but ``data`` and its
    final; a link that is null was not made, because what is before it failed.
    """

    data: Outcome
    dense: Outcome | None = None
    mask: Outcome | None = None
    candidates: Items[Outcome] = Field(default_factory=list)
    trials: Items[Outcome] = Field(default_factory=list)
    finals: Annotated[Items[Outcome], Field(min_length=1)]


class Environment(Spec):
    """What it ran on; ``git`` is the commit, null outside a repository."""

    python: Text
    platform: Text
    cpu: Text
    packages: dict[Text, Text]
    git: Text | None


class Contents(Spec):
    """The fields of a record, each checked by itself.

    See the module for units and :data:`safs.arms.ARMS` for arms.

    A record with a final that is ok has ``parameters`` and ``recipe`` and, unless it is dense,
    ``connectivity``. ``history`` are some epochs of the first final (:data:`HISTORY`, a list for
    each), ``slots`` what it learned. ``classes`` is the number of classes of the data set. ``bits``
    is what another run must share to repeat the final trainings bit for bit; with ``portable``,
    where the kernels did all the training that it rests on, any processor will do. ``compiler``
    built the kernels.
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
    classes: Positive
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

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(("portable", "compiler"), plain(self))

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


def _without(names: tuple[str, ...], plain: dict[str, Any]) -> dict[str, Any]:
    """Plain data without those of these fields that are null."""
    return {k: v for k, v in plain.items() if k not in names or v is not None}


def pack(correct: npt.ArrayLike) -> str:
    """Encode per-image correctness, shape ``(images,)``, as :class:`Test` stores it."""
    bits = np.packbits(np.asarray(correct, dtype=np.bool_))
    return base64.b64encode(bits.tobytes()).decode("ascii")
