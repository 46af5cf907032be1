"""What forest plots share: a line per row, its interval and mean, and where it leaves the axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bounds = tuple[float, float]
NONE: Bounds = (math.nan, math.nan)

UNBOUNDED = (
    "The thick line is the exact 95% interval. Where it ends in arrows it is unbounded, as fewer "
    "than six replicates exclude nothing; the thin line beside it is the interval of paired t."
)


@dataclass(frozen=True)
class Row:
    """One line of a panel.

    Attributes:
        y: its height; lines are counted downwards.
        mean: NaN where there is none.
        interval: drawn thick; infinite ends become arrows, NaN draws nothing.
        beside: an interval drawn thin below it, likewise.
        colour: of line and mark.
        marker: the shape at the mean.
        filled: whether the mark is.
    """

    y: float
    mean: float
    interval: Bounds = NONE
    beside: Bounds = NONE
    colour: str = style.INK
    marker: str = "s"
    filled: bool = True


def panel(ax: Axes, rows: Sequence[Row], lines: float) -> None:
    """Draw the rows over ``lines`` lines, with a dotted line at 0.

    The axis holds 0, all means and bounded intervals. What is drawn beside widens it by a span at
    most; whatever goes on outside ends in an arrow.
    """
    low, high = limits(rows)
    ax.set_xlim(low, high)
    ax.set_ylim(lines - 0.4, -0.6)
    ax.axvline(0, color=style.INK, linewidth=0.8, linestyle=":")
    for row in rows:
        _line(ax, row.y, row.interval, linewidth=2, color=row.colour)
        _line(ax, row.y + 0.22, row.beside, linewidth=0.8, color=row.colour)
        if math.isfinite(row.mean):
            inside = row.colour if row.filled else "none"
            mark: dict[str, Any] = {"marker": row.marker, "edgecolors": row.colour, "zorder": 3}
            ax.scatter([row.mean], [row.y], s=36, color=inside, **mark)
    ax.set_yticks([])
    ax.set_xlabel("Percentage points")
    ax.grid(axis="y", visible=False)


def limits(rows: Iterable[Row]) -> Bounds:
    """The ends of a panel's axis, with a margin."""
    rows = list(rows)
    inner = _finite(0.0, *(v for row in rows for v in (row.mean, *row.interval)))
    low, high = min(inner), max(inner)
    span = high - low or 1.0
    outer = _finite(*(v for row in rows for v in row.beside))
    low = max(min([low, *outer]), low - span)
    high = min(max([high, *outer]), high + span)
    margin = 0.06 * (high - low or span)
    return low - margin, high + margin


def _finite(*values: float) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _line(ax: Axes, y: float, bounds: Bounds, **line: Any) -> None:
    """A horizontal line; an end outside the axis is an arrow at its edge."""
    if any(map(math.isnan, bounds)):
        return
    low, high = ax.get_xlim()
    ax.plot([max(bounds[0], low), min(bounds[1], high)], [y, y], **line)
    size = 24 if line["linewidth"] > 1 else 8
    for end, edge, shape, outside in (
        (bounds[0], low, "<", bounds[0] < low),
        (bounds[1], high, ">", bounds[1] > high),
    ):
        if outside or math.isinf(end):
            ax.scatter([edge], [y], marker=shape, s=size, color=line["color"], clip_on=False)
