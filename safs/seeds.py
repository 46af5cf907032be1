"""A seed stream of its own for each purpose, so that changing one leaves the others as they were.

Every random choice of a study is a function of ``(root seed, purpose, path)``, where the path names
the replicate and, where it matters, the phase and epoch. Streams keep no state between calls: a
training that resumes at epoch 57 draws for epoch 57 what an uninterrupted one draws.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Purpose = Literal[
    "split", "init", "order", "augment", "dropout", "search", "tune", "chromosome", "prune"
]
Phase = Literal["dense", "search", "tune", "final"]

# The position of a name is its key: append, never reorder (tests pin the streams).
_PURPOSES: tuple[Purpose, ...] = (
    "split", "init", "order", "augment", "dropout", "search", "tune", "chromosome",
    "prune",
)  # fmt: skip
_PHASES: tuple[Phase, ...] = ("dense", "search", "tune", "final")


def generator(root: int, purpose: Purpose, *path: int) -> np.random.Generator:
    """The numpy generator of ``purpose`` at ``path`` (replicate, ...)."""
    return np.random.default_rng(_sequence(root, purpose, path))


def integer(root: int, purpose: Purpose, *path: int) -> int:
    """A 31-bit seed of ``purpose`` at ``path``, for libraries that want an integer."""
    return int(_sequence(root, purpose, path).generate_state(1)[0]) >> 1


def phase_key(phase: Phase) -> int:
    """The number of a phase inside a path: every arm of a replicate shares a phase's batches."""
    return _PHASES.index(phase)


def _sequence(root: int, purpose: Purpose, path: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(root, spawn_key=(_PURPOSES.index(purpose), *path))
