"""Forest plots of the paired differences: those that answer the profile's questions, and all."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from bench.context import Context
from bench.contrasts import CONFIRMATORY, contrast_label
from bench.figures import forest, style
from bench.figures.forest import UNBOUNDED, Row
from bench.figures.plot import Frame, Plot, Source, panels
from bench.render import ratio_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = [
    "pair", "contrast", "ratio", "kind", "n", "difference", "low", "high", "t_low", "t_high",
    "failures_a", "failures_b", "finals",
]  # fmt: skip
"""Of the paired comparisons, what the plots show."""


def data(source: Source) -> Frame:
    """Every contrast in every pair and ratio that has a replicate with both arms."""
    frame = source.comparisons.contrasts.frame.reindex(columns=COLUMNS)
    return frame[frame["n"] > 0].reset_index(drop=True)


def answers_data(source: Source) -> Frame:
    """What summaries show: preregistered, or else the paper's main contrasts."""
    frame, (names, ratio) = data(source), source.context.main
    return frame[frame["contrast"].isin(names) & (frame["ratio"] == ratio)].reset_index(drop=True)


def draw(frame: Frame, context: Context) -> Figure:
    """A row of panels per pair, a column per ratio, a line per contrast."""
    pairs = list(dict.fromkeys(frame["pair"]))
    ratios = sorted(set(frame["ratio"]))
    names = list(dict.fromkeys(frame["contrast"]))
    figure, axes = panels(len(pairs), len(ratios), 2.6, 0.9 + 0.3 * len(names))
    figure.set_figwidth(2.9 + 2.3 * len(ratios))
    for line, pair in zip(axes, pairs, strict=True):
        for ax, ratio in zip(line, ratios, strict=True):
            rows = frame[(frame["pair"] == pair) & (frame["ratio"] == ratio)]
            _panel(ax, rows, names)
            ax.set_title(f"{context.label(pair)}\n{ratio_text(ratio)}, {_counts(rows['n'])}")
        line[0].set_yticks(range(len(names)), [contrast_label(name) for name in names])
    return figure


def draw_answers(frame: Frame, context: Context) -> Figure:
    """A narrow panel, each difference under its name, its replicates and its failures."""
    figure, axes = panels(1, 1, 3.55, 0.55 + 0.62 * len(frame))
    ax = axes[0, 0]
    rows = [_row(found, 2 * place + 1) for place, found in enumerate(frame.to_dict("records"))]
    forest.panel(ax, rows, 2 * len(frame))
    ax.spines["left"].set_visible(False)
    several = frame["pair"].nunique() > 1
    for place, found in enumerate(frame.to_dict("records")):
        where = f"{context.label(found['pair'])}\n" if several else ""
        failed = found["failures_a"], found["failures_b"]
        said = f"failed {failed[0]} : {failed[1]} of {found['finals']}" if any(failed) else ""
        text = f"{where}{contrast_label(found['contrast'])}, n = {found['n']}"
        text = ", ".join([text, *[said] * bool(said)])
        ax.annotate(
            text, (0, 2 * place + 0.35), xycoords=("axes fraction", "data"), fontsize=8,
            va="center", parse_math=False, bbox={"color": style.PAPER, "pad": 0.5},
        )  # fmt: skip
    return figure


def _panel(ax: Axes, frame: Frame, names: list[str]) -> None:
    rows = [_row(found, names.index(found["contrast"])) for found in frame.to_dict("records")]
    forest.panel(ax, rows, len(names))


def _row(of: Mapping[Hashable, Any], y: float) -> Row:
    """A comparison as a line; what was preregistered is filled and coloured."""
    exact, t = (of["low"], of["high"]), (of["t_low"], of["t_high"])
    listed = of["kind"] == CONFIRMATORY
    unbounded = of["low"] == -float("inf")
    return Row(
        y,
        of["difference"],
        exact,
        t if unbounded else forest.NONE,
        style.colour(5) if listed else style.INK,
        filled=listed,
    )


def _counts(values: Frame) -> str:
    least, most = values.min(), values.max()
    if least != least:  # a panel without any contrast
        return "not run"
    return f"n = {least}" if least == most else f"n = {least} to {most}"


_HOW = (
    "Each line is one arm minus another on the same masks, in percentage points of test top-1: "
    "right of the dotted line the first is better. The mark is the mean over replicates, filled "
    f"where it was preregistered, hollow where it explores. {UNBOUNDED}"
)

ANSWERS = Plot(
    "answers",
    "The main paired differences",
    f"{_HOW} Failed: final trainings of the first and of the second arm, which count as chance.",
    "two arms of a main contrast",
    answers_data,
    draw_answers,
)
PLOT = Plot(
    "differences",
    "Every paired difference",
    f"{_HOW} Most lines explore: with so many, one in twenty intervals misses by chance. This is "
    "the uncertainty of differences; the spread between masks is in the accuracy figure.",
    "two arms of a contrast",
    data,
    draw,
)
