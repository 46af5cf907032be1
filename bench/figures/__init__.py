"""Figures as SVG, each with its data as CSV beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.context import Context
from bench.figures import (
    accuracy,
    activations,
    algorithms,
    compression,
    differences,
    flow,
    landscape,
    learned,
    operators,
    recipes,
    search_trace,
    style,
)
from bench.figures.plot import Frame, Plot, Source, wrap_titles
from bench.render import csv_text
from safs.files import write_text

PLOTS: tuple[Plot, ...] = (
    differences.ANSWERS,
    differences.PLOT,
    accuracy.PLOT,
    learned.PLOT,
    activations.PLOT,
    recipes.PLOT,
    operators.PLOT,
    search_trace.PLOT,
    algorithms.PLOT,
    landscape.RANKS,
    landscape.MEANS,
    landscape.CURVES,
    flow.PLOT,
    compression.PLOT,
)
"""Every figure, in the order of the report."""


@dataclass(frozen=True)
class Drawn:
    """A figure that was made: its data, its drawing, and what is said under it."""

    name: str
    frame: Frame
    svg: str
    words: str

    def write(self, folder: Path) -> dict[str, Path]:
        """Write ``<name>.svg`` and ``<name>.csv``; returns the paths by file name."""
        texts = {f"{self.name}.csv": csv_text(self.frame), f"{self.name}.svg": self.svg}
        return {name: write_text(folder / name, text) for name, text in texts.items()}


def draw_all(source: Source, plots: Sequence[Plot] = PLOTS) -> dict[str, Drawn]:
    """Those of ``plots`` that the profile has data for, by name; the others are left out."""
    frames = [(plot, plot.data(source)) for plot in plots]
    drawn = (_drawn(plot, frame, source.context) for plot, frame in frames if not frame.empty)
    return {each.name: each for each in drawn}


def _drawn(plot: Plot, frame: Frame, context: Context) -> Drawn:
    import matplotlib as mpl

    with mpl.rc_context(style.RC):
        figure = plot.draw(frame, context)
        wrap_titles(figure)
        svg = style.svg(figure, f"plot-{plot.name}", plot.title, plot.how_to_read)
    return Drawn(plot.name, frame, svg, plot.words(frame, context))
