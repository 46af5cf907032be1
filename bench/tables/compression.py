"""Appendix D: what is left of the network."""

from __future__ import annotations

from typing import Any

from bench import paper
from bench.columns import ARM, RATIO, figure, pair_by, words
from bench.context import Context
from bench.records.collection import Collection
from bench.render import Table
from bench.tables.shared import cells, mean

SIZES = (
    "total", "nonzero", "activation", "compression", "macs", "sparse_macs", "speedup", "memory",
)  # fmt: skip


def compression(collection: Collection, context: Context) -> Table:
    """Appendix D: parameters, multiply-accumulates and what pruning saves, per arm."""
    arms = [name for name in context.arms if name != "dense"]
    rows = [_row(collection, *cell) for cell in cells(collection, context, arms)]
    columns = (
        pair_by(context.label), RATIO, ARM, words("n", "n"), figure("Parameters", "total", 0),
        figure("Non-zero", "nonzero", 0), figure("Activation parameters", "activation", 0),
        figure("Compression", "compression", 1), figure("MACs dense", "macs", 0),
        figure("MACs sparse", "sparse_macs", 0), figure("Theoretical speedup", "speedup", 1),
        figure("Memory MiB", "memory", 0, unit=2**20),
    )  # fmt: skip
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
    title = "Compression (the paper's Appendix D)"
    return Table.of("compression", title, caption, rows, columns)


def _appendix(context: Context) -> str:
    """What Appendix D prints on the profile's pairs, in a sentence each."""
    ours = {info.published: info.label for info in context.pairs.values()}
    sentences = [
        f" It prints for {ours[entry['pair']]}: {entry['what']} {entry['value']}."
        for entry in paper.facts()["other"]
        if entry["ref"] == "Appendix D" and entry["pair"] in ours
    ]
    return "".join(sentences)


def _row(collection: Collection, pair: str, ratio: float, arm: str) -> dict[str, Any]:
    row: dict[str, Any] = {"pair": pair, "ratio": ratio, "arm": arm}
    row["n"] = len(collection.series(pair, ratio, arm, "nonzero"))
    return row | {name: mean(collection, pair, ratio, arm, name) for name in SIZES}
