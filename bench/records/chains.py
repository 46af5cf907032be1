"""What the runs of a profile rest on, link by link, which ``verify`` holds a run to.

A run's links are the digests of its record, with what each training reached, so that a difference
can be told in numbers. Losses are in nats, accuracies fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from bench.records.record import Record
from bench.records.schema import Chain, Environment, Key, Protocol
from safs.errors import SafsError
from safs.rows import Outcome
from safs.sealed import digest
from safs.spec import Count, Fraction, Items, Spec, Text


class Reached(Spec):
    """What a training came to; null where it failed or nobody measured it."""

    training_loss: float | None = None
    validation_accuracy: Fraction | None = None
    test_accuracy: Fraction | None = None


class Ran(Spec):
    """What a run ran on: its environment, what trained, and whether any machine gets its bits.

    ``bits`` are those of its record; ``portable`` is null in a record that does not say.
    """

    environment: Environment
    backend: Text
    bits: dict[Text, Text]
    compiler: Text | None = None
    portable: bool | None = None

    @property
    def text(self) -> str:
        """The line in which people read it."""
        about = self.environment
        packages = [f"{name} {v}" for name, v in about.packages.items() if name in _TOLD]
        portable = {True: ["portable"], False: ["not portable"], None: []}[self.portable]
        compiler = [self.compiler] if self.compiler else []
        isa = [self.bits["isa"]] if "isa" in self.bits else []
        parts = [about.cpu, *isa, *compiler, f"python {about.python}", *packages]
        return ", ".join([*parts, f"backend {self.backend}", *portable])


_TOLD = ("numpy", "smac", "torch")
"""The packages that may decide a result."""


class Links(Spec):
    """One run: what it rests on, link by link, and what each of its trainings reached.

    Attributes:
        parameters: digest of all parameters of its pair.
        data: checksums of the training and test images.
        reached: by each final training.
        correct: digests of their per-image results on the test images; null for a failed one.
        candidates: training losses of those in the chain, in its order; empty if not known.
        trials: their validation accuracies, likewise.
        ran: what it ran on, by number in its file.
    """

    profile: Text
    pair: Text
    ratio: Annotated[float, Field(ge=0, lt=1)]
    replicate: Count
    arm: Text
    parameters: Text
    data: dict[Text, Text]
    chain: Chain
    reached: Items[Reached]
    correct: Items[Outcome | None]
    candidates: Items[float | None] = Field(default_factory=list)
    trials: Items[Fraction | None] = Field(default_factory=list)
    ran: Count = 0

    @property
    def key(self) -> tuple[str, Key]:
        """Profile and identity of the run; a reading is a profile of its own."""
        return self.profile, (self.pair, self.ratio, self.replicate, self.arm)


Searched = Callable[[Record], Mapping[str, Sequence[float | None]]]
"""What the trainings of a record's searches reached: its ``candidates`` and ``trials``."""


@dataclass(frozen=True)
class Chains:
    """The links of all runs of a profile, made under one protocol."""

    protocol: Protocol
    ran: Sequence[Ran]
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
        each = [_ran(record) for record in chained]
        ran = list({one.model_dump_json(): one for one in each}.values())
        runs = [
            _links(record, searched(record), ran.index(one))
            for record, one in zip(chained, each, strict=True)
        ]
        return cls(chained[0].protocol, ran, runs)


def _ran(record: Record) -> Ran:
    return Ran(
        environment=record.environment,
        backend=record.backend,
        bits=record.bits,
        compiler=record.compiler,
        portable=record.portable,
    )


def _links(record: Record, searched: Mapping[str, Sequence[float | None]], ran: int) -> Links:
    assert record.chain is not None
    return Links(
        profile=record.profile,
        pair=record.pair,
        ratio=record.ratio,
        replicate=record.replicate,
        arm=record.arm,
        parameters=record.digests.parameters,
        data=record.digests.data,
        chain=record.chain,
        reached=[
            Reached(
                training_loss=final.train and final.train.loss,
                validation_accuracy=final.validation and final.validation.top1,
                test_accuracy=final.test and final.test.top1,
            )
            for final in record.finals
        ],
        correct=[final.test and digest(final.test.correct)[:32] for final in record.finals],
        candidates=list(searched.get("candidates", ())),
        trials=list(searched.get("trials", ())),
        ran=ran,
    )
