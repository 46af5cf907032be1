"""The landscape of stage 1: every activation chromosome of a pruned network, trained.

:func:`load` reads its table without torch; a search is tried on it in seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.landscape.table import Landscape


def load(path: str | Path = "results/landscape/records") -> Landscape:
    """Read and check a table (:func:`bench.landscape.table.load`).

    Args:
        path: its file, or the folder of one.

    Raises:
        SafsError: there is none, or it is damaged or not such a table.
    """
    from bench.landscape.table import load as read  # pandas, which a look at the space needs not

    return read(path)
