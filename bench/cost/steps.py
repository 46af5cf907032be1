"""Measured epochs: what ``make bench`` leaves behind, and what follows from it.

One entry is a phase of a pair on a backend: the seconds of one epoch, as the training loop counts
them, over several rounds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from safs.checked import MAX_BYTES, plain, validated
from safs.errors import SafsError
from safs.files import read_text
from safs.spec import Count, Positive, Spec, Text

TimedPhase = Literal["dense", "final", "search", "tune", "evaluation"]
MEBIBYTE = 2**20
Seconds = Annotated[float, Field(ge=1e-9, le=1e9)]


class Step(Spec):
    """One timed phase.

    ``epoch_seconds`` are those of one whole epoch in each round, scaled up where the round had
    fewer images than the protocol's epoch (``images`` of ``epoch_images``); for ``evaluation`` an
    epoch is one pass over as many images. ``protocol_epochs`` is how many the pair's protocol has
    for one replicate at one ratio. ``joules`` are those of such an epoch, None where not measured.
    ``device`` is the GPU that trained, None where the CPU did.
    """

    pair: Text
    phase: TimedPhase
    ratio: Annotated[float, Field(ge=0, lt=1)]
    backend: Literal["dense", "sparse"]
    images: Positive
    epoch_images: Positive
    epoch_seconds: Annotated[tuple[Seconds, ...], Field(min_length=1)]
    protocol_epochs: Count
    peak_memory: Count | None = None
    joules: Annotated[float, Field(ge=0, le=1e15)] | None = None
    device: Text | None = None

    @property
    def key(self) -> tuple[str, str, float, str]:
        """(pair, phase, ratio, backend)."""
        return (self.pair, self.phase, self.ratio, self.backend)

    @property
    def seconds(self) -> float:
        """Median seconds of an epoch."""
        return float(np.median(self.epoch_seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile of the seconds of an epoch."""
        low, high = np.quantile(self.epoch_seconds, [0.25, 0.75])
        return float(low), float(high)

    @property
    def samples_per_second(self) -> float:
        return self.epoch_images / self.seconds

    @property
    def hours(self) -> float:
        """Extrapolated device hours of the protocol's epochs of this phase."""
        return self.protocol_epochs * self.seconds / 3600


def read(path: Path) -> list[Step]:
    """The steps in a JSON file of pytest-benchmark.

    Raises:
        SafsError: the file is not there, is not such a file, or an entry is not a step.
    """
    try:
        content = plain(read_text(path, MAX_BYTES), path)
    except OSError as error:
        raise SafsError(f"{path}: {error.strerror}; make bench writes it") from None
    try:
        entries = [entry["extra_info"] for entry in content["benchmarks"]]
    except (KeyError, TypeError):
        raise SafsError(f"{path}: not a file of pytest-benchmark") from None
    return [validated(Step, entry, f"{path}: extra_info") for entry in entries]


def by_key(steps: list[Step]) -> dict[tuple[str, str, float, str], Step]:
    """Steps by pair, phase, ratio and backend; the last of several counts."""
    return {step.key: step for step in steps}


def preferred(
    known: dict[tuple[str, str, float, str], Step], pair: str, phase: str, ratio: float
) -> Step | None:
    """The step of a phase: the sparse kernels where they were timed, PyTorch otherwise."""
    return known.get((pair, phase, ratio, "sparse")) or known.get((pair, phase, ratio, "dense"))
