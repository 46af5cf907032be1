"""What the runs of a profile rest on, link by link, which ``verify`` holds a run to.

A run's links are the digests of its record, with what each training reached, so that a difference
can be told in numbers. Losses are in nats, accuracies fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from bench.records.record import Record
from bench.records.schema import Chain, Key, Protocol
from safs.errors import SafsError
from safs.sealed import digest


class Reached(NamedTuple):
    """What a training came to; None where it failed or nobody measured it."""

    training_loss: float | None = None
    validation_accuracy: float | None = None
    test_accuracy: float | None = None


class Ran(NamedTuple):
    """What a run ran on: its environment, what trained, and whether any machine gets its bits."""

    record: Record

    @property
    def text(self) -> str:
        """The line in which people read it."""
        of, about = self.record, self.record.environment
        packages = [f"{name} {v}" for name, v in about.packages.items() if name in _TOLD]
        portable = {True: ["portable"], False: ["not portable"], None: []}[of.portable]
        compiler = [of.compiler] if of.compiler else []
        isa = [of.bits["isa"]] if "isa" in of.bits else []
        parts = [about.cpu, *isa, *compiler, f"python {about.python}", *packages]
        return ", ".join([*parts, f"backend {of.backend}", *portable])

    def row(self) -> dict[str, Any]:
        """Plain data."""
        told = {"environment", "backend", "bits", "compiler", "portable"}
        return self.record.model_dump(include=told)


_TOLD = ("numpy", "smac", "torch")
"""The packages that may decide a result."""


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
        of = self.record
        return of.profile, (of.pair, of.ratio, of.replicate, of.arm)

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


Searched = Callable[[Record], Mapping[str, Sequence[float | None]]]
"""What the trainings of a record's searches reached: its ``candidates`` and ``trials``."""


@dataclass(frozen=True)
class Chains:
    """The links of all runs of a profile, made under one protocol."""

    protocol: Protocol
    runs: Sequence[Links]

    @classmethod
    def of(cls, records: Iterable[Record], searched: Searched = lambda record: {}) -> Chains:
        """The chains of records of one protocol; one from before there were chains is left out.

        Raises:
            SafsError: no record has a chain.
        """
        chained = [record for record in records if record.chain]
        if not chained:
            raise SafsError("no record has a chain")
        return cls(chained[0].protocol, [Links(r, **searched(r)) for r in chained])
