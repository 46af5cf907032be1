"""Run a profile through DVC, with one set of workers that lives as long as the run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from pipelines.config import Study
from pipelines.engine import compute
from pipelines.engine.progress import clock
from pipelines.publishing import collection, context, results
from safs.datasets import load_part

DVC = (sys.executable, "-m", "dvc")


def launch(study: Study, workers: int | None = None) -> int:
    """Reproduce a profile; returns DVC's exit code.

    The workers import torch once and serve every stage. A plain ``dvc repro`` gives the same
    results; there each stage starts workers of its own.
    """
    preflight(study)
    started = time.monotonic()
    own = None
    environment = {**os.environ, "PATH": _path(), "PYTHONHASHSEED": "0"}
    if "DASK_SCHEDULER_ADDRESS" not in os.environ:
        count = compute.worker_count() if workers is None else workers
        own = compute.cluster(count)
        environment["DASK_SCHEDULER_ADDRESS"] = own.scheduler_address
    try:
        target = str(Path(study.profile.params_file).with_name("dvc.yaml"))
        code = subprocess.call([*DVC, "repro", "--quiet", target], env=environment)
    finally:
        if own is not None:
            own.close()
    print(f"{study.profile.profile}: {clock(time.monotonic() - started)}", file=sys.stderr)
    return code


def preflight(study: Study) -> None:
    """Read every data set that the study needs, so that a missing one is reported at once."""
    for pair in study.pairs.values():
        load_part(pair.dataset.name, "train", compute.data_directory())


def show(study: Study) -> int:
    """Print the results of a study and where its files are; 1 if no run has ended well."""
    from bench.terminal import summary

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
