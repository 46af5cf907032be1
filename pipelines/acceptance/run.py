"""The acceptance run: every check, then speed; one file and one page, whatever fails."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from bench.labs import cards
from bench.labs.reading import read_card
from pipelines.acceptance import speed
from pipelines.acceptance.checks import NotMet, Requirement
from pipelines.config.pair import Pair
from safs.backends.device import driver
from safs.errors import SafsError
from safs.files import write_text

CHECK_SECONDS, ALL_SECONDS = 300.0, 540.0
"""When no further check begins, and no further timing: the run stays under ten minutes."""
_PART = ".part"
Tell = Callable[[str], None]
Row = cards.Check | cards.Side | cards.Speed


def run(
    device: torch.device,
    checks: Iterable[Requirement],
    pairs: Mapping[str, Pair],
    folder: Path,
    tell: Tell,
) -> cards.CardFile:
    """Check, time, and write ``<card>.json`` and ``<card>.md``.

    Of a run that is cut off ``<card>.json.part`` has what it saw.

    Args:
        device: a CUDA device, prepared as workers prepare theirs.
        checks: in this order.
        pairs: to time, by name.
        folder: where the files go.
        tell: is given a line for each check and timing.
    """
    began = time.monotonic()
    small = {name: pair for name, pair in pairs.items() if pair.network.name in _SMALL}
    ends = began + ALL_SECONDS
    parts: dict[str, Iterable[Row]] = {
        "checks": (_checked(check, device, began + CHECK_SECONDS) for check in checks),
        "side_by_side": speed.side_by_side(small, ends),
        "speeds": speed.speeds(pairs, device, ends),
    }
    content: dict[str, Any] = {"card": describe(device).model_dump(), **{key: [] for key in parts}}
    for key, rows in parts.items():
        for row in rows:
            tell(_line(row))
            content[key].append(row.model_dump())
            content["seconds"] = round(time.monotonic() - began, 1)
            _written(content, folder, _PART)
    return _written(content, folder)


_SMALL = ("lenet5", "efficientnet_b0")


def _checked(check: Requirement, device: torch.device, ends: float) -> cards.Check:
    started = time.monotonic()
    status: cards.Status = "left out" if started > ends else "passed"
    try:
        told = "the time was up" if status == "left out" else check.run(device)
    except NotMet as error:
        status, told = "failed", str(error)
    except Exception as error:  # whatever a driver, a library or a fault of ours raises
        status, told = "failed", speed.in_a_line(error)
    seconds = time.monotonic() - started
    row = {"group": check.group.replace(" ", "-"), "name": check.name, "status": status}
    return cards.Check(**row, seconds=round(seconds, 2), told=told[:900])


def _line(row: Row) -> str:
    if isinstance(row, cards.Check):
        return f"{row.status:9s}{row.group}: {row.name} ({row.seconds:.1f} s): {row.told}"
    return " ".join(
        f"{key}={value}" for key, value in row.model_dump().items() if value is not None
    )


def describe(device: torch.device) -> cards.Card:
    """The card and what is installed for it."""
    found: Any = torch.cuda.get_device_properties(device)
    versions: Any = torch.version
    cudnn: Any = torch.backends.cudnn
    return cards.Card(
        name=found.name, driver=driver(), cuda=str(versions.cuda), cudnn=str(cudnn.version()),
        torch=torch.__version__, bytes=found.total_memory, mps=_has_mps(),
        mig="MIG" in found.name or os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith("MIG-"),
    )  # fmt: skip


def _has_mps() -> bool:
    """Whether the daemon runs here, or outside of this container, which then names its pipe."""
    names = (process.info["name"] or "" for process in psutil.process_iter(["name"]))
    return "CUDA_MPS_PIPE_DIRECTORY" in os.environ or any(
        name.startswith("nvidia-cuda-mps") for name in names
    )


def _written(content: dict[str, Any], folder: Path, ending: str = "") -> cards.CardFile:
    name = "-".join("".join(c if c.isalnum() else " " for c in content["card"]["name"]).split())
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name.lower()}.json{ending}"
    write_text(target, cards.render({"seconds": 0.0} | content))
    file = read_card(target)
    if not ending:
        write_text(target.with_suffix(".md"), cards.page(file))
        target.with_name(target.name + _PART).unlink(missing_ok=True)
    return file


def prepared() -> torch.device:
    """The device, as a worker has it.

    Raises:
        SafsError: torch sees none.
    """
    if not torch.cuda.is_available():
        raise SafsError("check-gpu: torch sees no CUDA device here")
    from pipelines.tasks.shared import own_device

    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")  # off on purpose
    return own_device()
