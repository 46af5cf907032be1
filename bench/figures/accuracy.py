"""Accuracy by arm and pruning ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.context import Context
from bench.figures import style
from bench.figures.plot import Frame, Plot, Source, grid, legend
from bench.render import number, ratio_text
from safs.arms import ARMS, ordered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {"SAFS": (4, "o"), "tuned recipe": (5, "s"), "dense recipe": (6, "D")}
"""The kinds of arms, and the place of their colour and their marker."""
FENCE = 3.0
"""An axis reaches so many interquartile ranges beyond the quartiles of its panel."""


def data(source: Source) -> Frame:
    """Top-1 and cap (percent) of every expected run; empty cells where there is no result."""
    frame = source.collection.frame
    columns = ["pair", "ratio", "replicate", "arm", "status", "top1", "cap"]
    return frame.loc[frame["arm"].isin(source.context.arms), columns]


def draw(frame: Frame, context: Context) -> Figure:
    """A row per pair, a column per ratio: arms side by side, a replicate's points linked."""
    arms = [name for name in ordered(frame["arm"]) if name != "dense"]
    pruned = frame[frame["arm"].isin(arms)]
    figure, _, cells = grid(pruned, ["pair"], 1.1 + 0.24 * len(arms), 4.6, ylabel="Test top-1 (%)")
    for cell in cells:
        own = frame[(frame["pair"] == cell.key[0]) & (frame["arm"] == "dense")]
        _panel(cell.ax, cell.rows, arms, own["top1"].mean())
        cell.ax.set_title(f"{context.label(cell.key[0])}\n{ratio_text(cell.column)}")
    legend(figure, loc="outside lower center", ncols=6)
    return figure


def limits(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The ends of a panel's axis: all values but those far outside (:data:`FENCE`)."""
    first, third = np.percentile(values, [25, 75])
    reach = FENCE * max(third - first, 1.0)
    inside = values[(values >= first - reach) & (values <= third + reach)]
    margin = 0.08 * max(float(np.ptp(inside)), 1.0)
    return float(inside.min()) - margin, float(inside.max()) + margin


def _panel(ax: Axes, rows: Frame, arms: list[str], dense: float) -> None:
    table = rows.pivot(index="replicate", columns="arm", values="top1").reindex(columns=arms)
    values = table.to_numpy()
    ax.set_xticks(range(len(arms)), [ARMS[arm].label for arm in arms], rotation=90)
    ax.set_xlim(-0.6, len(arms) - 0.4)
    ax.grid(axis="x", visible=False)
    known = values[np.isfinite(values)]
    if not known.size:
        return
    low, high = limits(known)
    ax.set_ylim(low, high)
    _lines(ax, rows, dense)
    for line in values:
        ax.plot(range(len(arms)), line, color=style.INK, linewidth=0.6, alpha=0.35, zorder=2)
    for place, arm in enumerate(arms):
        _points(ax, place, arm, values[:, place])
    _outside(ax, values, low, high)


def _lines(ax: Axes, rows: Frame, dense: float) -> None:
    """The dense mean and the caps, where the axis reaches them."""
    low, high = ax.get_ylim()
    if low <= dense <= high:
        ax.axhline(dense, color=style.INK, linestyle=":", label="Dense (mean)")
    caps = sorted(cap for cap in set(rows["cap"].dropna()) if low <= cap <= high)
    for number_, cap in enumerate(caps):
        label = None if number_ else "Connectivity cap (each net)"
        ax.axhline(cap, color=style.INK, linestyle="--", linewidth=0.8, alpha=0.6, label=label)


def _points(ax: Axes, place: int, arm: str, values: np.ndarray[Any, Any]) -> None:
    """An arm's replicates, and their mean as a bar."""
    kind = _kind(arm)
    colour, marker = style.colour(KINDS[kind][0]), KINDS[kind][1]
    x = np.full(len(values), place)
    ax.scatter(x, values, s=16, color=colour, marker=marker, label=kind, zorder=3)
    if np.isfinite(values).any():
        mean = np.nanmean(values)
        ax.plot([place - 0.32, place + 0.32], [mean, mean], color=colour, linewidth=2, zorder=4)


def _outside(ax: Axes, values: np.ndarray[Any, Any], low: float, high: float) -> None:
    """An arrow and the number at the edge for each point that the axis does not reach."""
    for place, column in enumerate(values.T):
        for beyond, edge, shape, side in (
            (column[column < low], low, "v", "bottom"),
            (column[column > high], high, "^", "top"),
        ):
            if beyond.size:
                ax.scatter([place], [edge], marker=shape, s=30, color=style.INK, clip_on=False)
                text = "\n".join(number(value, 1) for value in sorted(set(beyond)))
                shift = (0, 6 if side == "bottom" else -6)
                ax.annotate(
                    text, (place, edge), shift, textcoords="offset points", fontsize=7,
                    ha="center", va=side,
                )  # fmt: skip


def _kind(arm: str) -> str:
    if arm in ("safs", "safs_fast"):
        return "SAFS"
    return "tuned recipe" if ARMS[arm].tuned else "dense recipe"


PLOT = Plot(
    "accuracy",
    "Test accuracy by arm and pruning ratio",
    "A point is one replicate of an arm, a thin line joins the arms of one replicate, which share "
    "a mask, and the bar is the mean. How far points lie apart is the spread between masks, not "
    "the uncertainty of a difference: parallel lines are a sure difference however far they are "
    "apart, and the figure of differences has its interval. An arrow at the edge is a value far "
    "outside, with its number. A dashed line is what the connected classes of one pruned network "
    "allow at most, the dotted line the mean of the dense networks, where the axis reaches them.",
    "at least one run",
    data,
    draw,
)
