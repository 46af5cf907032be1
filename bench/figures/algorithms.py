"""Search algorithms at equal budget (the paper's Figure 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench import stats
from bench.context import Context
from bench.figures.plot import Frame, Plot, Source, bands, draw_band, grid, in_order, legend
from bench.records.traces import ALGORITHMS, final_losses, search_frame
from bench.render import interval_text, number, p_text, ratio_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEYS = ["pair", "ratio", "algorithm"]
SERIES = {"raw": "best so far", "smoothed": "logarithmic trend"}


def data(source: Source) -> Frame:
    """Best so far by candidate, raw and smoothed, and the final difference to the own algorithm.

    Cells where one algorithm ran are left out. ``difference`` is the other algorithm's final loss
    minus the own one's, paired by replicate (positive: the own one ends lower), with its exact
    interval and p.
    """
    frame = search_frame(source.traces.search)
    frame = frame[frame.groupby(["pair", "ratio"])["algorithm"].transform("nunique") > 1]
    if frame.empty:
        return frame
    smooth = frame.groupby([*KEYS, "replicate"], group_keys=False, sort=False)[list(frame.columns)]
    both = [
        bands(values, [*KEYS, "evaluation"], "best").assign(series=name)
        for name, values in (("raw", frame), ("smoothed", smooth.apply(_logarithmic)))
    ]
    finals = final_losses(source.traces.search)
    groups = {key: _final(finals, source.context, key) for key, _ in frame.groupby(KEYS)}
    tests = pd.DataFrame([dict(zip(KEYS, k, strict=True)) | v for k, v in groups.items()])
    return pd.concat(both, ignore_index=True).merge(tests, on=KEYS, how="left", sort=False)


def _logarithmic(rows: Frame) -> Frame:
    """One search's best so far as least squares see it in a + b log(number of candidates)."""
    known = rows.dropna(subset=["best"])
    if len(known) < 2:
        return known
    steps = np.log(known["evaluation"].to_numpy(dtype=float) + 1)
    slope, start = np.polyfit(steps, known["best"].to_numpy(), 1)
    return known.assign(best=start + slope * steps)


def _final(finals: Frame, context: Context, key: Any) -> dict[str, Any]:
    pair, ratio, algorithm = key
    here = finals[(finals["pair"] == pair) & (finals["ratio"] == ratio)]
    table = here.pivot(index="replicate", columns="algorithm", values="loss")
    own, values = context.search(pair), np.array([])
    if algorithm != own and own in table:
        values = (table[algorithm] - table[own]).dropna().to_numpy()
    test = stats.SignFlip(values)
    found = test.interval()
    return {
        **found.facts("difference", "difference_"),
        "difference_n": found.n, "p": test.p(),
        "p_attainable": stats.attainable_p(found.n),
    }  # fmt: skip


def draw(frame: Frame, context: Context) -> Figure:
    """A row per pair and ratio: raw curves at the left, smoothed ones at the right."""
    labels = {"xlabel": "Candidate", "ylabel": "Training loss"}
    figure, _, cells = grid(frame, ["pair", "ratio"], 4.2, 3.2, across="series", **labels)
    names = in_order(frame["algorithm"], ALGORITHMS)
    for cell in cells:
        for place, name in enumerate(names):
            own = cell.rows[cell.rows["algorithm"] == name]
            draw_band(cell.ax, own, "evaluation", ALGORITHMS.get(name, name), place, linewidth=2)
        pair, ratio = cell.key
        where = f"{context.label(pair)}, {ratio_text(ratio)}"
        cell.ax.set_title(f"{where}: {SERIES[cell.column]}", fontsize=9)
    legend(figure, loc="outside right upper")
    return figure


def words(frame: Frame, context: Context) -> str:
    """The exact test of every final difference, in sentences."""
    found = []
    for row in frame.drop_duplicates(KEYS).to_dict("records"):
        own = context.search(row["pair"])
        if row["algorithm"] == own:
            continue
        first, second = (ALGORITHMS.get(name, name) for name in (row["algorithm"], own))
        found.append(
            f"{context.label(row['pair'])}, {ratio_text(row['ratio'])}, {first} - {second}: final "
            f"loss differs by {number(row['difference'], 4, sign=True)} (95% interval "
            f"{interval_text(row['difference_low'], row['difference_high'], 4)}, exact p "
            f"{p_text(row['p'])}, attainable {p_text(row['p_attainable'])}, "
            f"n = {row['difference_n']})."
        )
    return " ".join(found)


PLOT = Plot(
    "algorithms",
    "Search algorithms at equal budget (the paper's Figure 6)",
    "Lowest training loss so far, by candidate: raw at the left, at the right the least-squares "
    "fit of a + b log(candidates) to each replicate (the paper smooths logarithmically, too). The "
    "line is the mean over replicates, the band their range. Lower is better. The sentences below "
    "test the final difference; the paper prints no number.",
    "the search comparison (studies.algorithms)",
    data,
    draw,
    words,
)
