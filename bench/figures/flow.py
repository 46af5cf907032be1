"""Gradient flow while the pruned network is retrained (the paper's Figure 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from bench.context import Context
from bench.figures.plot import BAND, Frame, Plot, Source, bands, draw_band, grid, legend
from bench.render import ratio_text
from safs.arms import ARMS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS_SHOWN = ("vanilla", "safs")
DEFINITIONS = {
    "flow": "the paper's: lr ||g||²",
    "flow_step": "first-order: -g . step",
    "flow_released": "the released code's: mean |g|",
}
DRAWN = ("flow", "flow_released")


def data(source: Source) -> Frame:
    """Mean and range of the gradient flow by epoch, per definition, of vanilla and SAFS."""
    curves = source.traces.curves
    rows = curves[curves["arm"].isin(ARMS_SHOWN)]
    keys = ["pair", "ratio", "arm", "epoch"]
    parts = [bands(rows, keys, name).assign(definition=name) for name in DEFINITIONS]
    return pd.concat(parts, ignore_index=True).sort_values("pair", kind="stable")


def draw(frame: Frame, context: Context) -> Figure:
    """Per pair a row for each definition, a column per ratio; logarithmic."""
    shown = frame[frame["definition"].isin(DRAWN)]
    labels = {"xlabel": "Epoch", "ylabel": "Gradient flow"}
    figure, _, cells = grid(shown, ["pair", "definition"], 3.4, 2.8, **labels)
    for cell in cells:
        for arm, place in zip(ARMS_SHOWN, (5, 0), strict=True):
            own = cell.rows[cell.rows["arm"] == arm]
            draw_band(cell.ax, own[own["mean"] > 0], "epoch", ARMS[arm].label, place)
        pair, definition = cell.key
        cell.ax.set_yscale("log")
        where = f"{context.label(pair)}, {ratio_text(cell.column)}"
        cell.ax.set_title(f"{where}\n{DEFINITIONS[definition]}", fontsize=9)
    legend(figure, loc="outside lower center", ncols=2)
    return figure


PLOT = Plot(
    "flow",
    "Gradient flow (the paper's Figure 7)",
    f"{BAND} The paper defines it as the first-order decrease of the loss after a step, lr "
    "||g||² for plain gradient descent, averaged over the epoch's steps; its code takes the mean "
    "absolute gradient of the last batch. The paper calls higher better. SAFS has a tuned "
    "recipe, and the paper's definition contains the learning rate, so a difference need not come "
    "from the activations. For other optimisers than gradient descent the data also have -g . "
    "step.",
    "vanilla or SAFS with their curves kept",
    data,
    draw,
)
