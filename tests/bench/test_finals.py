"""An arm's value over its final trainings, failed ones at chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from synthetic import PAIR

from bench.records import finals
from bench.records.collection import Collection, Expected, collect
from bench.records.record import Record
from bench.tables import table1

BAD = {"reason": "epoch 2: loss is not finite"}


def of_finals(*parts: dict[str, Any], arm: str = "safs", **changes: Any) -> Record:
    """A record with these final trainings."""
    links = [f"{place:032x}" for place in range(len(parts))]
    chain = synthetic.chain(arm, 0.99, 0, finals=links)
    return synthetic.record(arm, finals=list(parts), chain=chain, **changes)


def good(share: float, weights: str = "w") -> dict[str, Any]:
    correct = np.arange(synthetic.IMAGES) < round(share * synthetic.IMAGES)
    test = {"images": synthetic.IMAGES, "top1": share, "top5": 1.0, "loss": 1 - share}
    packed = {"correct": synthetic.pack(correct)}
    return synthetic.final("safs", 0.99, 0, test=test | packed, weights=weights)


def one(record: Record, folder: Path) -> Collection:
    path = folder / "record.json"
    record.write(path)
    return collect([Expected(PAIR, 0.99, 0, "safs", path)])


def test_the_value_of_an_arm_is_the_mean_over_its_finals(tmp_path: Path) -> None:
    found = one(of_finals(good(0.4), good(0.5, "x"), good(0.6, "y")), tmp_path)
    row = found.frame.iloc[0]
    assert (row["status"], row["finals"], row["failures"]) == ("ok", 3, 0)
    assert row["top1"] == row["top1_finite"] == pytest.approx(50)
    assert row["top1_spread"] == pytest.approx(10)
    assert row["loss"] == pytest.approx(0.5)
    correct = found.correct[PAIR, 0.99, 0, "safs"]
    assert set(np.round(correct, 6)) == {0.0, 0.333333, 0.666667, 1.0}
    assert correct.mean() == pytest.approx(0.5)


def test_a_failed_final_counts_as_chance_and_is_left_out_of_the_sensitivity(tmp_path: Path) -> None:
    found = one(of_finals(good(0.5), BAD), tmp_path)
    row = found.frame.iloc[0]
    assert (row["status"], row["finals"], row["failures"]) == ("failed", 2, 1)
    assert row["top1"] == pytest.approx((50 + 10) / 2)
    assert row["top5"] == pytest.approx((100 + 50) / 2)
    assert row["top1_finite"] == pytest.approx(50)
    assert row["loss"] == pytest.approx(0.5) and row["top1_spread"] == pytest.approx(
        40 / np.sqrt(2)
    )
    assert row["validation_top1"] == pytest.approx((50 + 10) / 2)
    assert found.correct[PAIR, 0.99, 0, "safs"].mean() == pytest.approx(0.3)
    assert found.series(PAIR, 0.99, "safs").tolist() == pytest.approx([30])
    assert found.classes(PAIR) == 10


def test_with_few_classes_any_five_guesses_hold_the_right_one() -> None:
    of_four = of_finals(BAD, classes=4, connectivity=None)
    assert (finals.top1(of_four), finals.top5(of_four)) == (0.25, 1)


def test_images_of_a_run_of_failures_are_as_many_as_others(tmp_path: Path) -> None:
    runs = [Expected(PAIR, 0.99, 0, arm, tmp_path / arm) for arm in ("safs", "vanilla")]
    of_finals(BAD).write(runs[0].path)
    assert (PAIR, 0.99, 0, "safs") not in collect(runs).correct
    synthetic.record("vanilla").write(runs[1].path)
    correct = collect(runs).correct[PAIR, 0.99, 0, "safs"]
    assert correct.tolist() == [0.1] * synthetic.IMAGES


def test_the_table_tells_finals_failures_and_their_spread(tmp_path: Path) -> None:
    context = synthetic.context(ratios=(0.99,), arms=("safs",), replicates=1)
    table = table1(one(of_finals(good(0.4), good(0.6, "x"), BAD), tmp_path), context)
    row = table.frame.set_index("arm").loc["safs"]
    assert (row["finals"], row["failures"]) == (3, 1)
    assert row["finals_sd"] == pytest.approx(np.std([40, 60, 10], ddof=1))
    assert "1 of 3" in table.markdown()
