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
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import signals

if TYPE_CHECKING:
    from pipelines.config.study import Study

PER_PAIR = (
    "pretrain", "activations", "algorithms", "landscape", "fast", "readings", "evaluate",
)  # fmt: skip
PER_CELL = ("prune", "baselines", "search", "tune")
PER_PROFILE = ("records", "tables", "compare", "report", "sums")


def main(arguments: list[str]) -> int:
    """Run one stage; see the module."""
    from pipelines.config.study import load
    from safs.errors import SafsError, one_line

    stage, params, *cell = arguments
    try:
        study = load(Path(params))
        run = importlib.import_module(f"pipelines.stages.{stage}").run
        run(study, *_place(study, stage, cell))
    except (SafsError, OSError, MemoryError, ImportError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _place(study: Study, stage: str, cell: list[str]) -> tuple[object, ...]:
    if stage in PER_PROFILE:
        return ()
    if stage in PER_PAIR:
        return (cell[0], *map(float, cell[1:]))
    chosen = study.profile.cells[cell[0]]
    return (chosen.pair, chosen.ratio)


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
