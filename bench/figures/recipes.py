"""The dense recipe against the tuned one, epoch by epoch (the paper's Figure 4b)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.context import Context
from bench.figures import style
from bench.figures.plot import BAND, Frame, Plot, Source, bands, draw_band, grid, legend
from bench.render import ratio_text
from safs.arms import ARMS, ordered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DENSE, TUNED = "vanilla", ("default_hpo", "stage2_only")


def data(source: Source) -> Frame:
    """Mean and range of validation accuracy (percent) by epoch; ``test`` stands in the last one.

    The tuned arm is the default activation with HPO; where it was not run, Stage 2.
    """
    context = source.context
    tuned = next((name for name in TUNED if name in context.arms), None)
    curves = source.traces.curves
    if tuned is None or DENSE not in context.arms:
        return Frame()
    rows = curves[curves["arm"].isin([DENSE, tuned])]
    rows = rows.assign(validation=100 * rows["validation_accuracy"])
    keys = ["pair", "ratio", "arm"]
    frame = bands(rows, [*keys, "epoch"], "validation")
    last = frame["epoch"] == frame.groupby(keys)["epoch"].transform("max")
    tests = [
        float(source.collection.series(*key).mean()) if at else np.nan
        for key, at in zip(frame[keys].itertuples(index=False, name=None), last, strict=True)
    ]
    return frame.assign(test=tests)


def draw(frame: Frame, context: Context) -> Figure:
    """A row of panels per pair, a column per ratio."""
    labels = {"xlabel": "Epoch", "ylabel": "Validation top-1 (%)"}
    figure, _, cells = grid(frame, ["pair"], 3.4, 3.0, **labels)
    arms = ordered(frame["arm"])
    for cell in cells:
        for arm in arms:
            place = 5 if arm == DENSE else 0
            _curve(cell.ax, cell.rows[cell.rows["arm"] == arm], arm, place)
        cell.ax.set_title(f"{context.label(cell.key[0])}, {ratio_text(cell.column)}")
    legend(figure, loc="outside lower center", ncols=4)
    return figure


def _curve(ax: Axes, rows: Frame, arm: str, place: int) -> None:
    if rows.empty:
        return
    label = f"{ARMS[arm].label} ({'dense' if arm == DENSE else 'tuned'} recipe)"
    draw_band(ax, rows, "epoch", label, place)
    end = rows.dropna(subset=["test"])
    marks: dict[str, Any] = {"marker": "*", "s": 90, "edgecolors": style.INK, "zorder": 4}
    ax.scatter(end["epoch"], end["test"], color=style.colour(place), label="test, mean", **marks)


PLOT = Plot(
    "recipes",
    "Dense recipe against tuned recipe (the paper's Figure 4b)",
    f"{BAND} Curves are validation accuracy, on which the tuning selected, so they flatter the "
    "tuned recipe a little; the star is the mean test accuracy. The paper loses 7.17 points with "
    "the dense recipe on VGG-16 / CIFAR-10 (Section 5.3).",
    "vanilla and an arm with a tuned recipe and without a search",
    data,
    draw,
)
