"""Collecting: one row per expected run, nothing dropped, nothing mixed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import synthetic
from synthetic import PAIR

from bench.records.collection import COLUMNS, Expected, collect
from bench.records.record import Record
from safs import sealed
from safs.errors import SafsError


def _path(runs: list[Expected], *key: object) -> Path:
    return next(run.path for run in runs if run.key == key)


def test_a_complete_collection(tmp_path: Path) -> None:
    found = synthetic.collection(tmp_path)
    frame = found.frame
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 3 + 3 * 3 * 5
    assert set(frame["status"]) == {"ok"}
    one = found.select(pair=PAIR, ratio=0.99, replicate=0, arm="safs").iloc[0]
    record = synthetic.record()
    test = record.finals[0].test
    assert test is not None
    assert one["top1"] == pytest.approx(100 * test.top1)
    assert one["operators"] == "symlog|symlog|symlog|symlog"
    assert one["cap"] == pytest.approx(99.5)
    assert one["epochs"] == 184
    assert found.correct[PAIR, 0.99, 0, "safs"].mean() == pytest.approx(test.top1)
    assert len(found.series(PAIR, 0.99, "dense")) == 3


def test_gaps_and_failures_are_rows(tmp_path: Path) -> None:
    runs = synthetic.expected(tmp_path)
    synthetic.write(runs)
    synthetic.failed("safs", 0.9, 0, "loss is not finite").write(_path(runs, PAIR, 0.9, 0, "safs"))
    _path(runs, PAIR, 0.9, 1, "safs").unlink()
    _path(runs, PAIR, 0.9, 2, "safs").write_text('{"schema": 2}')
    synthetic.record("srelu", 0.95, 0).write(_path(runs, PAIR, 0.95, 0, "safs"))
    found = collect(runs)
    assert len(found.frame) == len(runs)
    rows = found.frame[found.frame["status"] != "ok"]
    assert rows["status"].tolist() == ["failed", "missing", "invalid", "invalid"]
    assert rows["top1"].tolist() == pytest.approx([10, *3 * [np.nan]], nan_ok=True)
    assert rows["top1_finite"].isna().all()
    reasons = rows["reason"].tolist()
    assert reasons[0] == "loss is not finite"
    assert reasons[1] == f"no record {PAIR}-0.9-1-safs.json"
    assert "missing key 'protocol'" in reasons[2]
    assert "expected ('lenet5_mnist5k', 0.95, 0, 'safs')" in reasons[3]
    assert str(tmp_path) not in " ".join(reasons)
    assert found.paired(PAIR, 0.9, "safs", "vanilla").index.tolist() == [0]
    assert found.paired(PAIR, 0.9, "safs", "vanilla", "top1_finite").empty
    assert len(found.paired(PAIR, 0.95, "safs", "vanilla")) == 2


def test_rules_as_published_are_not_written_and_others_are(tmp_path: Path) -> None:
    """Records from before there was a choice are read as what they were."""
    path, before = tmp_path / "record.json", synthetic.content("safs", 0.99, 0)["recipe"]
    synthetic.record().write(path)
    assert json.loads(path.read_text())["recipe"] == before
    read = Record.read(path).recipe
    assert read is not None and read.betas == "published"
    released = before | {"betas": "as_released", "tadam": "as_released"}
    synthetic.record(recipe=released).write(path)
    assert json.loads(path.read_text())["recipe"] == released
    read = Record.read(path).recipe
    assert read is not None and (read.betas, read.tadam) == ("as_released", "as_released")


def test_only_named_files_are_read(tmp_path: Path) -> None:
    runs = synthetic.expected(tmp_path, replicates=3)
    synthetic.write(runs)
    two = [run for run in runs if run.replicate < 2]
    assert len(collect(two).frame) == len(two)


OTHER = "f" * 32
chain = partial(synthetic.chain, "safs", 0.99, 1)
HALF = synthetic.final("safs", 0.99, 1, test=synthetic.tested("safs", 0.99, 1, images=500))
WALL = {"final": 1.0, "search": 0.0, "tune": 0.0, "of": "wall"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"backend": "sparse"},
            "backend and device differ inside pair lenet5_mnist5k, replicate 1",
        ),
        ({"device": {"type": "cuda", "name": "x"}, "seconds": WALL}, "backend and device differ"),
        ({"acceleration": {"bf16": True}}, "acceleration differ inside pair lenet5_mnist5k, rep"),
        ({"protocol": {"version": 2, "preset": "paper"}}, "protocol differ inside all"),
        ({"protocol": {"version": 1, "preset": "as_released"}}, "protocol differ inside all"),
        ({"profile": "paper"}, "profile differ inside all"),
        ({"connectivity": {"connected": [0], "classes": 10, "cap": 0.995}}, "mask differ inside"),
        (
            {"chain": synthetic.chain("safs", 0.99, 1, mask=OTHER)},
            "mask differ inside pair lenet5_mnist5k, ratio 0.99, rep",
        ),
        (
            {"chain": synthetic.chain("safs", 0.99, 1, dense=OTHER)},
            "dense network differ inside pair lenet5_mnist5k, rep",
        ),
        ({"finals": [HALF]}, "numbers of test images differ inside mnist5k"),
    ],
)
def test_what_must_not_be_mixed(change: dict[str, object], words: str, tmp_path: Path) -> None:
    runs = synthetic.expected(tmp_path)
    synthetic.write(runs)
    synthetic.record("safs", 0.99, 1, **change).write(_path(runs, PAIR, 0.99, 1, "safs"))
    with pytest.raises(SafsError, match=words) as caught:
        collect(runs)
    assert "\n" not in str(caught.value)


def test_data_checksums_must_agree(tmp_path: Path) -> None:
    runs = synthetic.expected(tmp_path)
    synthetic.write(runs)
    path = _path(runs, PAIR, 0.99, 1, "safs")
    data = sealed.read(path)
    data["digests"]["data"] = {"mnist_5k.csv": "other"}
    sealed.write(path, data)
    with pytest.raises(SafsError, match="data checksums differ inside mnist5k"):
        collect(runs)


def test_blocks_may_use_backends_of_their_own(tmp_path: Path) -> None:
    runs = synthetic.expected(tmp_path)
    for run in runs:
        backend = "sparse" if run.replicate == 1 else "dense"
        synthetic.record(run.arm, run.ratio, run.replicate, backend=backend).write(run.path)
    assert set(collect(runs).frame["backend"]) == {"dense", "sparse"}


def test_nothing_at_all(tmp_path: Path) -> None:
    found = collect(synthetic.expected(tmp_path))
    assert set(found.frame["status"]) == {"missing"}
    assert np.isnan(found.frame["top1"]).all()
