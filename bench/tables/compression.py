"""Appendix D: what is left of the network."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench import paper
from bench.collection import Collection
from bench.context import Context
from bench.render import Table, number, ratio_text, view_of
from bench.tables.shared import cells, mean
from safs.arms import ARMS

COMPRESSION_HEADINGS = (
    "Pair", "Ratio", "Method", "n", "Parameters", "Non-zero", "Activation parameters",
    "Compression", "MACs dense", "MACs sparse", "Theoretical speedup", "Memory MiB",
)  # fmt: skip
SIZES = (
    "total", "nonzero", "activation", "compression", "macs", "sparse_macs", "speedup", "memory",
)  # fmt: skip


def compression(collection: Collection, context: Context) -> Table:
    """Appendix D: parameters, multiply-accumulates and what pruning saves, per arm."""
    arms = [name for name in context.arms if name != "dense"]
    rows = [
        _compression_row(collection, pair, ratio, arm)
        for pair in context.pairs
        for ratio, arm in cells(collection, pair, arms)
    ]
    caption = (
        "Mean over replicates. Compression is the dense network's parameters over the non-zero "
        "ones, the activations' own among the latter: SReLU has four per channel, SAFS two per "
        "slot. MACs are multiply-accumulates of convolutions and linear layers for one image, "
        "dense without the mask, sparse of surviving weights; their quotient is what a perfect "
        "sparse kernel could save, not a measured time. Memory is the peak of the final training "
        "on a GPU; on a CPU that of the worker process until then, earlier trainings included. "
        "The paper compares with other compression methods in a plot only (Figure 8), so no "
        f"verdict is possible.{_appendix(context)}"
    )
    view = view_of((_compression_view(row, context) for row in rows), COMPRESSION_HEADINGS)
    title = "Compression (the paper's Appendix D)"
    return Table("compression", title, caption, pd.DataFrame(rows), view)


def _appendix(context: Context) -> str:
    """What Appendix D prints on the profile's pairs, in a sentence each."""
    ours = {info.published: info.label for info in context.pairs.values()}
    words = [
        f" It prints for {ours[entry['pair']]}: {entry['what']} {entry['value']}."
        for entry in paper.facts()["other"]
        if entry["ref"] == "Appendix D" and entry["pair"] in ours
    ]
    return "".join(words)


def _compression_row(collection: Collection, pair: str, ratio: float, arm: str) -> dict[str, Any]:
    row: dict[str, Any] = {"pair": pair, "ratio": ratio, "method": arm}
    row["n"] = len(collection.series(pair, ratio, arm, "nonzero"))
    return row | {name: mean(collection, pair, ratio, arm, name) for name in SIZES}


def _compression_view(row: dict[str, Any], context: Context) -> dict[str, str]:
    texts = (
        context.label(row["pair"]),
        ratio_text(row["ratio"]),
        ARMS[row["method"]].label,
        str(row["n"]),
        *(number(row[name], 0) for name in ("total", "nonzero", "activation")),
        number(row["compression"], 1),
        *(number(row[name], 0) for name in ("macs", "sparse_macs")),
        number(row["speedup"], 1),
        number(row["memory"] / 2**20, 0),
    )
    return dict(zip(COMPRESSION_HEADINGS, texts, strict=True))
