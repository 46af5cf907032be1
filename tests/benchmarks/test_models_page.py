"""The page of models: the committed one is that of the committed measurements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from models_page import builders, page, whole

ROOT = Path(__file__).parents[2]
MEASURED = json.loads((ROOT / "results/models.json").read_text())


def test_the_committed_page_is_made_from_the_committed_measurements():
    assert (ROOT / "docs/MODELS.md").read_text() == page(MEASURED)


@pytest.mark.parametrize(
    ("library", "total", "least"), [("torchvision", 80, 0.9), ("timm", 30, 0.8)]
)
def test_most_models_are_adopted_whole(library, total, least):
    rows = [row for row in MEASURED["models"] if row["library"] == library]
    assert builders(rows) == total
    assert builders([row for row in rows if whole(row)]) >= least * total


def test_what_was_not_adopted_or_not_found_is_told():
    row = {"library": "x", "model": "m", "like": ["n"], "size": 8}
    refused = {**row, "adopted": False, "why": "it is random in evaluation"}
    lost = {
        **row, "adopted": True, "graph": False, "called": 3, "found": 2, "slots": 2, "pruned": 4,
        "left": {"Sigmoid() gates": 1}, "dense": {}, "others": {"table": 2},
    }  # fmt: skip
    text = page({"versions": {"torch": "1"}, "models": [refused, lost]})
    assert "0 of 4 models (0%)" in text and "no: it is random in evaluation" in text
    assert "modules, 3 called and 2 found" in text
    assert "1 × Sigmoid() gates" in text and "2 × table" in text
