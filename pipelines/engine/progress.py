"""Progress of a stage in epochs, with the time left: a bar on a terminal, lines elsewhere.

Stages that run side by side share the terminal and print lines too.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_PROGRESS = "SAFS_PLAIN_PROGRESS"
"""Set in the environment of a stage that is to print lines on a terminal as well."""
QUIET = "SAFS_QUIET"
"""Set in the environment of a stage that is to print errors alone."""
_LINE_SECONDS = 15.0
# Share of the epochs after which the time left is worth printing; workers start up before that.
_FORESEEN = 0.03


class EpochProgress:
    """Counts the epochs of many concurrent trainings towards a known total.

    Args:
        title: name of the stage.
        total: epochs that all its trainings have together.
    """

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total = title, total
        self._quiet = QUIET in os.environ
        self._lock = threading.Lock()
        self._running: dict[str, int] = {}
        self._noticed: set[str] = set()
        self._done = 0
        self._skipped = 0
        self._started = self._printed = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> EpochProgress:
        plain = self._quiet or PLAIN_PROGRESS in os.environ
        if sys.stderr.isatty() and self.total and not plain:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
                TimeRemainingColumn(),
                transient=True,
            )
            self._bar.start()
            self._bar.add_task(self.title, total=self.total)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        seconds = time.monotonic() - self._started
        if error[0] is None:
            kept = f", {self._skipped} kept from earlier runs" if self._skipped else ""
            text = f"{self.title}: {self._done} epochs{kept} in {clock(seconds)}"
            self._print(text)

    def epoch(self, identity: str, epoch: int) -> None:
        """A running training has finished its ``epoch``-th epoch."""
        with self._lock:
            self._running[identity] = epoch
            self._show()

    def finished(self, identity: str, epochs: int, *, kept: bool = False) -> None:
        """A training is over; ``kept`` if its result was there already."""
        with self._lock:
            self._running.pop(identity, None)
            self._done += epochs
            self._skipped += epochs if kept else 0
            self._show()

    def notice(self, text: str | None) -> None:
        """Print a line that the reader should see, once per stage."""
        with self._lock:
            if text and text not in self._noticed:
                self._noticed.add(text)
                self._print(f"{self.title}: {text}")

    def _show(self) -> None:
        done = self._done + sum(self._running.values())
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
            return
        now = time.monotonic()
        if now - self._printed < _LINE_SECONDS or not done:
            return
        self._printed = now
        worked = done - self._skipped
        line = f"{self.title}: {done}/{self.total} epochs"
        if worked > _FORESEEN * self.total:
            line += f", {clock((now - self._started) / worked * (self.total - done))} left"
        self._print(line)

    def _print(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as ``h:mm:ss`` or ``m:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
