"""Entry of every DVC stage: ``python -m pipelines STAGE PARAMS_FILE [CELL]``.

CELL is a pair, or the name of a cell (a pair at a ratio). Bad parameters end with exit code 2 and
one line each, before anything is written.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.config.study import Study

PER_PAIR = ("pretrain", "activations", "algorithms", "fast", "readings", "evaluate")
PER_CELL = ("prune", "baselines", "search", "tune")
PER_PROFILE = ("tables", "compare", "report", "sums")


def main(arguments: list[str]) -> int:
    """Run one stage; see the module."""
    from pipelines.config.study import load
    from safs.errors import SafsError

    stage, params, *cell = arguments
    try:
        study = load(Path(params))
        run = importlib.import_module(f"pipelines.stages.{stage}").run
        run(study, *_place(study, stage, cell))
    except SafsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _place(study: Study, stage: str, cell: list[str]) -> tuple[object, ...]:
    if stage in PER_PROFILE:
        return ()
    if stage in PER_PAIR:
        return (cell[0],)
    chosen = study.profile.cells[cell[0]]
    return (chosen.pair, chosen.ratio)


def die_with_parent() -> None:
    """On Linux, end this process when DVC is killed, so that no orphan keeps writing."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)


def leave_when_interrupted() -> None:
    """End at once on Ctrl-C, as if killed: threads would first wait for the trainings in flight.

    What is finished is on the disk, and workers end a training that nobody waits for.
    """

    def leave(*_: object) -> None:
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # the progress bar hides the cursor
        os._exit(130)

    signal.signal(signal.SIGINT, leave)


def fix_hash_seed() -> None:
    """SMAC's proposals depend on the hash seed, which Python reads before it starts."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "pipelines", *sys.argv[1:]]
        os.execve(sys.executable, command, environment)


if __name__ == "__main__":
    fix_hash_seed()
    die_with_parent()
    leave_when_interrupted()
    sys.exit(main(sys.argv[1:]))
