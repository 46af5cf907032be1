"""All stages on a real CUDA device: any number of workers, and killed runs, leave the same records.

Without a device these are skipped; :mod:`test_cuda_stages` runs the same stages on a simulated one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

ROOT = Path(__file__).parents[2]
PAIR = "lenet5_generated"
ARMS = ["vanilla", "srelu", "stage1_only", "safs", "safs_fast"]
VARIES = ("seconds", "memory", "environment", "digest")
STAGES = """
import sys
from pathlib import Path
from pipelines.config.profile import Studies
from pipelines.config.study import Study, load
from pipelines.stages import baselines, evaluate, fast, pretrain, prune, search, tune

root, pair, ratio, *arms = sys.argv[1:]
whole = load(Path("pipelines/profiles/smoke/params.yaml"), Path(root))
cells = {name: cell for name, cell in whole.profile.cells.items() if cell.pair == pair}
own = {"pairs": (pair,), "cells": cells, "arms": tuple(arms), "studies": Studies()}
study = Study(profile=whole.profile.model_copy(update=own), pairs={pair: whole.pairs[pair]})
pretrain.run(study, pair)
for stage in (prune, baselines, search, tune):
    stage.run(study, pair, float(ratio))
for stage in (fast, evaluate):
    stage.run(study, pair)
"""
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]


class Run:
    """The smoke profile's LeNet-5 in an empty folder, with so many workers on the card."""

    def __init__(self, place: Path, workers: int) -> None:
        self.place, self.workers = place, workers
        place.mkdir()

    def start(self) -> subprocess.Popen[bytes]:
        own = {"SAFS_DEVICE": "cuda", "SAFS_WORKERS": str(self.workers), "PYTHONPATH": str(ROOT)}
        arguments = [sys.executable, "-c", STAGES, str(ROOT), PAIR, "0.9", *ARMS]
        return subprocess.Popen(
            arguments, cwd=self.place, env=os.environ | own, start_new_session=True
        )

    def to_its_end(self) -> dict[str, dict]:
        assert self.start().wait(600) == 0
        return self.records()

    def killed_during(self, stage: str) -> None:
        """SIGKILL for the run, its keeper and workers once the stage has journalled a training."""
        process, ends = self.start(), time.monotonic() + 300
        while not list(self.place.glob(f"scratch/{stage}/*/trainings.jsonl")):
            assert process.poll() is None and time.monotonic() < ends, f"never reached {stage}"
            time.sleep(0.02)
        found = psutil.process_iter(["cwd"])
        here = [other for other in found if other.info["cwd"] == str(self.place)]
        assert len(here) > 1 + self.workers, "stage, keeper and workers"
        for other in here:
            other.kill()
        process.wait()

    def records(self) -> dict[str, dict]:
        """Without what may differ between runs."""
        found = {}
        for path in sorted((self.place / "runs/smoke/evaluate" / PAIR).glob("*.json")):
            record = json.loads(path.read_text())
            assert record["device"]["type"] == "cuda" and record["backend"] == "dense", path.name
            found[path.name] = {k: v for k, v in record.items() if k not in VARIES}
        return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, dict]:
    """What one worker makes."""
    return Run(tmp_path_factory.mktemp("alone") / "run", 1).to_its_end()


def test_one_worker_makes_every_record(alone) -> None:
    assert {name.partition("-")[0] for name in alone} == {"dense", *ARMS}
    reasons = {final["reason"] for record in alone.values() for final in record["finals"]}
    assert len(alone) == 2 * (len(ARMS) + 1) and reasons == {None}


@pytest.mark.parametrize("workers", [2, 4])
def test_so_many_workers_on_one_card_make_the_same(workers: int, alone, tmp_path) -> None:
    assert Run(tmp_path / "run", workers).to_its_end() == alone


def test_killed_twice_it_ends_as_if_never_interrupted(alone, tmp_path) -> None:
    run = Run(tmp_path / "run", 2)
    for stage in ("search", "tune"):
        run.killed_during(stage)
    assert run.to_its_end() == alone
