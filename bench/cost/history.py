"""One small JSON per commit and machine: timed epochs and the ratios within that run.

Times of different machines, or of one machine under different load, do not compare. What compares
is a ratio of two things that were timed in turn in one run, so the gate looks at ratios alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from bench.cost.steps import Step, by_key, preferred
from safs.checked import MAX_BYTES, parsed
from safs.errors import SafsError
from safs.files import read_text, write_text
from safs.spec import Spec, Text

FOLDER = Path("results/cost")


class Machine(Spec):
    """Where an entry was made.

    ``device`` is the GPU that trained, None where the CPU did; ``load`` is the system's load
    average before it, None if unknown.
    """

    cpu: str
    cores: Annotated[int, Field(ge=1)]
    platform: str
    device: str | None = None
    load: float | None = None

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of what does not change between runs."""
        known = f"{self.cpu}|{self.cores}|{self.platform}"
        known += f"|{self.device}" if self.device else ""
        return hashlib.sha256(known.encode()).hexdigest()[:8]


class CostRatio(Spec):
    """A cost over another from the same run; lower is better.

    ``low`` and ``high`` come from the quartiles of both sides: the noise of this ratio. ``name``
    starts with the word for its kind.
    """

    name: Annotated[Text, Field(pattern=r"^\S")]
    value: Annotated[float, Field(gt=0)]
    low: Annotated[float, Field(gt=0)]
    high: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low <= self.value <= self.high:
            told = f"got low {self.low:g}, value {self.value:g}, high {self.high:g}"
            raise ValueError(f"{told}; expected them in ascending order")
        return self


class Entry(Spec):
    """A run of the benchmarks. ``when`` is its date and time in UTC, as ISO 8601 has it."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    commit: str
    when: str
    machine: Machine
    steps: tuple[Step, ...]
    ratios: tuple[CostRatio, ...]

    model_config = ConfigDict(validate_by_name=True)

    @property
    def name(self) -> str:
        """File name without ending: commit, whether it was changed, and machine."""
        commit, changed, _ = self.commit.partition("-dirty")
        return f"{commit[:10]}{changed}-{self.machine.digest}"

    def write(self, folder: Path = FOLDER) -> Path:
        """Write the entry; one of the same commit and machine is replaced."""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, sort_keys=True)
        return write_text(folder / f"{self.name}.json", text + "\n")


def read(path: Path) -> Entry:
    """An entry. Raises SafsError with file and key, or if there is no such file."""
    try:
        return parsed(Entry, read_text(path, MAX_BYTES), path)
    except OSError as error:
        raise SafsError(f"{path}: {error.strerror}; safs-bench cost --save writes one") from None


def read_all(folder: Path = FOLDER) -> list[Entry]:
    """Every entry, oldest first."""
    return sorted((read(path) for path in folder.glob("*.json")), key=lambda e: (e.when, e.name))


def ratios(steps: Iterable[Step]) -> tuple[CostRatio, ...]:
    """Sparse over dense for every phase timed on both, and SAFS over vanilla for every cell."""
    known = by_key(list(steps))
    found = []
    for pair, phase, ratio, backend in sorted(known):
        other = known.get((pair, phase, ratio, "dense"))
        if backend == "sparse" and other is not None:
            name = f"sparse/dense {pair} {phase} {ratio:g}"
            found.append(_ratio(name, [(1, known[pair, phase, ratio, backend])], [(1, other)]))
    cells = sorted({(pair, ratio) for pair, phase, ratio, _ in known if phase == "final"})
    for pair, ratio in cells:
        parts = [preferred(known, pair, phase, ratio) for phase in ("final", "search", "tune")]
        whole = [(step.protocol_epochs, step) for step in parts if step is not None]
        if len(whole) == len(parts) and whole[0][0]:
            found.append(_ratio(f"SAFS/vanilla {pair} {ratio:g}", whole, whole[:1]))
    return tuple(found)


def _ratio(name: str, over: list[tuple[int, Step]], under: list[tuple[int, Step]]) -> CostRatio:
    def total(parts: list[tuple[int, Step]], which: int | None) -> float:
        return sum(
            epochs * (step.seconds if which is None else step.quartiles[which])
            for epochs, step in parts
        )

    return CostRatio(
        name=name,
        value=total(over, None) / total(under, None),
        low=total(over, 0) / total(under, 1),
        high=total(over, 1) / total(under, 0),
    )


def shared(before: Entry, after: Entry) -> list[tuple[CostRatio, CostRatio]]:
    """The ratios that both entries have, in the order of the second."""
    earlier = {ratio.name: ratio for ratio in before.ratios}
    return [(earlier[r.name], r) for r in after.ratios if r.name in earlier]


def worsened(before: Entry, after: Entry) -> list[tuple[CostRatio, CostRatio]]:
    """The ratios that grew by more than their noise: the ranges do not touch."""
    return [(old, new) for old, new in shared(before, after) if new.low > old.high]
