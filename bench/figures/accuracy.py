"""Accuracy by arm and pruning ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.context import Context
from bench.figures import style
from bench.figures.plot import FigureSource, Frame, Plot, legend, panels
from bench.render import ratio_text
from safs.arms import ARMS, ordered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def data(source: FigureSource) -> Frame:
    """Top-1 and cap (percent) of every expected run; empty cells where there is no result."""
    frame = source.collection.frame
    columns = ["pair", "ratio", "replicate", "arm", "status", "top1", "cap"]
    return frame.loc[frame["arm"].isin(source.context.arms), columns]


def draw(frame: Frame, context: Context) -> Figure:
    """One panel per pair: every replicate a point, the mean a bar, the cap a dashed line."""
    figure, axes = panels(len(context.pairs), 1, 8.2, 4.0)
    arms = [name for name in ordered(frame["arm"]) if name != "dense"]
    for ax, pair in zip(axes[:, 0], context.pairs, strict=True):
        _panel(ax, frame[frame["pair"] == pair], arms)
        ax.set_title(context.label(pair))
    legend(figure, loc="outside right upper")
    return figure


def _panel(ax: Axes, rows: Frame, arms: list[str]) -> None:
    ratios = sorted(set(rows["ratio"]) - {0.0})
    places = np.linspace(-0.36, 0.36, len(arms)) if len(arms) > 1 else np.zeros(1)
    dense = rows.loc[rows["arm"] == "dense", "top1"].dropna()
    if len(dense):
        ax.axhline(dense.mean(), color=style.INK, linestyle=":", label="Dense (mean)")
    for number, (arm, offset) in enumerate(zip(arms, places, strict=True)):
        _points(ax, rows[rows["arm"] == arm], number, offset, ratios)
    _caps(ax, rows, ratios)
    ax.set_xticks(range(len(ratios)), [ratio_text(r) for r in ratios])
    ax.set(xlabel="Pruning ratio", ylabel="Test top-1 (%)")
    ax.grid(axis="x", visible=False)


def _points(ax: Axes, own: Frame, number: int, offset: float, ratios: list[float]) -> None:
    colour, marker = style.colour(number), style.marker(number)
    label: str | None = ARMS[own["arm"].iloc[0]].label if len(own) else None
    for place, ratio in enumerate(ratios):
        values = own.loc[own["ratio"] == ratio, "top1"].dropna().to_numpy()
        if not len(values):
            continue
        x = np.full(len(values), place + offset)
        ax.scatter(x, values, s=22, color=colour, marker=marker, label=label, zorder=3)
        ax.plot(x[0] + np.array([-0.06, 0.06]), [values.mean()] * 2, color=colour, linewidth=2)
        label = None


def _caps(ax: Axes, rows: Frame, ratios: list[float]) -> None:
    label: str | None = "Connectivity cap (each net)"
    line: dict[str, Any] = {"linestyle": "--", "linewidth": 1, "color": style.INK, "alpha": 0.7}
    known = rows.dropna(subset=["cap"]).drop_duplicates(["ratio", "replicate"])
    for place, ratio in enumerate(ratios):
        for cap in sorted(set(known.loc[known["ratio"] == ratio, "cap"])):
            ax.plot([place - 0.45, place + 0.45], [cap, cap], label=label, **line)
            label = None


PLOT = Plot(
    "accuracy",
    "Test accuracy by method and pruning ratio",
    "Every point is one replicate, the short bar their mean. A dashed line is the accuracy that "
    "the connected classes of one pruned network allow at most; the dotted line is the mean of "
    "the dense networks.",
    "at least one run",
    data,
    draw,
)
