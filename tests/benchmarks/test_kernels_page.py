"""The page of the kernels' benchmark: the committed one is that of the committed measurements."""

from __future__ import annotations

import json
from pathlib import Path

from kernels_page import page

SPEED = Path(__file__).parents[2] / "results/speed"


def test_the_committed_page_is_made_from_the_committed_measurements():
    measured = json.loads((SPEED / "kernels.json").read_text())
    assert (SPEED / "kernels.md").read_text() == page(measured)


def test_medians_shares_and_dropped_layers():
    def row(ratio: float, operator: str, speedup: float, gflops: dict[str, float]):
        return {
            "network": "lenet5", "ratio": ratio, "operator": operator, "dense": 10.0,
            "sparse": 10 * speedup, "speedup": speedup, "lowest": speedup, "highest": speedup,
            "share": {"convolution": 0.5, "stage": 0.2, "gather": 0.3}, "gflops": gflops,
        }  # fmt: skip

    results = [
        row(0.99, "relu", 40.0, {"conv1": 5.0}),
        *(row(0.99, operator, speedup, {}) for operator, speedup in
          (("swish", 20.0), ("tanh", 30.0), ("gelu", 22.0))),
        row(0.90, "relu", 12.0, {"conv1": 9.0, "fc1": 2.0}),
    ]  # fmt: skip
    identity = {"processor": "p", "compiler": "c"}
    text = page({"identity": identity, "roofline": {"16 KB": 46.0}, "results": results})
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["lenet5", "0.99", "median of 3", "", "", "22.0", "", "28", "50"] in lines
    assert ["lenet5", "0.99", "relu", "50%", "0%", "20%", "30%"] in lines
    assert ["fc1", "dropped", "2.0"] in lines
