"""Independent DVC stages side by side: order, failures, and the same lock as one by one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import yaml

from pipelines.cli import main as cli
from pipelines.dvc import process as dvc_process
from pipelines.dvc import side_by_side
from pipelines.dvc.alone import FILE, alone
from safs.errors import SafsError

ROOT = Path(__file__).parents[2]
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


@pytest.fixture
def ctrl_c():
    """Python's own answer to Ctrl-C; libraries that other tests import (dask-jobqueue) take it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_when_interrupted_no_further_stage_is_started(ctrl_c):
    ran = []

    def repro(name: str) -> bool:
        ran.append(name)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        return True

    with pytest.raises(KeyboardInterrupt):
        side_by_side.carry_out(STEPS, 1, repro)
    time.sleep(0.6)
    assert ran == ["a"]


def whole_group(process, number):
    os.killpg(process.pid, number)


def itself(process, number):
    process.send_signal(number)


@pytest.mark.parametrize(
    ("send", "number", "jobs"),
    [
        (whole_group, signal.SIGINT, "1"),
        (whole_group, signal.SIGTERM, "2"),
        (itself, signal.SIGTERM, "2"),
    ],
)
def test_whoever_is_asked_ends_the_stage_and_leaves_dvc_in_order(pipeline, send, number, jobs):
    """A DVC that ended in between could leave half of what it writes down."""
    listening = (
        "import os, signal, sys, time; from pipelines import signals; signals.leave_when_asked(); "
        "open('started', 'w').close(); time.sleep(30)"
    )
    graph = yaml.safe_load(Path("dvc.yaml").read_text())
    before = graph["stages"]["a"]["cmd"]
    graph["stages"]["a"]["cmd"] = f'exec {sys.executable} -c "{listening}"'
    Path("dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    run = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pipelines import signals; signals.interrupt_when_asked()\n"
        "from pipelines.dvc import process, side_by_side\n"
        "if sys.argv[1] == '1': process.run('repro', 'a', environment=os.environ)\n"
        "else: side_by_side.run('dvc.yaml', 2, os.environ)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", run, jobs], env=environment, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    while not Path("started").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    send(process, number)
    errors = process.communicate(timeout=20)[1].decode()
    assert process.returncode != 0 and errors.count("Traceback") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
    graph["stages"]["a"]["cmd"] = before
    Path("dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    assert side_by_side.run("dvc.yaml", 2, os.environ) == 0


def test_a_command_of_many_trainings_ends_at_once_and_leaves_signals_as_they_were():
    """Threads that wait for trainings would keep it; what goes on after it has its own handlers."""
    run = (
        "import signal, threading, time; from pipelines import signals\n"
        "before = signal.getsignal(signal.SIGINT)\n"
        "with signals.leaving_when_asked(): pass\n"
        "assert signal.getsignal(signal.SIGINT) is before\n"
        "with signals.leaving_when_asked():\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    print('started', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", run], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == b"started\n", process.communicate()[1]
    itself(process, signal.SIGINT)
    errors = process.communicate(timeout=20)[1].decode()
    assert process.returncode == 128 + signal.SIGINT and not errors


def test_half_a_table_of_a_killed_dvc_is_removed(pipeline):
    table, lock = Path(".dvc/tmp/rwlock"), Path("dvc.lock")
    dvc_process.mend(lock)
    table.write_text('{"write": {"/a/b": {"pid": 1')
    dvc_process.mend(lock)
    assert not table.exists() and not lock.exists()
    table.write_text("{}")
    dvc_process.mend(lock)
    assert table.read_text() == "{}"


MARKERS = "<<<<<<< HEAD\na: 1\n=======\n"
ADDED_TO = """schema: '2.0'
stages:
  a:
    cmd: first
    deps:
    - path:
  b:
    cmd: second
"""
"""A DVC was killed while it wrote its stage, and the next one wrote its own behind the half."""


@pytest.mark.parametrize("torn", ["", "stages:\n  a:\n cmd", "[]", MARKERS, "\0", ADDED_TO])
def test_half_a_lock_is_removed(pipeline, torn, capsys):
    lock = Path("dvc.lock")
    lock.write_text("schema: '2.0'\nstages: {}\n")
    dvc_process.mend(lock)
    assert lock.exists() and not capsys.readouterr().err
    lock.write_text(torn)
    dvc_process.mend(lock)
    assert not lock.exists() and "dvc.lock: half a file, removed" in capsys.readouterr().err


def test_without_a_repository_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SafsError, match=r"^DVC: you are not inside of a DVC repository[^\n]*$"):
        dvc_process.mend(Path("dvc.lock"))


HOLD = """
import os, subprocess, sys, time
from pipelines.dvc.alone import alone
with alone("safs-bench run first") as held:
    heir = subprocess.Popen(["sleep", sys.argv[1]], pass_fds=[held])
    with open("held.part", "w") as file:
        file.write(str(heir.pid))
    os.replace("held.part", "held")  # whole from the first moment that it is there
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path, monkeypatch):
    """A run that holds the checkout, with a process that outlives it by three seconds."""
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", HOLD, "3"], env=environment) as process:
        while not Path("held").exists():
            time.sleep(0.05)
        yield process
        process.kill()


def test_the_second_run_is_told_who_runs(holder):
    words = rf"process {holder.pid}, `safs-bench run first`, since \d\d:\d\d:\d\d; wait for it"
    with pytest.raises(SafsError, match=words), alone("safs-bench run second"):
        pass


def test_nothing_is_cleaned_while_a_run_goes_on(holder, capsys):
    Path("dvc.yaml").touch()
    Path("pipelines").mkdir()
    journal = Path("scratch/search/journal.json")
    journal.parent.mkdir(parents=True)
    journal.touch()
    assert cli.main(["clean"]) == 2
    assert "`safs-bench run first`" in capsys.readouterr().err
    assert journal.exists() and FILE.exists()


def test_what_a_killed_run_left_is_waited_for(holder):
    holder.kill()
    holder.wait()
    heir = int(Path("held").read_text())
    with alone("safs-bench run second"):
        assert not psutil.pid_exists(heir) or psutil.Process(heir).status() == "zombie"


def test_less_than_one_job_is_an_error(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main(["run", "smoke", "--jobs", "0"]) == 2
    assert capsys.readouterr().err == "error: --jobs: 0: expected 1 or more\n"
