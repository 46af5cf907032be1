"""Stage 1, candidate by candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.context import Context
from bench.figures import style
from bench.figures.plot import Frame, Plot, Source, grid, legend
from bench.records.traces import search_frame
from bench.render import ratio_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MANY = style.PALETTE[5]
"""The one colour of replicates that are more than there are colours."""


def data(source: Source) -> Frame:
    """Energy and best so far of every candidate of the profile's own search."""
    return search_frame(source.own_searches)


def draw(frame: Frame, context: Context) -> Figure:
    """A row per pair, a column per ratio."""
    labels = {"xlabel": "Candidate", "ylabel": "Training loss"}
    figure, _, cells = grid(frame, ["pair"], 3.2, 2.9, **labels)
    for cell in cells:
        _panel(cell.ax, cell.rows)
        cell.ax.set_title(f"{context.label(cell.key[0])}, {ratio_text(cell.column)}")
    legend(figure, loc="outside lower center", ncols=3)
    return figure


def _panel(ax: Axes, rows: Frame) -> None:
    told_apart = rows["replicate"].nunique() <= len(style.PALETTE)
    for number, (replicate, own) in enumerate(rows.groupby("replicate")):
        ok = own.dropna(subset=["energy"])
        points: dict[str, Any] = {"color": MANY, "marker": "o", "s": 6, "alpha": 0.4}
        line: dict[str, Any] = {"color": MANY, "linewidth": 0.5, "alpha": 0.5}
        if told_apart:
            colour, marker = style.colour(number), style.marker(number)
            points = {"color": colour, "marker": marker, "s": 12, "alpha": 0.7}
            points["label"] = f"candidate, replicate {replicate}"
            line = {"color": colour, "linewidth": 1}
        elif not number:
            points["label"], line["label"] = "candidate", "best so far, each replicate"
        ax.scatter(ok["evaluation"], ok["energy"], **points)
        ax.step(own["evaluation"], own["best"], where="post", **line)
    best = rows.pivot(index="evaluation", columns="replicate", values="best")
    best = best.dropna(axis="columns", how="all").dropna()
    mean: dict[str, Any] = {"color": style.INK, "linewidth": 2, "label": "best so far, mean"}
    ax.step(best.index, best.mean(axis=1), where="post", **mean)
    band: dict[str, Any] = {"step": "post", "color": style.INK, "alpha": 0.12}
    words = "best so far, range"
    ax.fill_between(best.index, best.min(axis=1), best.max(axis=1), label=words, **band)


PLOT = Plot(
    "search_trace",
    "Stage 1: training loss of every candidate",
    "Points are candidates (failed ones have none), thin steps the best so far of each "
    "replicate, the thick step their mean, the band their range, from where each has one. Lower is "
    "better.",
    "an arm with activations found by stage 1",
    data,
    draw,
)
