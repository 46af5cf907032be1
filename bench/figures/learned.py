"""What stage 2 made of the operators: alpha f(beta x) over f (the paper's Figure 1)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.context import Context
from bench.figures import style
from bench.figures.plot import Frame, Plot, Source, legend, main_ratio, panels
from bench.render import ratio_text
from safs.operators import OPERATORS, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

X = np.linspace(-4, 4, 41)
SHOWN = 3
"""Replicates of a pair that are drawn; records have what each of them learned."""
COLUMNS = 7
"""Panels beside each other, at most."""


def _drawn(operator: str) -> bool:
    """Whether an operator is here with a formula."""
    return operator in OPERATORS and OPERATORS[operator].formula is not None


def data(source: Source) -> Frame:
    """f(x) and alpha f(beta x) in SAFS's slots, at each pair's highest ratio, as far as drawn."""
    rows = [
        {"pair": pair, "ratio": ratio, "replicate": replicate, "place": place, "slot": slot.name}
        | {"operator": slot.operator, "alpha": slot.alpha, "beta": slot.beta}
        | {"x": x, "original": original, "learned": learned}
        for (pair, ratio, replicate, arm), record in source.collection.records.items()
        if arm == "safs" and record.status == "ok"
        for place, slot in enumerate(record.slots)
        if slot.alpha is not None and slot.beta is not None and _drawn(slot.operator)
        for x, original, learned in zip(
            X,
            OPERATORS[slot.operator].curve(X, own=slot.own),
            OPERATORS[slot.operator].curve(X, slot.alpha, slot.beta, slot.own),
            strict=True,
        )
    ]
    frame = Frame(rows)
    if frame.empty:
        return frame
    found = main_ratio(frame)
    shown = found.groupby("pair")["replicate"].transform(lambda own: own.rank(method="dense"))
    return found[shown <= SHOWN]


def draw(frame: Frame, context: Context) -> Figure:
    """A panel per slot, from the input on; a pair begins on a new row."""
    slots = frame.groupby("pair", sort=False)["place"].nunique().to_dict()
    columns = min(COLUMNS, max(slots.values()))
    height = [math.ceil(count / columns) for count in slots.values()]
    figure, axes = panels(sum(height), columns, 11 / max(columns, 4), 2.5)
    for ax in axes.flat:
        ax.set_visible(False)
    first = 0
    for pair, rows in zip(map(str, slots), height, strict=True):
        own = frame[frame["pair"] == pair]
        places = zip(axes[first : first + rows].flat, own.groupby("place"), strict=False)
        for ax, (_, slot) in places:
            _panel(ax, slot)
        words = f"{context.label(pair)}, {ratio_text(own['ratio'].iloc[0])}"
        axes[first, 0].set_title(f"{words}\n{axes[first, 0].get_title()}", loc="left")
        axes[first, 0].set_title("")
        first += rows
    legend(figure, loc="outside lower center", ncols=2 * SHOWN)
    return figure


def _panel(ax: Axes, rows: Frame) -> None:
    ax.set_visible(True)
    for number, (replicate, own) in enumerate(rows.groupby("replicate")):
        line: dict[str, Any] = {"color": style.colour(number)}
        name = label(own["operator"].iloc[0])
        ax.plot(own["x"], own["original"], linestyle=":", linewidth=1.2, **line)
        ax.plot(own["x"], own["learned"], linewidth=2, label=f"replicate {replicate}", **line)
        ax.text(0.03, 0.97 - 0.12 * number, name, transform=ax.transAxes, va="top", fontsize=8,
                **line)  # fmt: skip
    ax.set_title(rows["slot"].iloc[0], fontsize=9)
    ax.set_ylim(*_limits(rows["learned"].to_numpy()))


def _limits(values: np.ndarray) -> tuple[float, float]:
    """What most of the curves need; a curve that grows without bound leaves the panel."""
    low, high = np.clip([values.min(), values.max()], -8, 8)
    room = 0.08 * max(high - low, 0.5)
    return float(low - room), float(high + room)


PLOT = Plot(
    "learned",
    "Activations that SAFS ends with, by slot (the paper's Figure 1)",
    "Solid is the learned alpha f(beta x), dotted the operator f that stage 1 found, which the "
    f"label names; a colour per replicate, of the first {SHOWN}. Slots from the "
    "input on, at the highest pruning ratio. Where solid and dotted agree, alpha and beta stayed "
    "near 1. The paper shows the idea on Swish and no learned function, so there is nothing to "
    "hold this against.",
    "the arm SAFS",
    data,
    draw,
)
