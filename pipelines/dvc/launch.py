"""Run a profile through DVC, stage by stage or side by side."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from rich.console import Console

from pipelines.config.study import Study
from pipelines.dvc import process as dvc_process
from pipelines.dvc import side_by_side
from pipelines.dvc.alone import alone
from pipelines.engine import artefacts, compute
from pipelines.engine.progress import clock
from pipelines.preflight import preflight
from pipelines.publishing import collection, context, results
from safs import sealed
from safs.errors import SafsError

MOST_JOBS = 4
"""Stages side by side by default: each has a process of its own beside the workers."""


def launch(study: Study, workers: int | None = None, jobs: int | None = None) -> int:
    """Reproduce a profile; returns 0, or 1 if a stage failed.

    The same as a plain ``dvc repro``, but that data and settings are checked before anything
    starts, that what a dead worker left undone is tried again, and that stages run side by side.

    Args:
        study: the profile.
        workers: processes that train; by default what file and environment say.
        jobs: stages that run side by side, where they are independent; by default one per worker,
            :data:`MOST_JOBS` at most.

    Raises:
        SafsError: something is wrong that can be known before anything trains.
    """
    if jobs is not None and jobs < 1:
        raise SafsError(f"--jobs: {jobs}: expected 1 or more")
    if workers is not None:
        os.environ["SAFS_WORKERS"] = str(workers)
    target = Path(study.profile.params_file).with_name("dvc.yaml")
    if not target.is_file():
        raise SafsError(f"{target}: no such file; `make graph` copies dvc.yaml into every profile")
    preflight(study)
    jobs = jobs or max(1, min(MOST_JOBS, compute.worker_count()))
    started = time.monotonic()
    environment = {**os.environ, "PATH": _path(), "PYTHONHASHSEED": "0"}
    with alone(f"safs-bench run {study.profile.profile}") as held:
        dvc_process.mend(target.with_name("dvc.lock"))
        forget_the_dead(Path("runs") / study.profile.profile)
        if jobs > 1:
            code = side_by_side.run(str(target), jobs, environment, keep=[held])
        else:
            repro = ("repro", "--quiet", str(target))
            code = 0 if dvc_process.run(*repro, environment=environment, keep=[held]) else 1
    print(f"{study.profile.profile}: {clock(time.monotonic() - started)}", file=sys.stderr)
    return code


def forget_the_dead(runs: Path) -> None:
    """Remove what is not finished work, so that DVC runs its stage again.

    That are trainings whose workers died, and files that do not fit their digest.
    """
    for path in runs.rglob("*.json"):
        try:
            finished = not artefacts.died(sealed.read(path))
        except SafsError as error:
            print(f"{error}; it is made again", file=sys.stderr)
            finished = False
        if not finished:
            path.unlink()


def show(study: Study) -> int:
    """Print the results of a study and where its files are; 1 if no run has ended well."""
    from bench.report.terminal import summary

    runs, console = collection(study), Console()
    console.print(summary(runs, context(study)))
    place = results(study)
    for what, path in (
        ("tables", place / "tables"),
        ("comparisons", place / "comparisons"),
        ("report", place / "report.html"),
    ):
        console.print(f"{what:12} {path}", highlight=False)
    return 0 if (runs.frame["status"] == "ok").any() else 1


def _path() -> str:
    """PATH with this interpreter first: DVC's stages say ``python``."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
