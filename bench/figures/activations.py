"""One operator everywhere, by pruning ratio (the paper's Figure 4a)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bench.context import Context
from bench.figures import style
from bench.figures.plot import BAND, Frame, Plot, Source, bands, pair_panels
from bench.render import ratio_text
from safs.arms import ARMS, ordered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def data(source: Source) -> Frame:
    """Mean and range of top-1 (percent) per pair, ratio and arm of the activation study."""
    frame, context = source.collection.frame, source.context
    swept = frame[frame["arm"].isin(context.swept)]
    asked = {*context.swept, "vanilla", "safs"}
    rows = frame[frame["arm"].isin(asked) & frame["pair"].isin(set(swept["pair"]))]
    return bands(rows, ["pair", "ratio", "arm"], "top1")


def draw(frame: Frame, context: Context) -> Figure:
    """A panel per pair: ratios at the bottom, a line per activation."""
    return pair_panels(frame, context, 4.2, partial(_panel, arms=ordered(frame["arm"])))


def _panel(ax: Axes, rows: Frame, arms: list[str]) -> None:
    ratios = sorted(set(rows["ratio"]))
    for number, arm in enumerate(arms):
        own = rows[rows["arm"] == arm].sort_values("ratio")
        if own.empty:
            continue
        at = [ratios.index(r) + 0.025 * (number - len(arms) / 2) for r in own["ratio"]]
        colour = style.colour(number)
        label = {"vanilla": "Default (vanilla)"}.get(arm, ARMS[arm].label)
        line: dict[str, Any] = {"linewidth": 2.5 if arm in ("vanilla", "safs") else 1.2}
        line |= {"marker": style.marker(number), "markersize": 5}
        ax.plot(at, own["mean"], color=colour, label=label, **line)
        ax.vlines(at, own["low"], own["high"], color=colour, linewidth=1.2, alpha=0.6)
        ax.fill_between(at, own["low"], own["high"], color=colour, alpha=0.08, linewidth=0)
    ax.set_xticks(range(len(ratios)), [ratio_text(r) for r in ratios])
    ax.set(xlabel="Pruning ratio", ylabel="Test top-1 (%)")


PLOT = Plot(
    "activations",
    "One activation everywhere, by pruning ratio (the paper's Figure 4a)",
    f"{BAND} Every activation has the dense recipe; vanilla is the network's default one, SAFS "
    "stands beside them with its tuned recipe. The paper's claim is that others than ReLU do "
    "better at high sparsity; it prints no number for it.",
    "the activation study (studies.activations)",
    data,
    draw,
)
