"""The columns that tables share, each by the keys of the facts that it shows."""

from __future__ import annotations

import math
from collections.abc import Callable

from bench.contrasts import contrast_label
from bench.render import (
    ABSENT,
    UNBOUNDED,
    Column,
    Facts,
    interval_text,
    number,
    p_text,
    ratio_text,
    spread_text,
)
from safs.arms import ARMS

RATIO = Column("Ratio", lambda row: ratio_text(row["ratio"]))
ARM = Column("Arm", lambda row: ARMS[row["arm"]].label)
EQUIVALENT = Column(
    "Within the margin",
    lambda row: (
        f"{'shown' if row['equivalent'] else 'not shown'} (±{row['margin']:g})"
        if math.isfinite(row["margin"])
        else ABSENT
    ),
)
CONTRAST = Column("Contrast", lambda row: contrast_label(row["contrast"]))


def pair_by(label: Callable[[str], str]) -> Column:
    """The pair, as ``label`` calls it."""
    return Column("Pair", lambda row: label(row["pair"]))


def words(heading: str, key: str) -> Column:
    """A text or a count as it is, :data:`~bench.render.ABSENT` where there is none."""
    return Column(heading, lambda row: str(row[key]) or ABSENT)


def count(heading: str, part: str, whole: str) -> Column:
    """``part of whole``."""
    return Column(heading, lambda row: f"{row[part]} of {row[whole]}")


def figure(heading: str, key: str, digits: int = 2, sign: bool = False, unit: float = 1) -> Column:
    """A number with ``digits`` decimals, in ``unit``."""
    return Column(heading, lambda row: number(row[key] / unit, digits, sign))


def spread(heading: str, key: str) -> Column:
    """Mean and standard deviation, ``<key>_mean`` and ``<key>_sd``."""
    return Column(heading, lambda row: spread_text(row[f"{key}_mean"], row[f"{key}_sd"]))


def bounds(heading: str = "95% interval", of: str = "") -> Column:
    """The interval from ``<of>low`` to ``<of>high``."""
    return Column(heading, lambda row: interval_text(row[f"{of}low"], row[f"{of}high"]))


def exact_text(row: Facts, digits: int = 2) -> str:
    """The exact interval; where few replicates leave it unbounded, paired t beside it."""
    exact = interval_text(row["low"], row["high"], digits)
    t = interval_text(row["t_low"], row["t_high"], digits)
    return f"{exact} (t: {t})" if exact == UNBOUNDED and t != ABSENT else exact


def p_value(heading: str, key: str) -> Column:
    """A p value."""
    return Column(heading, lambda row: p_text(row[key]))


def share_off(heading: str, key: str) -> Column:
    """A relative error in whole percent, signed."""
    return Column(
        heading, lambda row: f"{100 * row[key]:+.0f} %" if math.isfinite(row[key]) else ABSENT
    )
