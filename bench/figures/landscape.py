"""Landscapes: how many chromosomes are how good, which operators help where, who finds the best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.context import Context
from bench.figures import style
from bench.figures.heat_map import by_slot, heat_map
from bench.figures.plot import Frame, Plot, Source, draw_band, grid, in_order, legend, panels
from bench.landscape.analysis import everywhere, finite, losses, operator_means
from bench.landscape.table import Landscape
from bench.render import ratio_text
from bench.tables.landscape import SEARCHES
from safs.operators import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 200
"""Quantiles that a curve is drawn from."""
NEEDS = "the landscape (studies.landscape)"


def _placed(table: Landscape, rows: list[dict[str, Any]]) -> Frame:
    return pd.DataFrame(rows).assign(pair=table.meta.pair, ratio=table.meta.ratio)


def _joined(frames: list[Frame]) -> Frame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def ranks(source: Source) -> Frame:
    """Loss by share of the space that is as good or better, and where each operator lies."""
    return _joined([_placed(t, list(_ranks(t))) for t in source.traces.landscapes])


def _ranks(table: Landscape) -> Iterator[dict[str, Any]]:
    for replicate in table.replicates:
        loss = finite(losses(table, replicate))
        ordered = np.sort(loss)
        places = np.unique(np.geomspace(1, len(ordered), POINTS).round().astype(int))
        for place in places:
            yield {"replicate": replicate, "operator": "", "share": place / len(ordered),
                   "loss": float(ordered[place - 1])}  # fmt: skip
        for chromosome in everywhere(table).values():
            own = loss[np.searchsorted(table.indices, table.space.index(chromosome))]
            yield {"replicate": replicate, "operator": chromosome[0],
                   "share": float((ordered <= own).mean()), "loss": float(own)}  # fmt: skip


def draw_ranks(frame: Frame, context: Context) -> Figure:
    """A panel per mask; operators that stand everywhere are marked on the curve."""
    labels = {"xlabel": "Share of all chromosomes, %", "ylabel": "Training loss"}
    figure, _, cells = grid(frame, ["pair", "ratio"], 3.6, 3.4, across="replicate", **labels)
    names = sorted(set(frame["operator"]) - {""})
    for cell in cells:
        curve = cell.rows[cell.rows["operator"] == ""]
        cell.ax.plot(100 * curve["share"], curve["loss"], color=style.INK, linewidth=1.5)
        for place, name in enumerate(names):
            own = cell.rows[cell.rows["operator"] == name]
            look: dict[str, Any] = {
                "color": style.colour(place),
                "marker": style.marker(place),
                "zorder": 3,
            }
            cell.ax.scatter(100 * own["share"], own["loss"], label=label(name), **look)
        cell.ax.set_xscale("log")
        where = f"{context.label(cell.key[0])}, {ratio_text(cell.key[1])}"
        cell.ax.set_title(f"{where}, mask {cell.column}", fontsize=9)
    legend(figure, loc="outside lower center", ncols=6)
    return figure


def means(source: Source) -> Frame:
    """Mean loss of all chromosomes that have an operator in a slot."""
    return _joined([_placed(t, list(operator_means(t))) for t in source.traces.landscapes])


def draw_means(frame: Frame, context: Context) -> Figure:
    """A panel per landscape, over its masks; slots from the input at the left."""
    keys = list(frame[["pair", "ratio"]].drop_duplicates().itertuples(index=False, name=None))
    figure, axes = panels(1, len(keys), 4.2, 4.2)
    low, high = frame["loss"].min(), frame["loss"].max()
    for ax, (pair, ratio) in zip(axes[0], keys, strict=True):
        own = frame[(frame["pair"] == pair) & (frame["ratio"] == ratio)]
        _map(ax, own, low, high)
        ax.set_title(f"{context.label(pair)}, {ratio_text(ratio)}")
    return figure


def _map(ax: Axes, rows: Frame, low: float, high: float) -> None:
    table = by_slot(rows, "loss", "mean")
    table = table.loc[table.mean(axis=1).sort_values().index]
    heat_map(ax, table, low, high, ".2f")


def curves(source: Source) -> Frame:
    """Regret of the best so far by evaluation, for each search at its largest budget."""
    return _joined([_curves(table, source) for table in source.traces.landscapes])


def _curves(table: Landscape, source: Source) -> Frame:
    own = [raced for raced in source.traces.races if raced.table == table.digest and raced.lines]
    largest = max((raced.budget for raced in own), default=0)
    rows = []
    for raced in (raced for raced in own if raced.budget == largest):
        best = float(losses(table, raced.replicate).min())
        mean, low, _, high = raced.curve - best
        rows += [
            {"replicate": raced.replicate, "algorithm": raced.algorithm, "evaluation": k + 1,
             "mean": mean[k], "low": low[k], "high": high[k]}
            for k in range(len(mean))
        ]  # fmt: skip
    return _placed(table, rows) if rows else pd.DataFrame()


def draw_curves(frame: Frame, context: Context) -> Figure:
    """A panel per mask."""
    labels = {"xlabel": "Evaluations", "ylabel": "Regret in training loss"}
    figure, _, cells = grid(frame, ["pair", "ratio"], 3.6, 3.2, across="replicate", **labels)
    names = in_order(frame["algorithm"], SEARCHES)
    for cell in cells:
        for place, name in enumerate(names):
            own = cell.rows[cell.rows["algorithm"] == name]
            draw_band(cell.ax, own, "evaluation", SEARCHES.get(name, name), place)
        cell.ax.set_xscale("log")
        where = f"{context.label(cell.key[0])}, {ratio_text(cell.key[1])}"
        cell.ax.set_title(f"{where}, mask {cell.column}", fontsize=9)
    legend(figure, loc="outside lower center", ncols=4)
    return figure


RANKS = Plot(
    "landscape",
    "How many chromosomes are how good",
    "Every chromosome of the landscape by training loss, best at the left: the loss at a share "
    "says that so many chromosomes are as good or better. Marks are single operators in every "
    "slot. Lower and further left is better.",
    NEEDS,
    ranks,
    draw_ranks,
)
MEANS = Plot(
    "landscape_operators",
    "Which operators help in which slot",
    "Mean training loss of all chromosomes that have the operator in the slot, over all others in "
    "the other slots and over the masks. Failed trainings count as the worst. Lower is better.",
    NEEDS,
    means,
    draw_means,
)
CURVES = Plot(
    "landscape_race",
    "Searches raced on the landscape",
    "What the best chromosome so far loses to the best there is: the line is the mean over runs of "
    "one search, the band holds the middle 80 % of them. One panel is one mask: it says nothing of "
    "others.",
    NEEDS,
    curves,
    draw_curves,
)
