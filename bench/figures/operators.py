"""How often stage 1 tried each operator in each slot (the paper's Figure 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.context import Context
from bench.figures.heat_map import by_slot, heat_map
from bench.figures.plot import (
    LETTER,
    LINE,
    Frame,
    Plot,
    Source,
    grid,
    in_order,
    main_ratio,
)
from bench.records.traces import operator_frequency, single_wins
from bench.render import ratio_text
from safs.operators import OPERATORS, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def data(source: Source) -> Frame:
    """How often each operator stood in each slot, over all candidates and replicates.

    Beside it, the same in every slot, in how many replicates the operator was best as the only one.
    """
    tried, won = operator_frequency(source.own_searches), single_wins(source.traces.others)
    frame = tried.merge(won, how="left", on=["pair", "ratio", "operator"])
    counts = ["best_single", "singles"]
    return frame.astype(dict.fromkeys(counts, "float64")).fillna(dict.fromkeys(counts, 0))


def draw(frame: Frame, context: Context) -> Figure:
    """A row per pair, a column per ratio; slots from the input at the left."""
    from matplotlib.ticker import MaxNLocator

    slots = int(frame.groupby("pair")["place"].nunique().max())
    room = LINE * frame["operator"].nunique() + LETTER * frame["slot"].str.len().max()
    figure, axes, cells = grid(frame, ["pair"], max(3.2, 0.24 * slots), max(4.0, room))
    top = int(frame["count"].max())
    for cell in cells:
        image = _panel(cell.ax, cell.rows, top)
        cell.ax.set_title(f"{context.label(cell.key[0])}, {ratio_text(cell.column)}")
    whole = MaxNLocator(integer=True)
    bar = figure.colorbar(image, ax=axes, label="Times tried", shrink=0.7, ticks=whole)
    if bar.solids is not None:  # matplotlib would embed a bitmap
        bar.solids.set(rasterized=False, edgecolor="face")
    return figure


def words(frame: Frame, context: Context) -> str:
    """Which operator the searches tried most, and which won as the only one, pair by pair."""
    said = []
    for pair, rows in main_ratio(frame).groupby("pair", sort=False):
        ratio = ratio_text(rows["ratio"].iloc[0])
        tried = rows.groupby("operator")["count"].sum()
        share = 100 * tried.max() / max(tried.sum(), 1)
        said.append(
            f"{context.label(str(pair))} at {ratio}: the searches tried "
            f"{_most(tried)} most often, in {share:.1f}% of all candidates' slots (evenly, each of "
            f"{len(tried)} operators would have {100 / len(tried):.1f}%); {_won(rows)}."
        )
    return " ".join(said)


def _won(rows: Frame) -> str:
    won = rows.drop_duplicates("operator").set_index("operator")
    if not won["singles"].any():
        return "which is best as the only operator was not searched"
    wins, of = int(won["best_single"].max()), int(won["singles"].max())
    most = _most(won["best_single"])
    return f"the best single operator is most often {most}, in {wins} of {of} replicates"


def _most(counts: pd.Series[float]) -> str:
    """The operators with the highest count."""
    return " and ".join(label(str(name)) for name in counts.index[counts == counts.max()])


def _panel(ax: Axes, rows: Frame, top: int) -> Any:
    counts = by_slot(rows, "count", "sum")
    counts = counts.loc[in_order(counts.index, OPERATORS)]
    return heat_map(ax, counts, 0, max(top, 1), ".0f" if counts.size <= 200 else "")


PLOT = Plot(
    "operators",
    "Activations tried in stage 1, by slot (the paper's Figure 5)",
    "How often an activation stood in a slot over all candidates and replicates; slots from the "
    "input at the left. A local search stays near good candidates, so what it keeps is counted "
    "often. The paper finds Symexp and ELU unfavourable, Symlog and Acon frequent in early slots, "
    "Swish and HardSwish in middle ones; the claims test it.",
    "an arm with activations found by stage 1",
    data,
    draw,
    words,
)
