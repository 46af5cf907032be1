"""Independent DVC stages side by side: order, failures, and the same lock as one by one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from pipelines import cli, side_by_side

STEPS = {"a": [], "b": [], "c": ["a", "b"], "d": ["a"], "e": ["c"]}
DVC = [sys.executable, "-m", "dvc"]


def test_a_stage_waits_for_what_it_needs_and_for_nothing_else():
    finished: list[str] = []
    together = threading.Barrier(2, timeout=10)

    def repro(name: str) -> bool:
        assert set(STEPS[name]) <= set(finished)
        if name in "ab":
            together.wait()
        if name == "b":
            while "d" not in finished:
                time.sleep(0.01)
        finished.append(name)
        return True

    assert side_by_side.carry_out(STEPS, 2, repro) == []
    assert sorted(finished) == list("abcde")


def test_no_more_stages_run_than_asked_for():
    running, most = set(), []

    def repro(name: str) -> bool:
        running.add(name)
        most.append(len(running))
        time.sleep(0.02)
        running.remove(name)
        return True

    side_by_side.carry_out(dict.fromkeys("abcdef", ()), 2, repro)
    assert max(most) == 2


def test_what_needs_a_failed_stage_does_not_run_and_the_rest_does():
    ran = []

    def repro(name: str) -> bool:
        ran.append(name)
        return name != "b"

    assert side_by_side.carry_out(STEPS, 2, repro) == ["b"]
    assert sorted(ran) == ["a", "b", "d"]


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """A DVC repository with five stages, two of which wait for others."""
    monkeypatch.chdir(tmp_path)
    stages = {
        name: {
            "cmd": f"cat seed {' '.join(needs)} > {name}; echo {name} >> {name}",
            "deps": ["seed", *needs],
            "outs": [name],
        }
        for name, needs in STEPS.items()
    }
    Path("seed").write_text("1\n")
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    subprocess.run([*DVC, "init", "-q", "--no-scm"], check=True)
    return tmp_path


def test_the_lock_is_that_of_one_by_one(pipeline):
    subprocess.run([*DVC, "repro", "--quiet"], check=True)
    lock = Path("dvc.lock")
    expected = lock.read_text()
    lock.unlink()
    for name in STEPS:
        Path(name).unlink()
    assert side_by_side.run("dvc.yaml", 3, os.environ) == 0
    assert lock.read_text() == expected
    done = subprocess.run([*DVC, "status"], capture_output=True, text=True, check=True)
    assert "up to date" in done.stdout


def test_only_stages_with_changes_and_what_follows_them_are_started(pipeline):
    assert side_by_side.plan("dvc.yaml")[1] == STEPS
    subprocess.run([*DVC, "repro", "--quiet"], check=True)
    order, steps = side_by_side.plan("dvc.yaml")
    assert sorted(order) == list("abcde") and steps == {}
    Path("c").unlink()
    assert side_by_side.plan("dvc.yaml")[1] == {"c": [], "e": ["c"]}


def test_less_than_one_job_is_an_error(capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    assert cli.main(["run", "smoke", "--jobs", "0"]) == 2
    assert capsys.readouterr().err == "error: --jobs: 0: expected 1 or more\n"
