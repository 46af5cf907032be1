"""Typed, frozen descriptions of what is run: recipes, searches, tunings.

Everything here is plain data (pydantic models without torch), so a description can be checked,
hashed and stored before anything is trained. Unknown keys are errors.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

OptimizerName = Literal["sgd", "adam", "fromage", "tadam"]
ScheduleName = Literal[
    "constant", "step", "linear", "cosine", "halving", "plateau", "warm_restarts"
]
BackendName = Literal["auto", "dense", "sparse"]
OPTIMIZERS: tuple[OptimizerName, ...] = ("sgd", "adam", "fromage", "tadam")
SCHEDULES: tuple[ScheduleName, ...] = (
    "constant", "step", "linear", "cosine", "halving", "plateau", "warm_restarts",
)  # fmt: skip

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


class Search(Spec):
    """Stage 1 (Section 4.2, Eq. 5; Table 4).

    ``moves`` counts the candidates after the start, so a search evaluates ``moves + 1`` chromosomes
    for ``epochs`` each. ``fitness`` is what the search minimises: the training loss of the last
    epoch, or the validation loss or error after it.
    """

    algorithm: str = "lahc"
    history: Annotated[int, Field(ge=1)] = 3
    moves: Annotated[int, Field(ge=0)]
    epochs: Epochs
    fitness: Literal["training_loss", "validation_loss", "validation_error"] = "training_loss"
    start: Literal["random", "default"] = "random"
    operators: Annotated[tuple[str, ...], Field(min_length=2)]

    @property
    def evaluations(self) -> int:
        """Trainings of one search: the start and every move."""
        return self.moves + 1


class Tune(Spec):
    """Stage 2 (Section 4.2, Eq. 6; Table 4): SMAC3 over the fine-tuning recipe.

    ``objective`` is the validation accuracy to maximise: the last epoch's, or the best epoch's.
    ``schedule_for`` says whether every optimiser may have a schedule or only SGD.
    """

    trials: Annotated[int, Field(ge=1)]
    epochs: Epochs
    objective: Literal["last", "best"] = "last"
    schedule_for: Literal["all", "sgd"] = "all"


PROTOCOL_VERSION = 1
"""Version of the rules in docs/PROTOCOL.md; results of different versions are never pooled."""


class Protocol(Spec):
    """Readings of the paper that hold for a whole profile.

    ``own_parameters`` says when the own parameters of Acon, SRS and TanhSoft-1 are learned: never
    (Eq. 6 learns only weights, alpha and beta), in stage 2, or in both stages.
    """

    preset: Literal["paper"] = "paper"
    own_parameters: Literal["frozen", "stage2", "both"] = "frozen"
