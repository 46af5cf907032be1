"""Typed, frozen descriptions of one training: its network, its recipe, how it is computed.

Everything here is plain data (pydantic models without torch), so a description can be checked,
hashed and stored before anything is trained. Unknown keys are errors.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

OptimizerName = Literal["sgd", "adam", "fromage", "tadam"]
ScheduleName = Literal[
    "constant", "step", "linear", "cosine", "halving", "plateau", "warm_restarts", "sawtooth"
]  # fmt: skip
BackendName = Literal["auto", "dense", "sparse"]

KeptEpoch = Literal["last", "best_validation"]

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Epochs = Annotated[int, Field(ge=1, description="number of epochs")]


class Spec(BaseModel):
    """Base of every description: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Recipe(Spec):
    """How a network is trained (Tables 5-7; the configurations of stage 2 are recipes too).

    ``lr`` is the base learning rate. ``weight_decay`` is the L2 term as torch applies it and acts
    on weights, biases and batch norm only. ``momentum`` is used by SGD only. All schedules step
    once per epoch. ``restart_epochs`` is the first period of ``warm_restarts``; ``None`` means a
    quarter of the training, as for searched recipes, while the dense recipes of Table 7 fix 12.
    """

    optimizer: OptimizerName = "sgd"
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: ScheduleName = "constant"
    restart_epochs: Epochs | None = None
    batch_size: Annotated[int, Field(ge=1)] = 256

    @model_validator(mode="after")
    def _only_what_is_used(self) -> Recipe:
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum is for sgd only, got {self.momentum} with {self.optimizer}")
        if self.weight_decay and self.optimizer == "fromage":
            raise ValueError(f"fromage takes no weight_decay, got {self.weight_decay}")
        if self.restart_epochs and self.schedule != "warm_restarts":
            raise ValueError(f"restart_epochs is for warm_restarts only, got {self.schedule}")
        return self


class NetworkSpec(Spec):
    """Which network: a name of the network registry and its options (e.g. a width)."""

    name: str
    options: dict[str, int | float | bool | str] = {}


class Acceleration(Spec):
    """Faster arithmetic for PyTorch's steps; each changes rounding, so each is off by default.

    ``tf32`` rounds the factors of products to 10 bits on CUDA devices that can; ``bf16`` runs the
    forward pass under bfloat16 autocast; ``channels_last`` changes the layout of images;
    ``compile`` is torch.compile, with CUDA graphs if so asked. The sparse kernels know none of it,
    nor does PyTorch where it trains together with them.
    """

    tf32: bool = False
    bf16: bool = False
    channels_last: bool = False
    compile: Literal["off", "on", "cuda_graphs"] = "off"
