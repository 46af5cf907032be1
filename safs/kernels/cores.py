"""How many threads share a training on the kernels."""

from __future__ import annotations

import os

import torch

from safs.errors import SafsError

VARIABLE = "SAFS_THREADS"


def threads() -> int:
    """What ``SAFS_THREADS`` says, else as many as torch may use; the number changes no bit.

    Raises:
        SafsError: the variable holds something else than a number from 1.
    """
    told = os.environ.get(VARIABLE)
    if told is None:
        return torch.get_num_threads()
    if not told.isdecimal() or int(told) < 1:
        raise SafsError(f"{VARIABLE}: {told!r}: expected a number from 1")
    return int(told)
