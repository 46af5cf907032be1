"""Heat maps of operators by slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.figures.plot import Frame
from safs.operators import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAP = "cividis"
"""The map of colours, which colour-blind people see as others do."""


def heat_map(ax: Axes, table: Frame, low: float, high: float, spec: str = "") -> Any:
    """Operators (rows) by slots (columns) in colours, with numbers where a ``spec`` is given.

    Returns:
        The image, for a colour bar.
    """
    image = ax.pcolormesh(table.to_numpy(), cmap=MAP, vmin=low, vmax=high)
    ax.set_xticks(np.arange(table.shape[1]) + 0.5, list(table.columns), rotation=90)
    ax.set_yticks(np.arange(table.shape[0]) + 0.5, [label(name) for name in table.index])
    ax.invert_yaxis()
    ax.grid(visible=False)
    for (row, column), value in np.ndenumerate(table.to_numpy() if spec else np.empty((0, 0))):
        look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
        look["color"] = ink((value - low) / ((high - low) or 1))
        ax.text(column + 0.5, row + 0.5, f"{value:{spec}}", **look)
    return image


def ink(share: float) -> str:
    """The colour of text on the map's colour for ``share`` of its top that can be read there."""
    return "#000000" if share > 0.475 else "#FFFFFF"


def by_slot(rows: Frame, column: str, how: Literal["sum", "mean"]) -> Frame:
    """A column by operator and slot, slots from the input on and under their names."""
    table = rows.pivot_table(index="operator", columns="place", values=column, aggfunc=how)
    slots = rows.drop_duplicates("place").set_index("place")["slot"]
    return table.set_axis(slots.loc[table.columns], axis="columns")
