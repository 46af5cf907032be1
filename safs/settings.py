"""The settings of the paper's tables: both stages (Table 4), and how the paper is read.

A training's recipe (Tables 5 to 7) is :class:`safs.spec.Recipe`; what each pair sets stands in
``pipelines/pairs/``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from safs.spec import (
    Distinct,
    Epochs,
    KeptEpoch,
    OptimizerName,
    OptimizerRules,
    ScheduleName,
    Spec,
    Trainings,
)

CANDIDATES: tuple[str, ...] = (
    "relu6", "acon", "tanhsoft1", "srs", "symlog", "symexp", "swish", "tanh", "hardswish", "elu",
    "gelu", "softplus", "sigmoid",
)  # fmt: skip
"""The operators that stage 1 chooses among, in the order of Table 4."""
OPTIMIZERS: tuple[OptimizerName, ...] = ("sgd", "adam", "fromage", "tadam")
"""The optimisers that stage 2 chooses among (Table 4)."""
SCHEDULES: tuple[ScheduleName, ...] = (
    "constant", "step", "linear", "cosine", "halving", "plateau", "warm_restarts",
)  # fmt: skip
"""The seven schedules that stage 2 chooses among; ``sawtooth`` is a reading of one dense recipe."""
LR = (1e-4, 1e-1)
"""Learning rates that stage 2 chooses among, on a logarithmic scale (Table 4)."""
WEIGHT_DECAY = (1e-5, 1e-1)
MOMENTUM = (0.1, 0.999)
"""The paper prints no range; these are the released code's."""

Objective = Literal["last", "best"]
ScheduleFor = Literal["all", "sgd"]
Fitness = Literal[
    "training_loss", "validation_loss", "validation_error", "best_validation_error"
]  # fmt: skip


class Search(Spec):
    """Stage 1 (Section 4.2, Eq. 5; Table 4).

    ``moves`` counts the candidates after the start, so a search evaluates ``moves + 1`` chromosomes
    for ``epochs`` each. ``fitness`` is what the search minimises: the training loss of the last
    epoch, the validation loss or error after it, or the validation error of the best epoch.
    """

    algorithm: str = "lahc"
    history: Annotated[int, Field(ge=1, le=10_000)] = 3
    moves: Annotated[int, Field(ge=0, lt=100_000)]
    epochs: Epochs
    fitness: Fitness = "training_loss"
    start: Literal["random", "default"] = "random"
    operators: Annotated[Distinct[str], Field(min_length=2)]

    @property
    def evaluations(self) -> int:
        """Trainings of one search: the start and every move."""
        return self.moves + 1


class Tune(Spec):
    """Stage 2 (Section 4.2, Eq. 6; Table 4): SMAC3 over the fine-tuning recipe.

    ``objective`` is the validation accuracy to maximise: the last epoch's, or the best epoch's.
    ``schedule_for`` says whether every optimiser may have a schedule or only SGD.
    """

    trials: Trainings
    epochs: Epochs
    objective: Objective = "last"
    schedule_for: ScheduleFor = "all"


class Fast(Spec):
    """The cheap search beside the faithful one, the paper's future work: the arm ``safs_fast``.

    Both stages have as many candidates as :class:`Search` and :class:`Tune` say, but train them in
    a successive halving. ``rungs`` are fractions of the stage's epochs: all candidates are trained
    to the first, the best ``1 / eta`` of them on to the next, and so on; the schedule is that of
    all epochs. In stage 1 ``predictor`` (:mod:`safs.search.predictors`) chooses the most promising
    of ``screen`` moves before any is trained, on a batch of ``images`` training images; with
    ``screen`` 1 it has no say. ``warm_start`` says whether a pruning ratio starts from what was
    found at the next lower one.
    """

    rungs: Annotated[
        Distinct[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)
    ] = (0.05, 0.15, 0.4)  # fmt: skip
    eta: Annotated[int, Field(ge=2, le=1000)] = 3
    predictor: str = "snip"
    screen: Annotated[int, Field(ge=1, le=1000)] = 4
    images: Annotated[int, Field(ge=8, le=65_536)] = 64
    warm_start: bool = True

    def epochs(self, whole: int) -> tuple[int, ...]:
        """The rungs of a training of ``whole`` epochs, ascending and each at least one epoch."""
        return tuple(sorted({max(1, round(part * whole)) for part in self.rungs}))


PROTOCOL_VERSION = 3
"""Version of the rules in docs/PROTOCOL.md; results of different versions are never pooled."""


class Protocol(OptimizerRules):
    """Readings of the paper that hold for a whole profile.

    ``preset`` is the paper's text, or what the code released with it does; the other fields, where
    they are given, win over the preset. ``own_parameters`` says when the own parameters of Acon,
    SRS and TanhSoft-1 are learned: never (Eq. 6 learns only weights, alpha and beta), in stage 2,
    or in both stages. ``srelu`` says whether SReLU's four parameters belong to a channel (Jin et
    al. 2016), to a layer, or are those of the released code. The rules of the optimisers are those
    of every pair's :class:`~safs.spec.Recipe`. ``reported_epoch`` is the epoch of the final
    training whose weights meet the test images. ``finals`` is how many final trainings an arm has
    in a replicate; they differ in batch order alone, and the arm's value is their mean.
    ``reported`` says what meets the test images: these finals, or, where an arm has trials, the
    weights of the selected trial itself.
    """

    preset: Literal["paper", "as_released"] = "paper"
    own_parameters: Literal["frozen", "stage2", "both"] = "frozen"
    srelu: Literal["per_channel", "per_layer", "as_released"] = "per_channel"
    reported_epoch: KeptEpoch = "last"
    finals: Annotated[int, Field(ge=1, le=100)] = 1
    reported: Literal["finals", "selected"] = "finals"

    @property
    def given(self) -> dict[str, Any]:
        """The switches that were set, be it to their defaults."""
        return {name: getattr(self, name) for name in self.model_fields_set}

    @property
    def sections(self) -> dict[str, dict[str, Any]]:
        """What it lays over the sections of every pair."""
        return {"recipe": self.model_dump(include=set(OptimizerRules.model_fields))}
