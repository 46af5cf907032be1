"""The measurements of ``kernels.py`` as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from tabulate import tabulate

from safs.settings import CANDIDATES

GOALS = {
    ("lenet5", 0.0, ""): (2.5, 2.5),
    ("lenet5", 0.99, ""): (35, 55),
    ("lenet5", 0.99, "median"): (28, 50),
    ("lenet5", 0.90, ""): (15, 22),
    ("lenet5", 0.90, "median"): (12, 20),
    ("vgg16", 0.0, ""): (0.95, 1),
    ("vgg16", 0.99, ""): (25, 36),
    ("vgg16", 0.95, ""): (8.5, 14),
    ("vgg16", 0.90, ""): (5.5, 10),
    ("resnet18", 0.0, ""): (0.95, 1),
    ("resnet18", 0.99, ""): (12, 28),
    ("resnet18", 0.95, ""): (5, 13),
    ("resnet18", 0.90, ""): (3, 9.5),
    ("efficientnet_b0", 0.99, ""): (4, 15),
}
"""What the kernels must reach and aim at, by network, ratio, and the default or all operators; the
aims are those for a core with AVX2 only."""
KINDS = {
    "convolution": ("convolution", "dense"),
    "weight gradient": ("weight_gradient", "dense_gradient"),
    "norm, operator, pooling": ("stage", "stage_backward", "norm", "norm_backward",
                                "norm_input_gradient"),
}  # fmt: skip
Measured = dict[str, Any]


def page(measured: Measured) -> str:
    """The whole page: speed, shares of the time, and where each layer stands.

    Args:
        measured: ``identity``, ``roofline`` and ``results``, as the benchmark writes them.
    """
    rows, peaks = measured["results"], measured["roofline"]
    processor, compiler = (measured["identity"][key] for key in ("processor", "compiler"))
    bounds = ", ".join(f"{name} {value:.0f}" for name, value in peaks.items())
    parts = [
        "# Sparse training against masked PyTorch",
        f"One thread, medians of CPU seconds of rounds in turn. Processor {processor}, {compiler}.",
        "## Speed",
        _table(_speed(rows), ("network", "ratio", "operator", "dense images/s", "sparse images/s",
                              "speed-up", "range", "must", "aim")),
        "## Where the time of a sparse step goes",
        _table(_shares(rows), ("network", "ratio", "operator", *KINDS, "rest")),
        "## Where each layer stands",
        f"GFLOP/s of this core: {bounds} (multiply-adds out of registers, and with one load for "
        "each from that many bytes, which is what a surviving weight costs). Below, those of each "
        "layer's convolutions and weight gradients, default operator.",
        *(_layers(rows, name) for name in _names(rows)),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _speed(rows: Sequence[Measured]) -> Iterator[list[str]]:
    for name, ratio in _cells(rows):
        found = [r for r in rows if (r["network"], r["ratio"]) == (name, ratio)]
        for place, r in enumerate(found):
            spread = f"{r['lowest']:.1f} to {r['highest']:.1f}"
            yield [
                name, f"{ratio:.2f}", r["operator"], f"{r['dense']:,.1f}", f"{r['sparse']:,.0f}",
                f"{r['speedup']:.1f}", spread, *(_goal(name, ratio, "") if not place else "--"),
            ]  # fmt: skip
        candidates = [r["speedup"] for r in found if r["operator"] in CANDIDATES]
        if len(candidates) > 1:
            label = f"median of {len(candidates)}"
            goal = _goal(name, ratio, "median")
            yield [name, f"{ratio:.2f}", label, "", "", f"{median(candidates):.1f}", "", *goal]


def _goal(name: str, ratio: float, of: str) -> tuple[str, str]:
    must, aim = GOALS.get((name, ratio, of), ("-", "-"))
    return str(must), str(aim)


def _shares(rows: Sequence[Measured]) -> Iterator[list[str]]:
    for r in _default(rows):
        shares = [sum(r["share"].get(kind, 0.0) for kind in kinds) for kinds in KINDS.values()]
        each = [f"{share:.0%}" for share in (*shares, 1 - sum(shares))]
        yield [r["network"], f"{r['ratio']:.2f}", r["operator"], *each]


def _layers(rows: Sequence[Measured], name: str) -> str:
    found = {r["ratio"]: r["gflops"] for r in _default(rows) if r["network"] == name}
    layers = list(dict.fromkeys(layer for gflops in found.values() for layer in gflops))
    body = [
        [layer, *(f"{g[layer]:.1f}" if layer in g else "dropped" for g in found.values())]
        for layer in layers
    ]
    return _table(body, (name, *(f"{ratio:.2f}" for ratio in found)))


def _default(rows: Sequence[Measured]) -> list[Measured]:
    """The first row of each network and ratio: its default operator."""
    seen = {(r["network"], r["ratio"]): r for r in reversed(rows)}
    return [seen[cell] for cell in _cells(rows)]


def _cells(rows: Sequence[Measured]) -> list[tuple[str, float]]:
    return list(dict.fromkeys((r["network"], r["ratio"]) for r in rows))


def _names(rows: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(r["network"] for r in rows))


def _table(body: Iterator[list[str]] | list[list[str]], headings: Sequence[str]) -> str:
    rows = list(body)
    align = ["left" if not place else "right" for place in range(len(headings))]
    return tabulate(
        rows, headers=list(headings), tablefmt="github", disable_numparse=True, colalign=align
    )
