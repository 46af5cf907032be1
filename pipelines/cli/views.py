"""Rows about profiles and networks, and any rows as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pipelines.config.study import Study


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows with the same keys under these as headings; numbers to the right, names whole."""
    table = Table()
    for place, (key, value) in enumerate(rows[0].items()):
        side: Literal["left", "right"] = "right" if isinstance(value, int | float) else "left"
        table.add_column(key, justify=side, overflow="fold", no_wrap=not place)
    for row in rows:
        table.add_row(*(Text(_words(value)) for value in row.values()))
    return table


def _words(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def profile_row(study: Study) -> dict[str, Any]:
    """What a profile runs, and whether its report is here."""
    profile, report = study.profile, study.results / "report.html"
    return {
        "profile": profile.profile,
        "replicates": profile.replicates,
        "ratios": ", ".join(f"{x:g}" for x in sorted({c.ratio for c in profile.cells.values()})),
        "report": "yes" if report.is_file() else "-",
        "title": profile.title,
    }


def standing_rows(study: Study) -> list[dict[str, Any]]:
    """How many replicates of a profile and its readings are published, and how many stand today."""
    from pipelines.engine import recorded
    from pipelines.storage import layout

    rows = []
    for reading, each in {"-": study, **study.readings}.items():
        name, every = each.profile.profile, range(each.profile.replicates)
        for pair in each.pairs:
            published = sum(layout.replicate_file(name, pair, r).is_file() for r in every)
            rows.append(
                {
                    "pair": pair,
                    "reading": reading,
                    "replicates": len(every),
                    "published": published,
                    "stand": len(recorded.standing(each, pair)),
                }
            )
    return rows


def network_rows(root: Path = Path()) -> list[dict[str, Any]]:
    """Parameters, slots and prunable layers of the network of each pair.

    Raises:
        SafsError: a network does not fit its data set.
    """
    from pipelines.config.pair import PAIRS, load_pair
    from pipelines.dvc.preflight import fitting
    from safs.networks import prunable
    from safs.slots import slots

    rows = []
    for path in sorted((root / PAIRS).glob("*.yaml")):
        pair = load_pair(path.stem, root=root)
        network = fitting(path.stem, pair)
        rows.append(
            {
                "pair": path.stem,
                "parameters": sum(p.numel() for p in network.parameters()),
                "slots": len(slots(network)),
                "prunable layers": len(prunable(network)),
            }
        )
    return rows
