"""How the processes of a run end: with the one that started them, and in order when they are told.

``safs-bench run`` starts DVC, which starts a stage, which sends work to workers. Ctrl-C and SIGTERM
mean the same to each. A stage ends at once, as if killed: what is finished is on the disk. A DVC
ends its stage and then notes that this has failed, since one that dies while it writes would leave
half a file. ``safs-bench`` waits for its DVC.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ASKED = (signal.SIGINT, signal.SIGTERM)
"""What asks a process to end."""


def end_with_parent(how: signal.Signals) -> None:
    """On Linux, send this process a signal when the one that started it dies, however it does."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, how)


def interrupt_when_asked() -> None:
    """Take SIGTERM for Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def leave_when_asked() -> None:
    """End at once: threads would first wait for the trainings in flight.

    Workers end a training that nobody waits for.
    """

    def leave(number: int, _: FrameType | None) -> None:
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # the progress bar hides the cursor
        os._exit(128 + number)

    for number in ASKED:
        signal.signal(number, leave)


@contextmanager
def leaving_when_asked() -> Iterator[None]:
    """:func:`leave_when_asked` for as long as a command of many trainings lasts."""
    before = {number: signal.getsignal(number) for number in ASKED}
    leave_when_asked()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deaf() -> Iterator[None]:
    """Ignore what asks this process to end, where it would leave something half done."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ASKED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_children_when_asked() -> None:
    """Ignore Ctrl-C, which reaches the children by itself; hand SIGTERM on to them as one."""

    def hand_on(*_: object) -> None:
        import psutil

        for child in psutil.Process().children():
            with suppress(psutil.Error):
                child.send_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, hand_on)
