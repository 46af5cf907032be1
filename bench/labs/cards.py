"""The card file, version 1: what ``make check-gpu`` found on one GPU, and its page.

One JSON object, ``results/gpu/<card>.json``, sealed and read as a lab file is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from tabulate import tabulate

from bench.labs.schema import Sha256
from safs import sealed
from safs.spec import Count, Name, Positive, Spec, Text

VERSION = 1

Seconds = Annotated[float, Field(ge=0, le=1e7)]
Line = Annotated[Text, Field(max_length=1000)]
Status = Literal["passed", "failed", "left out"]


class Card(Spec):
    """The GPU and what stands between it and the suite.

    Attributes:
        mig: whether it is a part of a GPU (Multi-Instance GPU).
        mps: whether NVIDIA's Multi-Process Service lets several processes work on it at once.
    """

    name: Line
    driver: Line
    cuda: Line
    cudnn: Line
    torch: Line
    bytes: Count
    mig: bool
    mps: bool


class Check(Spec):
    """One thing that has to hold; ``told`` says what was seen, or why it failed or was left out."""

    group: Name
    name: Line
    status: Status
    seconds: Seconds
    told: Line = ""


class Speed(Spec):
    """A masked epoch of a pair in one arithmetic, or why there is none.

    Attributes:
        option: ``plain`` or the acceleration's keys.
        seconds: of an epoch of ``images`` images, wall time.
        launches: of kernels per step, those in a graph too; None where the profiler tells none.
        busy: share of the time in which the GPU computes.
        bytes: most memory of torch's allocator.
    """

    pair: Name
    option: Line
    images: Positive
    seconds: Seconds | None
    launches: Annotated[float, Field(ge=0, le=1e6)] | None = None
    busy: Annotated[float, Field(ge=0, le=1)] | None = None
    bytes: Count | None = None
    told: Line = ""


class Side(Spec):
    """How many images per second trainings side by side have together."""

    pair: Name
    workers: Positive
    images_per_second: Annotated[float, Field(ge=0, le=1e12)] | None
    told: Line = ""


class CardFile(Spec):
    """The file; ``seconds`` are those of the whole acceptance run."""

    card_file: Literal[1]
    digest: Sha256
    card: Card
    seconds: Seconds
    checks: tuple[Check, ...]
    speeds: tuple[Speed, ...]
    side_by_side: tuple[Side, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> CardFile:
        names = [(check.group, check.name) for check in self.checks]
        if len(set(names)) < len(names):
            raise ValueError("checks: one stands twice; expected each once")
        for check in self.checks:
            if check.status != "passed" and not check.told:
                raise ValueError(f"checks: {check.name}: {check.status} without a reason in told")
        return self

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if check.status == "failed"]


def render(content: Mapping[str, Any]) -> str:
    """The file's text from its content without digest, which it computes."""
    whole = {"card_file": VERSION, **content}
    head = {sealed.DIGEST: sealed.seal(whole)[sealed.DIGEST]}
    return json.dumps(head | whole, indent=1, allow_nan=False) + "\n"


def page(file: CardFile) -> str:
    """The same for people, as Markdown."""
    card, failed = file.card, file.failed
    count = {status: sum(c.status == status for c in file.checks) for status in _STATUSES}
    of = [f"{n} {status}" for status, n in count.items() if n]
    part = "a MIG instance, " if card.mig else ""
    service = "with" if card.mps else "without"
    return "\n\n".join([
        f"# {card.name}",
        f"Driver {card.driver}, CUDA {card.cuda}, cuDNN {card.cudnn}, torch {card.torch}, "
        f"{card.bytes / 2**30:.1f} GiB, {part}{service} the Multi-Process Service. "
        f"The acceptance run took {file.seconds:.0f} s.",
        f"**{len(file.checks)} checks: {', '.join(of)}.**",
        *([_table([(c.group, c.name, c.told) for c in failed], _FAILED)] if failed else []),
        "## Speed",
        "A masked epoch (.90, SGD) by arithmetic: wall seconds, kernel launches per step, share of "
        "the time in which the GPU computes, peak memory.",
        _table([_speed(row) for row in file.speeds],
               ("pair", "arithmetic", "images", "seconds", "launches", "busy", "memory", "")),
        "## Trainings side by side",
        _table([_side(row) for row in file.side_by_side], ("pair", "workers", "images/s", "")),
        "## Checks",
        _table([(c.group, c.name, c.status, f"{c.seconds:.1f}", c.told) for c in file.checks],
               ("group", "check", "", "seconds", "what was seen")),
    ]) + "\n"  # fmt: skip


_FAILED = ("group", "failed", "what was seen")
_STATUSES: tuple[Status, ...] = ("passed", "failed", "left out")


def _speed(row: Speed) -> Sequence[str]:
    return (
        row.pair, row.option, f"{row.images:,}", _told(row.seconds, "{:.3f}"),
        _told(row.launches, "{:.0f}"), _told(row.busy, "{:.0%}"),
        _told(row.bytes and row.bytes / 2**20, "{:.0f} MiB"), row.told,
    )  # fmt: skip


def _side(row: Side) -> Sequence[str]:
    return row.pair, str(row.workers), _told(row.images_per_second, "{:,.0f}"), row.told


def _told(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _table(rows: Iterable[Sequence[str]], headings: Sequence[str]) -> str:
    body = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return tabulate(body, headers=list(headings), tablefmt="github", disable_numparse=True)
