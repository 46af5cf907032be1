"""Kill a run again and again, and see that it ends as one that nobody touched.

    python tests/endurance/kills.py --kills 100 --folder EMPTY

A small profile on generated images runs in clones of this checkout's HEAD: once to its end, for
reference, and then under kills at random moments, started again after each. What is killed is drawn
from the run alone, its whole process group, DVC, a stage, a worker, the scheduler with all workers,
and the group in the moment in which DVC writes its lock. A kill counts only if its target was there
to die. Whenever a run ends well its records must be those of the reference, times and memory apart;
then it starts from nothing. A kill takes a little less than the reference: 240 s where that took
299 s, on two cores that were busy with other work. The last line says what it took; exits 0 if all
held.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

from safs import sealed

ROOT = Path(__file__).parents[2]
WITHIN = 0.5
"""A kill comes within this part of the time that the reference took."""
PATIENCE_SECONDS = 900.0
"""A run that takes longer hangs, and is a failure."""
VARIES = ("seconds", "memory", "digest", "environment")
PROFILE = {
    "profile": "tiny",
    "title": "A profile to be killed",
    "root": "../../..",
    "params_file": "pipelines/profiles/tiny/params.yaml",
    "seed": 7,
    "replicates": 2,
    "backend": "auto",
    "acceleration": {},
    "protocol": {"preset": "paper"},
    "pairs": ["lenet5_generated"],
    "cells": {"lenet5_generated-0.90": {"pair": "lenet5_generated", "ratio": 0.9}},
    "arms": ["vanilla", "srelu", "stage1_only", "stage2_only", "safs", "safs_fast"],
    "studies": {"activations": {}, "algorithms": {}, "landscape": {}},
    "readings": {},
    "budget": {
        "pretrain": {"epochs": 3},
        "finetune": {"epochs": 3},
        "search": {"moves": 4, "epochs": 2},
        "tune": {"trials": 4, "epochs": 2},
    },
}


def main() -> int:
    """Run reference and kills; returns 0 if every end was the reference's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="an empty one, for the clones")
    options = parser.parse_args()
    untouched, place = (clone(options.folder / name) for name in ("reference", "killed"))
    began = time.monotonic()
    if end(start(untouched)):
        return say("the reference did not end well: see its run.log")
    expected, seconds = outcome(untouched), time.monotonic() - began
    say(f"reference: {len(expected)} records in {seconds:.0f} s")
    draw = random.Random(options.seed)
    return carry_out(place, expected, options.kills, draw, WITHIN * seconds)


def carry_out(
    place: Path, expected: dict[str, str], kills: int, draw: random.Random, longest: float
) -> int:
    """Kill ``kills`` times; returns 0 if every run that ended well left what was expected."""
    killed, ends, began = 0, 0, time.monotonic()
    while killed < kills:
        kind, wait = draw.choice(list(TARGETS)), draw.uniform(2, longest)
        run = start(place)
        hit = wait_for(run, wait) and strike(place, run, kind)
        killed += bool(hit)
        code = end(run)
        say(f"{killed:3} {kind:9} {'hit' if hit else 'missed'} after {wait:4.1f} s, code {code}")
        if code == 0:
            ends += 1
            if others := differing(place, expected):
                return say(f"a run ended with other records than the reference: {others}")
            for folder in ("runs", "scratch"):
                shutil.rmtree(place / folder, ignore_errors=True)
        elif not hit:
            return say("a run that nobody killed ended badly: see its run.log")
    if end(start(place)) or differing(place, expected):
        return say(f"the last run ended otherwise than the reference: {differing(place, expected)}")
    each = (time.monotonic() - began) / killed
    say(f"{killed} of {killed} kills, {ends + 1} ends, all as the reference; {each:.0f} s a kill")
    return 0


def say(text: str) -> int:
    """Print a line now; returns 1, for a failure."""
    print(text, flush=True)
    return 1


def clone(place: Path) -> Path:
    """A clone of HEAD with the profile in it."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    folder = place / "pipelines/profiles/tiny"
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(PROFILE, sort_keys=False))
    shutil.copy(place / "dvc.yaml", folder / "dvc.yaml")
    return place


def start(place: Path) -> subprocess.Popen[bytes]:
    """A run of the profile, in a session of its own."""
    environment = {**os.environ, "PYTHONPATH": str(place)}
    with (place / "run.log").open("ab") as log:
        command = [sys.executable, "-m", "pipelines.cli.main", "run", "tiny"]
        return subprocess.Popen(
            command, cwd=place, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def outcome(place: Path) -> dict[str, str]:
    """What a finished run has to say: every record without what varies, by its name."""
    found = {}
    for path in sorted((place / "runs/tiny/evaluate").rglob("*.json")):
        lasting = {k: v for k, v in sealed.read(path).items() if k not in VARIES}
        found[path.name] = sealed.digest(lasting)
    return found


def differing(place: Path, expected: dict[str, str]) -> list[str]:
    """Names of the records that are not the reference's, missing and further ones included."""
    return sorted({name for name, _ in outcome(place).items() ^ expected.items()})


def wait_for(run: subprocess.Popen[bytes], seconds: float) -> bool:
    """Let a run be for a while; whether it still goes on."""
    with suppress(subprocess.TimeoutExpired):
        run.wait(seconds)
    return run.poll() is None


def end(run: subprocess.Popen[bytes]) -> int:
    """The exit code of a run once it has ended; one that hangs is killed, and all is over."""
    try:
        return run.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        sys.exit("a run hangs: see its run.log")


def strike(place: Path, run: subprocess.Popen[bytes], kind: str) -> bool:
    """Kill what is asked for; whether it was there and died of it."""
    if kind == "writing" and not writes_lock(place, run):
        return False
    found = TARGETS[kind](place, run)
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    others = [process for process in found if process.pid != run.pid]
    gone, _ = psutil.wait_procs(others, timeout=10)
    if len(others) < len(found) and run.wait(10) != -signal.SIGKILL:
        return False  # it had ended just before
    return bool(found) and len(gone) == len(others)


def writes_lock(place: Path, run: subprocess.Popen[bytes]) -> bool:
    """Wait for the moment in which DVC has emptied its lock; False if the run ends before."""
    lock = place / "pipelines/profiles/tiny/dvc.lock"
    before = lock.stat().st_size if lock.exists() else 0
    while run.poll() is None:
        size = lock.stat().st_size if lock.exists() else before
        if size < before:
            return True
        before = size
    return False


def group(_: Path, run: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [run_itself(run), *psutil.Process(run.pid).children(recursive=True)]


def run_itself(run: subprocess.Popen[bytes]) -> psutil.Process:
    return psutil.Process(run.pid)


def children(words: str) -> Callable[[Path, subprocess.Popen[bytes]], list[psutil.Process]]:
    """The first process of a run whose command has these words."""

    def find(_: Path, run: subprocess.Popen[bytes]) -> list[psutil.Process]:
        every = psutil.Process(run.pid).children(recursive=True)
        return [p for p in every if words in " ".join(command(p))][:1]

    return find


def command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def schedulers(place: Path) -> Iterator[psutil.Process]:
    for path in place.glob("scratch/workers/*/keeper.json"):
        with suppress(psutil.Error, OSError):
            yield psutil.Process(sealed.read_object(path)["pid"])


def scheduler(place: Path, _: subprocess.Popen[bytes]) -> list[psutil.Process]:
    found = list(schedulers(place))
    return [*found, *(child for each in found for child in each.children(recursive=True))]


def worker(place: Path, _: subprocess.Popen[bytes]) -> list[psutil.Process]:
    every = [child for each in schedulers(place) for child in each.children(recursive=True)]
    return [p for p in every if not p.children() and "resource_tracker" not in str(command(p))][:1]


TARGETS: dict[str, Callable[[Path, subprocess.Popen[bytes]], list[psutil.Process]]] = {
    "run": lambda _, run: [run_itself(run)],
    "group": group,
    "dvc": children("pipelines.dvc.process"),
    "stage": children("-m pipelines "),
    "worker": worker,
    "scheduler": scheduler,
    "writing": group,
}

if __name__ == "__main__":
    sys.exit(main())
