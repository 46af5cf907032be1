"""What the paper prints: sums that must come out, and look-ups."""

from __future__ import annotations

import pytest

from bench import paper
from bench.contrasts import CONTRASTS
from safs.arms import ARMS


def test_published_looks_up_cells() -> None:
    assert paper.published("lenet5_mnist", "table2", "safs") == {"top1": 62.22}
    assert paper.published("resnet18_imagenet16", "table1", "safs") == {
        "top1": 13.12,
        "top5": 28.94,
    }
    assert paper.published("lenet5_mnist", "table1", "safs") is None
    assert paper.published(None, "table1", "safs") is None
    with pytest.raises(KeyError, match="table9"):
        paper.published("lenet5_mnist", "table9", "safs")


@pytest.mark.parametrize("pair", list(paper.pairs()))
def test_printed_gains_are_the_differences_of_the_tables(pair: str) -> None:
    for contrast in ("safs-vanilla", "safs-srelu"):
        printed = paper.gain(pair, contrast, 0.99)
        if printed is None:
            continue
        first, _, second = contrast.partition("-")
        table = "table2" if pair == "lenet5_mnist" else "table1"
        a, b = (paper.published(pair, table, name) for name in (first, second))
        assert a is not None
        assert b is not None
        assert printed == pytest.approx(a["top1"] - b["top1"], abs=1e-9)


@pytest.mark.parametrize("pair", list(paper.pairs()))
def test_numbers_name_known_arms_once(pair: str) -> None:
    found = paper.numbers(pair)
    assert len({(n.what, n.metric, n.ratio) for n in found}) == len(found)
    contrasts = {contrast.name for contrast in CONTRASTS}
    assert all(n.what in (contrasts if n.gain else ARMS) for n in found)


def test_tables_one_and_two_agree() -> None:
    for pair in ("vgg16_cifar10", "resnet18_cifar10", "efficientnetb0_imagenet16"):
        for arm in ("dense", "vanilla", "safs"):
            first, second = (paper.published(pair, t, arm) for t in ("table1", "table2"))
            assert first is not None
            assert second is not None
            assert first["top1"] == second["top1"]


def test_cost_and_contradictions() -> None:
    assert paper.hours("vgg16_cifar10") == {"safs": 47, "vanilla": 3.8}
    assert paper.hours(None) == {}
    assert len(paper.facts()["contradictions"]) == 13
    assert paper.runs_per_number() == 3
