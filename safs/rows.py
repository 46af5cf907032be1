"""What is noted of every training: one typed row for a candidate, one for a trial.

The same rows go from the journal of a search through its trace and the CSV files to the report of
:func:`safs.search_and_tune`. A trace is the rows of one search and where it was made; its schema
version is theirs. JSON knows no infinity: a failed candidate has no energy (``null``), never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, ConfigDict, Field, model_validator

from safs.sealed import digest
from safs.spec import Count, Fraction, Recipe, Spec

SCHEMA = 4
"""2 adds chromosome, scaled and backend to the rows, 3 the outcome; 4 says arm, not method.
Older traces are still read."""

Outcome = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
"""Digest of what a training computed, whatever it took: two with the same have the same bits."""


class Row(Spec):
    """A description whose fields are read by key too, as those of the JSON it is written as."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    def __getitem__(self, key: str) -> Any:
        for name, field in type(self).model_fields.items():
            if key == (field.alias or name):
                return getattr(self, name)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def keys(self) -> list[str]:
        """The keys of the JSON object."""
        return [field.alias or name for name, field in type(self).model_fields.items()]

    def items(self) -> Iterable[tuple[str, Any]]:
        """Keys and plain values, in the order of the fields."""
        return self.to_plain().items()

    def to_plain(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        return self.model_dump(mode="json", by_alias=True)


class Trained(Row):
    """What one training leaves.

    Attributes:
        failure: why it counts as failed, or None.
        seconds: what its epochs took, those of a beginning that it went on from included.
        backend: what did the steps; ``none`` where nothing was trained.
        history: one dict per finished epoch (:class:`safs.training.loop.Epoch`).
        kept: 1-based epoch whose weights were left; 0 for a failed run.
        notice: a line for the reader, or None.
        slots: name, operator, alpha, beta and own parameters of each slot, in the order of use.
        memory: the most that it used, in bytes, and of what; None where unknown.
        bits: what decides the bits of the result.
        where: what it ran on (:func:`safs.backends.device.whereabouts`).
        failed_epoch, failed_step: 1-based epoch, and step within it, in which it failed; None where
            it did not, for a failure after an epoch's last step, or in an older row.
    """

    failure: str | None
    seconds: float
    backend: str
    history: tuple[dict[str, float | int | None], ...]
    kept: int
    notice: str | None = None
    slots: tuple[dict[str, Any], ...] = ()
    memory: dict[str, int | str] | None = None
    bits: dict[str, str] = Field(default_factory=dict)
    where: dict[str, str] = Field(default_factory=dict)
    failed_epoch: Count | None = None
    failed_step: Count | None = None

    @property
    def epochs(self) -> int:
        """Epochs that it ran, the one that ended a failed run included."""
        return len(self.history) + (self.failure is not None)

    def outcome(self, weights: str | None = None) -> str:
        """Its :data:`Outcome`; ``weights`` is the digest of those that it left, where it did.

        Of what validation said only the last counts: one that went on from a beginning of its own
        was validated there too. A failure counts by where it happened, in whatever words; its words
        count where nothing was trained and in older rows. The weights of a failed run mean nothing.
        """
        told = self.model_dump(mode="json", include={"failure", "kept", "slots", "history"})
        *before, last = told.pop("history") or [{}]
        if self.failure is not None:
            weights = None
            if self.failed_epoch is not None:
                told["failure"] = [self.failed_epoch, self.failed_step]
        trained = [[v for k, v in e.items() if not k.startswith("validation")] for e in before]
        return digest([told, trained, last, weights])[:32]

    def ended(self) -> dict[str, Any]:
        """How it ended, as fields of a row."""
        status = "ok" if self.failure is None else "failed"
        told = {"epochs": self.epochs, "status": status, "reason": self.failure}
        return told | {"backend": self.backend, "outcome": self.outcome()}


class Noted(Row):
    """What the rows of both stages have in common."""

    index: Count
    epochs: Count
    status: Literal["ok", "failed"]
    reason: str | None = None
    backend: str | None = None
    outcome: Outcome | None = None


class Candidate(Noted):
    """A candidate of stage 1: an operator per slot, and the fitness it reached (Eq. 5)."""

    chromosome: tuple[str, ...]
    energy: float | None
    accepted: bool


class Trial(Noted):
    """A trial of stage 2: a recipe, and 1 - validation accuracy (1 if it failed; Eq. 6).

    ``chromosome`` says what was in the slots, ``scaled`` whether alpha and beta were learned.
    """

    config: Recipe
    cost: float
    validation_top1: Fraction | None
    chromosome: tuple[str, ...] = ()
    scaled: bool | None = None


class Trace(Row):
    """The rows of one search and where it was made. ``best`` is the index of the winner."""

    schema_: Annotated[int, Field(ge=1, le=SCHEMA)] = Field(default=SCHEMA, alias="schema")
    pair: str
    ratio: Annotated[float, Field(ge=0, lt=1)]
    replicate: Count
    best: int | None

    @property
    def rows(self) -> Sequence[Noted]:
        """The rows, in the order of training."""
        raise AttributeError("a trace of one of the stages has rows")


class SearchTrace(Trace):
    """Stage 1 of one replicate. ``operators`` are the candidates, also those never drawn.

    The first chromosome may be the network's own, whose operators need not be candidates; its
    neighbours keep some of them.

    ``predictor_epochs`` are the images that a predictor looked at, in epochs.
    """

    algorithm: str
    slots: tuple[str, ...]
    operators: tuple[str, ...]
    evaluations: tuple[Candidate, ...]
    predictor_epochs: float = 0.0

    @property
    def rows(self) -> tuple[Candidate, ...]:
        return self.evaluations

    @model_validator(mode="after")
    def _fits(self) -> Self:
        known = {*self.operators, *(self.evaluations[0].chromosome if self.evaluations else ())}
        for e in self.evaluations:
            if len(e.chromosome) != len(self.slots):
                raise ValueError(f"evaluation {e.index}: {len(self.slots)} operators, one per slot")
            if not known.issuperset(e.chromosome):
                raise ValueError(f"evaluation {e.index}: only operators of the list 'operators'")
        return self


class TuneTrace(Trace):
    """Stage 2 of one replicate and arm."""

    arm: str = Field(validation_alias=AliasChoices("arm", "method"))
    trials: tuple[Trial, ...]

    @property
    def rows(self) -> tuple[Trial, ...]:
        return self.trials
