"""Typed, frozen descriptions of one training: its network, its recipe, how it is computed.

Everything here is plain data (pydantic models without torch), so a description can be checked,
hashed and stored before anything is trained. Unknown keys are errors.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from safs.checked import explained
from safs.errors import SafsError, shown

OptimizerName = Literal["sgd", "adam", "fromage", "tadam"]
ScheduleName = Literal[
    "constant", "step", "linear", "cosine", "halving", "plateau", "warm_restarts", "sawtooth"
]  # fmt: skip
BackendName = Literal["auto", "dense", "sparse"]

KeptEpoch = Literal["last", "best_validation"]
OptimizerRule = Literal["published", "as_released"]
"""A rule of an optimiser as its own paper has it, or as the code released with SAFS does."""
BETAS: Mapping[OptimizerRule, tuple[float, float]] = {
    "published": (0.9, 0.999), "as_released": (0.9, 0.99),
}  # fmt: skip
"""Decays of the first and the second moment of Adam and TAdam."""

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)


def _distinct(values: tuple[H, ...]) -> tuple[H, ...]:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"{shown(value)} stands twice; expected each once")
    return values


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"got {shown(text)}; expected printable characters only")
    return text


LARGEST = 2**53
"""Readers of JSON that know no whole numbers lose digits beyond it."""
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Float32 = Annotated[float, Field(ge=-3.4028235e38, le=3.4028235e38)]
"""A finite number that was computed in single precision."""
Epochs = Annotated[int, Field(ge=1, le=100_000, description="number of epochs")]
Trainings = Annotated[int, Field(ge=1, le=100_000)]
"""How many trainings a search may spend."""
Text = Annotated[str, Field(max_length=32_768), AfterValidator(_printable)]
"""A text of one line; the bits of 50,000 test images take 8,336 characters."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][-._A-Za-z0-9]{0,63}$")]
"""Fit for a file's name."""
Items = Annotated[list[T], Field(fail_fast=True)]
"""A list of which the first wrong item is told, however many there are."""
Distinct = Annotated[tuple[H, ...], AfterValidator(_distinct)]
"""A list in which nothing stands twice."""


class Spec(BaseModel):
    """Base of every description: immutable, and an unknown key is an error.

    Raises:
        SafsError: one line for each value that is wrong and each key that is unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SafsError(explained(error, type(self), type(self).__name__)) from None

    # Only who calls the class comes here: what is validated inside another is told by that one.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


class OptimizerRules(Spec):
    """Rules of the optimisers that can be read in two ways; no search chooses them.

    ``betas`` says which decays of moments Adam and TAdam have (:data:`BETAS`), ``tadam`` how TAdam
    sums its weights (:func:`tadam_sum`).
    """

    betas: OptimizerRule = "published"
    tadam: OptimizerRule = "published"

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without rules that are as published: older files and identities do not have them."""
        rules, written = set(OptimizerRules.model_fields), plain(self)
        return {k: v for k, v in written.items() if k not in rules or v != "published"}


class Recipe(OptimizerRules):
    """How a network is trained (Tables 5-7; the configurations of stage 2 are recipes too).

    ``lr`` is the base learning rate. ``weight_decay`` is the L2 term as torch applies it and acts
    on weights, biases and batch norm only. ``momentum`` is used by SGD only. All schedules step
    once per epoch. ``restart_epochs`` is the first period of ``warm_restarts``; ``None`` means a
    quarter of the training, as for searched recipes, while the dense recipes of Table 7 fix 12.
    """

    optimizer: OptimizerName = "sgd"
    lr: Annotated[float, Field(gt=0, le=1e6)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = 0.0
    schedule: ScheduleName = "constant"
    restart_epochs: Epochs | None = None
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 256

    @model_validator(mode="after")
    def _only_what_is_used(self) -> Recipe:
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum is for sgd only, got {self.momentum} with {self.optimizer}")
        if self.weight_decay and self.optimizer == "fromage":
            raise ValueError(f"fromage takes no weight_decay, got {self.weight_decay}")
        if self.restart_epochs and self.schedule != "warm_restarts":
            raise ValueError(f"restart_epochs is for warm_restarts only, got {self.schedule}")
        return self


def tadam_sum(beta1: float, rule: OptimizerRule) -> tuple[float, float]:
    """How TAdam's sum of weights W takes in a weight w: ``(a, b)`` in ``W <- a W + b w``.

    ``(2 b1 - 1) / b1`` and 1 in its paper, b1 and b1 in the package that the code released with
    SAFS uses. Either keeps the start ``b1 / (1 - b1)`` where all weights are 1, as Adam's mean has.
    """
    return ((2 * beta1 - 1) / beta1, 1.0) if rule == "published" else (beta1, beta1)


class NetworkSpec(Spec):
    """Which network: a name of the network registry and its options (e.g. a width)."""

    name: str
    options: dict[str, int | float | bool | str] = {}


class Acceleration(Spec):
    """Faster arithmetic for PyTorch's steps; each changes rounding, so each is off by default.

    ``tf32`` rounds the factors of products to 10 bits on CUDA devices that can; ``bf16`` runs the
    forward pass under bfloat16 autocast; ``channels_last`` changes the layout of images;
    ``compile`` is torch.compile, with CUDA graphs if so asked. ``graphs`` captures the whole
    uncompiled step in a CUDA graph, with optimisers that count and scale on the device; on a CPU it
    does nothing, like ``tf32``. The sparse kernels know none of it, nor does PyTorch where it
    trains together with them.
    """

    tf32: bool = False
    bf16: bool = False
    channels_last: bool = False
    compile: Literal["off", "on", "cuda_graphs"] = "off"
    graphs: bool = False

    @model_validator(mode="after")
    def _captured_once(self) -> Acceleration:
        if self.graphs and self.compile != "off":
            raise ValueError(f"graphs is for compile: off only, got compile: {self.compile}")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without graphs where they are off: older files and identities do not have them."""
        return {k: v for k, v in plain(self).items() if k != "graphs" or v}
