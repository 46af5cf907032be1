"""Every pair's network as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from pipelines.config.pair import PAIRS, load_pair
from pipelines.tasks.shared import empty


def view() -> Table:
    """Parameters, slots and prunable layers of the network of each pair."""
    from safs.networks import prunable
    from safs.slots import slots

    table = Table()
    table.add_column("pair", no_wrap=True)
    for column in ("parameters", "slots", "prunable layers"):
        table.add_column(column, justify="right")
    for name in sorted(path.stem for path in PAIRS.glob("*.yaml")):
        pair = load_pair(name)
        model = empty(pair.network, pair.dataset.name)
        table.add_row(
            name,
            f"{sum(p.numel() for p in model.parameters()):,}",
            str(len(slots(model))),
            str(len(prunable(model))),
        )
    return table
