"""Progress of a stage and of the whole run in epochs, with the time left.

It is a bar on a terminal, lines elsewhere. Stages that run side by side share the terminal and
print lines too. Each is a process of its own; a folder that the run names is where they tell each
other how far they are.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from safs.files import write_json

PLAIN_PROGRESS = "SAFS_PLAIN_PROGRESS"
"""Set in the environment of a stage that is to print lines on a terminal as well."""
QUIET = "SAFS_QUIET"
"""Set in the environment of a stage that is to print errors alone."""
WHOLE_RUN = "SAFS_WHOLE_RUN"
"""Names, in the environment of a stage, the folder of the run that it is a part of."""
_LINE_SECONDS = 15.0
# Share of the epochs after which the time left is worth printing; workers start up before that.
_FORESEEN = 0.03


def begin(folder: Path, epochs: int, *, alike: bool) -> None:
    """Begin a run of so many epochs, in its folder; what an earlier run left there is removed.

    ``alike`` says whether an epoch takes about as long in all of its stages but the dense one, so
    that the time left can be told.
    """
    shutil.rmtree(folder, ignore_errors=True)
    write_json(folder / "whole.json", {"epochs": epochs, "alike": alike})


class _WholeRun:
    """The run that a stage is a part of: all that its stages have told in its folder."""

    _numbers = itertools.count()

    def __init__(self, folder: Path, dense: bool) -> None:
        self._plan = json.loads((folder / "whole.json").read_text())
        self._own = folder / f"stage-{os.getpid()}-{next(self._numbers)}.json"
        self._about = {"dense": dense, "began": time.time()}

    def tell(self, done: int, kept: int) -> str:
        """Tell the other stages how far this one is; returns how far all are, for people.

        Args:
            done: epochs of this stage, of which ``kept`` were there before the run.
        """
        write_json(self._own, {"done": done, "kept": kept, **self._about})
        told = [json.loads(path.read_text()) for path in self._own.parent.glob("stage-*.json")]
        done, epochs = sum(stage["done"] for stage in told), self._plan["epochs"]
        pruned = [stage for stage in told if not stage["dense"]]
        left = _of_pruned(pruned, epochs - done) if self._plan["alike"] else ""
        return f"all stages: {min(done, epochs)}/{epochs}{left}"


def _of_pruned(stages: Sequence[Mapping[str, float]], left: int) -> str:
    """The time that so many epochs take, by those of the pruned network alone.

    A dense epoch can take twenty times as long, and is over when these begin.
    """
    if not stages:
        return ""
    seconds = time.time() - min(stage["began"] for stage in stages)
    done, kept = (sum(int(stage[key]) for stage in stages) for key in ("done", "kept"))
    return _left(seconds, done, kept, done + left)


def _whole_run(dense: bool) -> _WholeRun | None:
    """The run that this process is a part of; None under plain DVC."""
    folder = Path(os.environ.get(WHOLE_RUN) or os.devnull)
    return _WholeRun(folder, dense) if (folder / "whole.json").is_file() else None


def _left(seconds: float, done: int, kept: int, total: int) -> str:
    """The time left, for the end of a line; nothing while too little is known."""
    worked = done - kept
    if worked <= _FORESEEN * total or done >= total:
        return ""
    return f", {clock(seconds / worked * (total - done))} left"


class EpochProgress:
    """Counts the epochs of many concurrent trainings towards a known total.

    Args:
        title: name of the stage.
        total: epochs that all its trainings have together.
        dense: whether these are of dense networks.
    """

    def __init__(self, title: str, total: int, *, dense: bool = False) -> None:
        self.title, self.total = title, total
        self._quiet = bool(os.environ.get(QUIET))
        self._lock = threading.Lock()
        self._running: dict[str, int] = {}
        self._noticed: set[str] = set()
        self.done = 0
        self._skipped = 0
        self._started = self._printed = time.monotonic()
        self._bar: Progress | None = None
        self._run = _whole_run(dense)

    def __enter__(self) -> EpochProgress:
        self.expect(self.total)
        return self

    def expect(self, total: int) -> None:
        """Say how many epochs there are, where that is known only after the stage has begun."""
        self.total = total
        plain = self._quiet or bool(os.environ.get(PLAIN_PROGRESS))
        if sys.stderr.isatty() and total and not plain:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
                TimeRemainingColumn(),
                transient=True,
            )
            self._bar.start()
            self._bar.add_task(self.title, total=total)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        seconds = time.monotonic() - self._started
        if error[0] is None:
            kept = f", {self._skipped} kept from earlier runs" if self._skipped else ""
            text = f"{self.title}: {self.done} epochs{kept} in {clock(seconds)}"
            self._print(text + self._whole(self.done))

    def epoch(self, identity: str, epoch: int) -> None:
        """A running training has finished its ``epoch``-th epoch."""
        with self._lock:
            self._running[identity] = epoch
            self._show()

    def finished(self, identity: str, epochs: int, *, kept: bool = False) -> None:
        """A training is over; ``kept`` if its result was there already."""
        with self._lock:
            self._running.pop(identity, None)
            self.done += epochs
            self._skipped += epochs if kept else 0
            self._show()

    def notice(self, text: str | None) -> None:
        """Print a line that the reader should see, once per stage."""
        with self._lock:
            if text and text not in self._noticed:
                self._noticed.add(text)
                self._print(f"{self.title}: {text}")

    def _show(self) -> None:
        done = self.done + sum(self._running.values())
        now = time.monotonic()
        due = now - self._printed >= _LINE_SECONDS and done > 0
        if due:
            self._printed = now
        if self._bar is not None:
            title = f"{self.title}{self._whole(done)}" if due else None
            self._bar.update(self._bar.task_ids[0], completed=done, description=title)
        elif due:
            left = _left(now - self._started, done, self._skipped, self.total)
            self._print(f"{self.title}: {done}/{self.total} epochs{left}{self._whole(done)}")

    def _whole(self, done: int) -> str:
        """How far the whole run is, behind what this stage says."""
        return f"; {self._run.tell(done, self._skipped)}" if self._run else ""

    def _print(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as ``h:mm:ss`` or ``m:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
