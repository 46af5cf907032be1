"""An arm's value in a replicate: the mean over its finals, a failed one counting as chance.

A final that is not finite has decided nothing, so its network is taken to guess: top-1 is 1 / C for
C classes, top-5 5 / C (1 where C <= 5), and each image is right with probability 1 / C. Loss and
gradient flow are missing, not imputed. The sensitivity analysis leaves failed finals out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.records.record import Record
from bench.records.schema import Final

Array = npt.NDArray[np.float64]


def top1(record: Record) -> float:
    """Top-1 as a fraction."""
    return _mean(each_top1(record))


def top5(record: Record) -> float:
    """Top-5 as a fraction."""
    return _mean(_or_chance(record, "top5", 5))


def validation_top1(record: Record) -> float | None:
    """Top-1 on the validation images as a fraction, a failed final's at chance too."""
    parts = [final.validation for final in finite(record)]
    known = [part.top1 for part in parts if part is not None and part.top1 is not None]
    if len(known) < len(parts):
        return None
    return _mean([*known, *[1 / record.classes] * record.failures])


def each_top1(record: Record) -> list[float]:
    """Top-1 of each final as a fraction, a failed one at chance."""
    return _or_chance(record, "top1", 1)


def finite(record: Record) -> list[Final]:
    """The finals that did not fail."""
    return [final for final in record.finals if final.reason is None]


def finite_top1(record: Record) -> list[float]:
    """Top-1 of each final that did not fail, as fractions."""
    return [final.test.top1 for final in record.finals if final.test is not None]


def correct(record: Record, images: int | None) -> Array | None:
    """Mean per-image correctness, shape ``(images,)``.

    Args:
        record: a run.
        images: how many test images its data set has, or None if that is not known.

    Returns:
        None where finals failed and nobody knows of how many images.
    """
    found: list[Array] = []
    for final in record.finals:
        if final.test is not None:
            found.append(final.test.bits().astype(float))
        elif images is None:
            return None
        else:
            found.append(np.full(images, 1 / record.classes))
    return np.mean(found, axis=0)


def _or_chance(record: Record, name: str, guesses: int) -> list[float]:
    """A fraction of each final; a failed one's is what ``guesses`` guesses give."""
    chance = min(1.0, guesses / record.classes)
    return [chance if each.test is None else getattr(each.test, name) for each in record.finals]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
