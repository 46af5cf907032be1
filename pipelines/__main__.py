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

from bench.errors import BenchError
from pipelines.config import Study, load
from safs.errors import SafsError

PER_PAIR = ("pretrain", "activations", "algorithms", "fast", "readings", "evaluate")
PER_CELL = ("prune", "baselines", "search", "tune")
PER_PROFILE = ("tables", "compare", "report")


def main(arguments: list[str]) -> int:
    """Run one stage; see the module."""
    stage, params, *cell = arguments
    try:
        study = load(Path(params))
        run = importlib.import_module(f"pipelines.stages.{stage}").run
        run(study, *_place(study, stage, cell))
    except (SafsError, BenchError) as error:
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


def fix_hash_seed() -> None:
    """SMAC's proposals depend on the hash seed, which Python reads before it starts."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "pipelines", *sys.argv[1:]]
        os.execve(sys.executable, command, environment)


if __name__ == "__main__":
    fix_hash_seed()
    die_with_parent()
    sys.exit(main(sys.argv[1:]))
