"""Entry of every DVC stage: ``python -m pipelines STAGE PARAMS_FILE [CELL]``.

CELL is a pair, or the name of a cell (a pair at a ratio); ``evaluate`` takes ratios behind a pair,
to evaluate these alone. Whatever a person can mend, bad parameters first of all, ends with exit
code 2 and one line each.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import signals
from pipelines.stages import PER_PAIR, PER_PROFILE, STAGES

if TYPE_CHECKING:
    from pipelines.config.study import Study


def main(arguments: list[str]) -> int:
    """Run one stage; see the module."""
    from pipelines.config.study import load
    from pipelines.storage import scratch
    from safs.errors import SafsError, UnknownName, one_line, shown

    try:
        if len(arguments) < 2:
            got = shown(" ".join(arguments)) if arguments else "nothing"
            raise SafsError(f"got {got}; expected STAGE PARAMS_FILE [CELL]")
        stage, params, *cell = arguments
        if stage not in STAGES:
            raise UnknownName("stage", stage, STAGES)
        study = load(Path(params))
        place = _place(study, stage, cell)
        with scratch.in_use():
            importlib.import_module(f"pipelines.stages.{stage}").run(study, *place)
    except (SafsError, OSError, MemoryError, ImportError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _place(study: Study, stage: str, cell: list[str]) -> tuple[object, ...]:
    """What a stage is given beside its study. Raises SafsError."""
    from safs.errors import SafsError, UnknownName, shown

    wanted = "nothing" if stage in PER_PROFILE else "a pair" if stage in PER_PAIR else "a cell"
    if bool(cell) == (stage in PER_PROFILE) or (len(cell) > 1 and stage != "evaluate"):
        got = shown(" ".join(cell)) if cell else "nothing"
        raise SafsError(f"{stage}: got {got} behind the parameters; expected {wanted}")
    if stage in PER_PROFILE:
        return ()
    name, *ratios = cell
    known: Collection[str] = study.pairs if stage in PER_PAIR else study.profile.cells
    if name not in known:
        raise UnknownName(wanted.removeprefix("a "), name, known)
    if stage in PER_PAIR:
        return (name, *(_ratio(text, study.profile.ratios(name)) for text in ratios))
    chosen = study.profile.cells[name]
    return (chosen.pair, chosen.ratio)


def _ratio(text: str, known: list[float]) -> float:
    from safs.errors import UnknownName

    try:
        return known[known.index(float(text))]
    except ValueError:
        raise UnknownName("ratio", text, map(str, known)) from None


def fix_hash_seed() -> None:
    """SMAC's proposals depend on the hash seed, which Python reads before it starts."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "pipelines", *sys.argv[1:]]
        os.execve(sys.executable, command, environment)


if __name__ == "__main__":
    fix_hash_seed()
    signals.end_with_parent(signal.SIGKILL)
    signals.leave_when_asked()
    sys.exit(main(sys.argv[1:]))
