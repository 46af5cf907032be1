"""Accuracy gain against the parameters that are left (the paper's Figure 8)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import paper
from bench.context import Context
from bench.figures import style
from bench.figures.plot import Frame, Plot, Source, pair_panels
from bench.render import ratio_text
from bench.tables.shared import cells, gain, mean
from safs.arms import ARMS, ordered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def data(source: Source) -> Frame:
    """Non-zero parameters and mean paired gain over vanilla (points) per pair, ratio and arm."""
    collection, context = source.collection, source.context
    arms = [name for name in ordered(context.arms) if name not in ("dense", "vanilla")]
    rows = [_row(source, *cell) for cell in cells(collection, context, arms)]
    frame = Frame(rows)
    return frame if frame.empty else frame.dropna(subset=["nonzero", "gain"])


def _row(source: Source, pair: str, ratio: float, arm: str) -> dict[str, Any]:
    collection = source.collection
    found = gain(collection, pair, ratio, arm)
    published = source.context.pairs[pair].published
    printed = paper.gain(published, f"{arm}-vanilla", ratio)
    return {
        "pair": pair, "ratio": ratio, "arm": arm,
        "nonzero": mean(collection, pair, ratio, arm, "nonzero"),
        **found.facts("gain"), "n": found.n,
        "paper_gain": np.nan if printed is None else printed,
    }  # fmt: skip


def draw(frame: Frame, context: Context) -> Figure:
    """A panel per pair: a point per ratio and arm, the paper's gain as a cross."""
    return pair_panels(frame, context, 3.8, partial(_panel, arms=ordered(frame["arm"])))


def _panel(ax: Axes, rows: Frame, arms: list[str]) -> None:
    for number, arm in enumerate(arms, start=1):
        own = rows[rows["arm"] == arm]
        marks: dict[str, Any] = {"color": style.colour(number), "marker": style.marker(number)}
        x = own["nonzero"] * 1.03 ** (number - (len(arms) + 1) / 2)
        ax.vlines(x, own["low"], own["high"], color=style.colour(number), linewidth=1, alpha=0.7)
        ax.plot(x, own["gain"], linestyle="", label=ARMS[arm].label, **marks)
    printed = rows[rows["arm"] == "safs"].dropna(subset=["paper_gain"])
    cross: dict[str, Any] = {"marker": "x", "s": 60, "color": style.INK, "zorder": 4}
    if len(printed):
        ax.scatter(printed["nonzero"], printed["paper_gain"], label="SAFS, the paper", **cross)
    ax.axhline(0, color=style.INK, linewidth=0.8)
    ax.set_xscale("log")
    top = rows["gain"].max()
    for ratio in sorted(set(rows["ratio"])):
        own = rows[rows["ratio"] == ratio]
        ax.annotate(ratio_text(ratio), (own["nonzero"].median(), top), ha="center",
                    xytext=(0, 14), textcoords="offset points", fontsize=8)  # fmt: skip
    ax.set(xlabel="Non-zero parameters", ylabel="Gain over vanilla (points)")


PLOT = Plot(
    "compression",
    "Gain against the parameters that are left (the paper's Figure 8)",
    "Each mark is the mean paired gain of an arm at one pruning ratio, the line its 95% "
    "interval; non-zero parameters count the activations' own, and marks of one ratio are spread "
    "a little so that they can be told apart. The crosses are the gains that the paper prints for "
    "SAFS, at our number of parameters, since it prints none. Other methods' points are left out: "
    "the paper shows them in a plot only.",
    "vanilla and another pruned arm",
    data,
    draw,
)
