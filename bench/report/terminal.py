"""What is printed at the end of a run: one table per pair, a column per ratio."""

from __future__ import annotations

from itertools import product
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.context import Context
from bench.records.collection import Collection
from bench.render import ABSENT, number, ratio_text, spread_text
from bench.tables.failures import told
from bench.tables.shared import mean_and_spread
from safs.arms import ARMS, ordered


def summary(collection: Collection, context: Context) -> RenderableType:
    """Top-1 in percent, mean ± standard deviation over replicates, per ratio and arm."""
    parts: list[RenderableType] = [_table(collection, context, pair) for pair in context.pairs]
    parts.append(Text("test top-1 in %, mean ± standard deviation over replicates (n)"))
    parts += [Text(words, style="bold red") for words in told(collection)]
    parts += [Text(note, style="yellow") for note in context.notes]
    return Group(*parts)


def rows(collection: Collection, context: Context) -> list[dict[str, Any]]:
    """The numbers of :func:`summary`: pair, ratio, arm, n, mean and standard deviation of top-1."""
    found = []
    for pair in context.pairs:
        for ratio, arm in product(collection.ratios(pair), ordered(context.arms)):
            n = len(collection.series(pair, ratio, arm))
            of = {"pair": pair, "ratio": ratio, "arm": arm, "n": n}
            mean, sd = mean_and_spread(collection, pair, ratio, arm)
            found.append({**of, "top1": mean, "sd": sd})
    return found


def _table(collection: Collection, context: Context, pair: str) -> Table:
    table = Table(title=Text(context.label(pair)), title_justify="left")
    table.add_column("")
    ratios = collection.ratios(pair)
    for ratio in ratios:
        table.add_column(ratio_text(ratio), justify="right")
    for arm in ordered(context.arms):
        cells = [_cell(collection, pair, ratio, arm) for ratio in ratios]
        table.add_row(ARMS[arm].label, *cells, end_section=arm in ("dense", "safs"))
    reach = [_reach(collection, pair, ratio) for ratio in ratios]
    table.add_row("Connected classes", *(classes for classes, _ in reach))
    table.add_row("Accuracy cap", *(cap for _, cap in reach))
    return table


def _cell(collection: Collection, pair: str, ratio: float, arm: str) -> str:
    text = spread_text(*mean_and_spread(collection, pair, ratio, arm), 1)
    return text if text == ABSENT else f"{text} ({len(collection.series(pair, ratio, arm))})"


def _reach(collection: Collection, pair: str, ratio: float) -> tuple[str, str]:
    """Mean connected classes and mean cap over the pruned networks of the ratio."""
    rows = collection.select(pair=pair, ratio=ratio).dropna(subset=["connected"])
    nets = rows.drop_duplicates("replicate")
    if nets.empty:
        return "-", "-"
    reach = f"{number(nets['connected'].mean(), 1)} of {nets['classes'].iloc[0]:.0f}"
    return reach, number(nets["cap"].mean(), 1)
