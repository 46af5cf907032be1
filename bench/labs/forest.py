"""The forest plot: every lab, the pooled effect, and the paper's number, which is not pooled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from bench.contrasts import MAIN, contrast_label
from bench.figures import style
from bench.figures.forest import NONE, Row, panel
from bench.render import ratio_text

TITLE = "Gain of SAFS in every lab"
HOW_TO_READ = (
    "A line per lab: its mean paired gain in percentage points and its own 95% interval; a hollow "
    "mark is not pooled. The diamond is the random-effects mean with its Hartung-Knapp interval. "
    "The paper's number stands below to compare with; it was printed without a spread and is not "
    "pooled."
)
LAB, POOLED, PAPER = "lab", "pooled", "paper"


def draw(frame: pd.DataFrame, label: Callable[[str], str]) -> str:
    """The plot as SVG: a row of panels per (pair, main contrast), a column per ratio.

    Labs that have no arm of a main contrast are drawn with those that they have.

    Args:
        frame: the rows of :func:`bench.labs.view.rows`.
        label: how a pair is called.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    main = frame["contrast"].isin(MAIN)
    asked = frame[main] if main.any() else frame
    groups = list(dict.fromkeys(zip(asked["pair"], asked["contrast"], strict=True)))
    ratios = sorted(set(asked["ratio"]))
    order = [LAB, POOLED, PAPER].index
    ordered = asked.sort_values("row", key=lambda rows: rows.map(order), kind="stable")
    names = list(dict.fromkeys(ordered["lab"]))
    with mpl.rc_context(style.RC):
        height = (0.9 + 0.3 * len(names)) * len(groups)
        figure = Figure(figsize=(1.4 + 2.7 * len(ratios), height), layout="constrained")
        axes = figure.subplots(len(groups), len(ratios), squeeze=False)
        for row, (pair, contrast) in zip(axes, groups, strict=True):
            for ax, ratio in zip(row, ratios, strict=True):
                own = (asked["pair"] == pair) & (asked["contrast"] == contrast)
                rows = asked[own & (asked["ratio"] == ratio)]
                ax.set_visible(not rows.empty)
                lines = [_row(row, names.index(str(row.lab))) for row in rows.itertuples()]
                panel(ax, lines, len(names))
                ax.set_title(f"{label(pair)}, {ratio_text(ratio)}\n{contrast_label(contrast)}")
            shown = next(ax for ax in row if ax.get_visible())
            shown.set_yticks(range(len(names)), names)
        return style.svg(figure, "labs", TITLE, HOW_TO_READ)


def _row(row: Any, y: int) -> Row:
    """A lab, the pooled effect or the paper's number as a line."""
    place, shape = {LAB: (5, "s"), POOLED: (2, "D"), PAPER: (7, "X")}[row.row]
    filled = bool(row.pooled) or row.row == POOLED
    return Row(y, row.gain, (row.low, row.high), NONE, style.colour(place), shape, filled)
