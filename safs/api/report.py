"""What :func:`safs.search_and_tune` tells beside the network: typed, and read by key as well."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from safs.rows import Candidate, Row, Trial
from safs.spec import Epochs, Recipe, Spec, Trainings


class Budget(Spec):
    """How much is trained, in trainings and epochs; the defaults are the paper's (Table 4).

    ``moves`` candidates of stage 1 after the start, ``search_epochs`` each; ``trials`` of stage 2,
    plain fine-tuning included, ``tune_epochs`` each.
    """

    moves: Annotated[int, Field(ge=0, lt=100_000)] = 20
    search_epochs: Epochs = 80
    trials: Trainings = 20
    tune_epochs: Epochs = 80


class DenseTold(Row):
    """A layer that was left dense: how many weights it has, and why."""

    weights: int
    why: str


class PruningTold(Row):
    """How the mask was made and what it does.

    Attributes:
        sparsity: the fraction of all weights that is pruned, those that were left dense included.
        layers: weights and surviving ones of each pruned layer.
        dense: the layers that were left dense.
    """

    ratio: float | None
    method: str
    scope: str | None
    sparsity: float
    layers: dict[str, dict[str, int]]
    dense: dict[str, DenseTold]


class DataTold(Row):
    """Numbers of training and validation inputs, of classes, and the shape of one input."""

    train: int
    validation: int
    classes: int
    shape: list[int]


class Accuracies(Row):
    """Top-1 on the validation data, fractions; None where plain fine-tuning failed."""

    dense: float
    pruned: float
    plain: float | None
    tuned: float


class SearchTold(Row):
    """Stage 1: its algorithm and every candidate."""

    algorithm: str
    evaluations: tuple[Candidate, ...]


class TuningTold(Row):
    """Stage 2: every trial, plain fine-tuning first, and the index of the best."""

    best: int
    trials: tuple[Trial, ...]


class Report(Row):
    """Everything that a run found, in plain numbers, with the rows of :mod:`safs.rows`.

    Schema 3 names what was left as it was: ``left_out`` and ``pruning.dense``.

    Attributes:
        default: the module's own operators, in the order of use.
        left_out: activations that are no slots, by name, and why.
        slots: name, operator, alpha, beta and own parameters of each slot of the result.
        scaled, recipe: of the best trial.
        size: parameters and multiply-accumulates (:mod:`safs.pruning.compression`).
        bits: what another run must share to give the same bits.
    """

    schema_: Literal[3] = Field(default=3, alias="schema")
    seed: int
    pruning: PruningTold
    budget: Budget
    data: DataTold
    default: list[str]
    left_out: dict[str, str]
    slots: list[dict[str, Any]]
    scaled: bool
    recipe: Recipe
    validation: Accuracies
    search: SearchTold
    tuning: TuningTold
    size: dict[str, Any]
    bits: dict[str, str]
