"""Figures as SVG, each with its data as CSV beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from bench import style
from bench.arms import ARMS, ordered
from bench.context import Context
from bench.files import write_text
from bench.records import Collection
from bench.render import ratio_text
from bench.traces import Traces, operator_frequency, search_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Frame = pd.DataFrame


@dataclass(frozen=True)
class Plot:
    """A kind of figure: its words, its data and how the data are drawn.

    ``data`` makes the frame that is written as CSV; ``draw`` gets that frame alone.
    """

    name: str
    title: str
    how_to_read: str
    data: Callable[[Collection, Traces], Frame]
    draw: Callable[[Frame, Context], Figure]


class Cell(NamedTuple):
    """One panel of a grid and the rows that are drawn in it."""

    ax: Axes
    rows: Frame
    pair: str
    algorithm: str
    ratio: float


def write_all(
    collection: Collection, traces: Traces, context: Context, folder: Path
) -> dict[str, Path]:
    """Write ``<name>.svg`` and ``<name>.csv`` of every figure; returns the SVGs by name.

    A figure without any data (a profile without searches) is not made.
    """
    paths = {}
    for plot in PLOTS:
        frame = plot.data(collection, traces)
        if frame.empty:
            continue
        table = frame.to_csv(index=False, lineterminator="\n", float_format="%.10g")
        write_text(folder / f"{plot.name}.csv", table)
        paths[plot.name] = write_text(folder / f"{plot.name}.svg", _svg(plot, frame, context))
    return paths


def _svg(plot: Plot, frame: Frame, context: Context) -> str:
    import matplotlib as mpl

    with mpl.rc_context(style.RC):
        figure = plot.draw(frame, context)
        return style.svg(figure, plot.name, plot.title, plot.how_to_read)


def _panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    """A figure without a window and its axes, shape ``(rows, columns)``; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _legend(figure: Figure, **place: Any) -> None:
    """One legend for all panels, each label once."""
    found: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(list(found.values()), list(found), **place)


def _grid(frame: Frame, width: float, height: float) -> tuple[Figure, Any, list[Cell]]:
    """A row of panels per (pair, algorithm), a column per ratio, and what goes where.

    A cell without data gets no panel.
    """
    groups = list(dict.fromkeys(zip(frame["pair"], frame["algorithm"], strict=True)))
    ratios = sorted(set(frame["ratio"]))
    figure, axes = _panels(len(groups), len(ratios), width, height)
    cells = []
    for row, (pair, algorithm) in zip(axes, groups, strict=True):
        for ax, ratio in zip(row, ratios, strict=True):
            own = (frame["pair"] == pair) & (frame["algorithm"] == algorithm)
            rows = frame[own & (frame["ratio"] == ratio)]
            ax.set_visible(not rows.empty)
            if not rows.empty:
                cells.append(Cell(ax, rows, pair, algorithm, ratio))
    return figure, axes, cells


# Accuracy by method and ratio


def accuracy_data(collection: Collection, traces: Traces) -> Frame:
    """Top-1 and cap (percent) of every expected run; empty cells where there is no result."""
    columns = ["pair", "ratio", "replicate", "method", "status", "top1", "cap"]
    return collection.frame[columns]


def draw_accuracy(frame: Frame, context: Context) -> Figure:
    """One panel per pair: every replicate a point, the mean a bar, the cap a dashed line."""
    figure, axes = _panels(len(context.pairs), 1, 8.2, 4.0)
    methods = [name for name in ordered(frame["method"]) if name != "dense"]
    for ax, pair in zip(axes[:, 0], context.pairs, strict=True):
        _accuracy_panel(ax, frame[frame["pair"] == pair], methods, context)
        ax.set_title(context.label(pair))
    _legend(figure, loc="outside right upper")
    return figure


def _accuracy_panel(ax: Axes, rows: Frame, methods: list[str], context: Context) -> None:
    places = np.linspace(-0.36, 0.36, len(methods)) if len(methods) > 1 else np.zeros(1)
    dense = rows.loc[rows["method"] == "dense", "top1"].dropna()
    if len(dense):
        ax.axhline(dense.mean(), color=style.INK, linestyle=":", label="Dense (mean)")
    for number, (method, offset) in enumerate(zip(methods, places, strict=True)):
        own = rows[rows["method"] == method]
        _accuracy_points(ax, own, number, offset, context)
    _caps(ax, rows, context)
    ax.set_xticks(range(len(context.ratios)), [ratio_text(r) for r in context.ratios])
    ax.set(xlabel="Pruning ratio", ylabel="Test top-1 (%)")
    ax.grid(axis="x", visible=False)


def _accuracy_points(ax: Axes, own: Frame, number: int, offset: float, context: Context) -> None:
    colour, marker = style.colour(number), style.marker(number)
    label: str | None = ARMS[own["method"].iloc[0]].label if len(own) else None
    for place, ratio in enumerate(context.ratios):
        values = own.loc[own["ratio"] == ratio, "top1"].dropna().to_numpy()
        if not len(values):
            continue
        x = np.full(len(values), place + offset)
        ax.scatter(x, values, s=22, color=colour, marker=marker, label=label, zorder=3)
        ax.plot(x[0] + np.array([-0.06, 0.06]), [values.mean()] * 2, color=colour, linewidth=2)
        label = None


def _caps(ax: Axes, rows: Frame, context: Context) -> None:
    label: str | None = "Connectivity cap (each net)"
    known = rows.dropna(subset=["cap"]).drop_duplicates(["ratio", "replicate"])
    for place, ratio in enumerate(context.ratios):
        for cap in sorted(set(known.loc[known["ratio"] == ratio, "cap"])):
            line: dict[str, Any] = {
                "linestyle": "--",
                "linewidth": 1,
                "color": style.INK,
                "alpha": 0.7,
            }
            ax.plot([place - 0.45, place + 0.45], [cap, cap], label=label, **line)
            label = None


# Search traces


def trace_data(collection: Collection, traces: Traces) -> Frame:
    """Energy and best so far of every evaluation of stage 1."""
    return search_frame(traces.search)


def draw_trace(frame: Frame, context: Context) -> Figure:
    """A row per pair and algorithm, a column per ratio."""
    figure, axes, cells = _grid(frame, 3.2, 2.9)
    for cell in cells:
        _trace_panel(cell.ax, cell.rows)
        words = (context.label(cell.pair), cell.algorithm.upper(), ratio_text(cell.ratio))
        cell.ax.set_title(", ".join(words))
    for ax in axes[:, 0]:
        ax.set_ylabel("Training loss")
    _legend(figure, loc="outside lower center", ncols=3)
    return figure


def _trace_panel(ax: Axes, rows: Frame) -> None:
    for number, (replicate, own) in enumerate(rows.groupby("replicate")):
        colour, marker = style.colour(number), style.marker(number)
        ok = own.dropna(subset=["energy"])
        points: dict[str, Any] = {"color": colour, "marker": marker, "s": 12, "alpha": 0.7}
        ax.scatter(
            ok["evaluation"], ok["energy"], label=f"candidate, replicate {replicate}", **points
        )
        ax.step(own["evaluation"], own["best"], where="post", color=colour, linewidth=1)
    best = rows.pivot_table(index="evaluation", columns="replicate", values="best")
    mean: dict[str, Any] = {"color": style.INK, "linewidth": 2, "label": "best so far, mean"}
    ax.step(best.index, best.mean(axis=1), where="post", **mean)
    band: dict[str, Any] = {
        "step": "post",
        "color": style.INK,
        "alpha": 0.12,
        "label": "best so far, range",
    }
    ax.fill_between(best.index, best.min(axis=1), best.max(axis=1), **band)
    ax.set_xlabel("Candidate")


# Operator heat map (Figure 5)


def operator_data(collection: Collection, traces: Traces) -> Frame:
    """How often each operator stood in each slot, over all candidates and replicates."""
    return operator_frequency(traces.search)


def draw_operators(frame: Frame, context: Context) -> Figure:
    """A row per pair and algorithm, a column per ratio; slots from the input at the left."""
    from matplotlib.ticker import MaxNLocator

    figure, axes, cells = _grid(frame, 3.2, 4.0)
    top = int(frame["count"].max())
    for cell in cells:
        image = _operator_panel(cell.ax, cell.rows, top)
        words = (context.label(cell.pair), cell.algorithm.upper(), ratio_text(cell.ratio))
        cell.ax.set_title(", ".join(words))
    whole = MaxNLocator(integer=True)
    figure.colorbar(image, ax=axes, label="Times tried", shrink=0.7, ticks=whole)
    return figure


def _operator_panel(ax: Axes, rows: Frame, top: int) -> Any:
    counts = rows.pivot_table(index="operator", columns="place", values="count", aggfunc="sum")
    slots = rows.drop_duplicates("place").sort_values("place")["slot"]
    image = ax.pcolormesh(counts.to_numpy(), cmap="cividis", vmin=0, vmax=max(top, 1))
    ax.set_xticks(np.arange(counts.shape[1]) + 0.5, list(slots), rotation=90)
    ax.set_yticks(np.arange(counts.shape[0]) + 0.5, list(counts.index))
    ax.invert_yaxis()
    ax.grid(visible=False)
    if counts.size <= 200:
        _write_counts(ax, counts, top)
    return image


def _write_counts(ax: Axes, counts: Frame, top: int) -> None:
    for (row, column), value in np.ndenumerate(counts.to_numpy()):
        ink = "#000000" if value > 0.55 * top else "#FFFFFF"
        place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "color": ink}
        ax.text(column + 0.5, row + 0.5, f"{value:.0f}", **place)


PLOTS = (
    Plot(
        "accuracy",
        "Test accuracy by method and pruning ratio",
        "Every point is one replicate, the short bar their mean. A dashed line is the accuracy "
        "that the connected classes of one pruned network allow at most; the dotted line is the "
        "mean of the dense networks.",
        accuracy_data,
        draw_accuracy,
    ),
    Plot(
        "search_trace",
        "Stage 1: training loss of every candidate",
        "Points are candidates (failed ones have none), thin steps the best so far of each "
        "replicate, the thick step their mean, the band their range. Lower is better.",
        trace_data,
        draw_trace,
    ),
    Plot(
        "operators",
        "Activations tried in stage 1, by slot (the paper's Figure 5)",
        "How often an activation stood in a slot over all candidates and replicates; slots from "
        "the input at the left. A local search stays near good candidates, so what it keeps is "
        "counted often.",
        operator_data,
        draw_operators,
    ),
)
"""Every figure, in the order of the report."""
