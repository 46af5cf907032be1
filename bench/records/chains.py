"""What the runs of a profile rest on, link by link, which ``verify`` holds a run to.

A run's links are the digests of its record, with what each training reached, so that a difference
can be told in numbers. Losses are in nats, accuracies fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from bench.records.record import Record
from bench.records.schema import Chain, Key
from safs.sealed import digest


class Reached(NamedTuple):
    """What a training came to; None where it failed or nobody measured it."""

    training_loss: float | None = None
    validation_accuracy: float | None = None
    test_accuracy: float | None = None


@dataclass(frozen=True)
class Links:
    """One run: what it rests on, link by link, and what each of its trainings reached.

    Attributes:
        record: what it left; it has a chain.
        candidates: training losses of those in the chain, in its order; empty if not known.
        trials: their validation accuracies, likewise.
    """

    record: Record
    candidates: Sequence[float | None] = ()
    trials: Sequence[float | None] = ()

    @property
    def key(self) -> tuple[str, Key]:
        """Profile and identity of the run; a reading is a profile of its own."""
        return self.record.profile, self.record.key

    @property
    def chain(self) -> Chain:
        """The links before the result on the test images."""
        assert self.record.chain is not None
        return self.record.chain

    @cached_property
    def reached(self) -> list[Reached]:
        """What each final training came to."""
        return [
            Reached(
                None if final.train is None else final.train.loss,
                None if final.validation is None else final.validation.top1,
                None if final.test is None else final.test.top1,
            )
            for final in self.record.finals
        ]

    @cached_property
    def correct(self) -> list[str | None]:
        """Digests of the finals' per-image results on the test images; None for a failed one."""
        tests = [final.test for final in self.record.finals]
        return [None if test is None else digest(test.correct)[:32] for test in tests]
