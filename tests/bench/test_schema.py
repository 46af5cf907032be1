"""What a record accepts, and what it says of what it does not accept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.labs.reading import validate
from bench.records.record import Record
from bench.records.schema import Test, pack
from safs.arms import ARMS
from safs.errors import SafsError
from safs.settings import PROTOCOL_VERSION


@pytest.mark.parametrize("arm", list(ARMS))
def test_a_written_record_is_read_back_the_same(arm: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "record.json"
    record = synthetic.record(arm)
    record.write(path)
    found = Record.read(path)
    assert found.digest and found.model_copy(update={"digest": None}) == record
    assert validate(path) == []
    assert path.read_text().endswith("}\n")
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]
    path.write_text('{"schema": 2}')
    assert f"{path}: missing key 'pair'" in validate(path)


def test_a_failed_record_needs_no_result() -> None:
    record = synthetic.failed("safs", 0.99, 0, "loss is not finite")
    assert (record.status, record.failures, record.reason) == ("failed", 1, "loss is not finite")
    bare = synthetic.content("safs", 0.99, 0) | {"finals": [{"reason": "x"}]}
    Record.model_validate(bare | dict.fromkeys(("parameters", "connectivity", "recipe")))


def test_each_final_that_failed_is_told_with_its_number() -> None:
    good = synthetic.final("safs", 0.99, 0)
    finals = [good, {"reason": "epoch 3: loss is not finite"}, good | {"weights": "w2"}]
    chain = synthetic.chain("safs", 0.99, 0, finals=["0" * 32, "1" * 32, "2" * 32])
    record = synthetic.record("safs", finals=finals, chain=chain)
    assert (record.status, record.failures) == ("failed", 1)
    assert record.reason == "final 2 of 3: epoch 3: loss is not finite"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_bits_survive_packing(correct: list[bool]) -> None:
    share = sum(correct) / len(correct)
    test = Test(images=len(correct), top1=share, top5=1, loss=None, correct=pack(correct))
    assert test.bits().tolist() == correct


def _change(data: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("/"))
    inside: Any = data
    for name in parents:
        inside = inside[name]
    inside[last] = value


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("ratio", 1.0, "ratio: got 1.0; expected less than 1"),
        ("ratio", "0.99", "ratio: got '0.99'; expected a valid number"),
        ("ratio", float("nan"), "ratio: got nan; expected a finite number"),
        ("replicate", -1, "replicate: got -1; expected greater than or equal to 0"),
        ("schema", 3, "schema: got 3; expected schema version 2"),
        ("schema", 1, "schema: got 1; expected schema version 2"),
        ("classes", None, "classes: got null; expected"),
        ("chain/data", None, "chain.data: got null; expected"),
        ("arm", "sasf", "arm: got 'sasf'; expected an arm; did you mean 'safs'? known: dense"),
        ("status", "ok", "unknown key 'status'"),
        ("finals", [], "finals: got []; expected at least 1 item"),
        ("finals/0/reason", "", "reason: got ''; expected the reason of a failed training"),
        ("finals/0/reason", "odd", "test: got 'a value'; expected null for a failed training"),
        ("finals/0/test", None, "test: got null; expected a value, as the training is ok"),
        ("chain/finals", ["0" * 32] * 2, "chain.finals: got 2; expected 1 links"),
        ("history/lr", [0.1], "history: got ["),
        ("connectivity", None, "connectivity: got null; expected a value"),
        ("finals/0/test/top1", 1.5, "test.top1: got 1.5; expected less than or equal to 1"),
        ("finals/0/test/top1", 0.001, "test.top1: got 0.001; expected 0."),
        ("finals/0/test/top5", 0.0, "expected at most top5 = 0.0"),
        (
            "connectivity",
            {"connected": [1], "classes": 10, "cap": 0.2},
            "expected at most 0.2, the cap of the connected classes",
        ),
        (
            "protocol/version",
            PROTOCOL_VERSION + 1,
            f"protocol.version: got {PROTOCOL_VERSION + 1}; expected less than or equal to",
        ),
        ("seconds/of", "cpu", "seconds.of: got 'cpu'; expected 'processor' or 'wall'"),
        ("finals/0/test/correct", "AAAA", "got 'AAAA'; expected packed bits of the images"),
        ("finals/0/test/correct", "%", "not base64"),
        ("finals/0/test/imagez", 3, "unknown key 'finals.0.test.imagez'; did you mean 'images'?"),
        (
            "parameters/nonzero",
            10**9,
            "parameters.nonzero: got 1000000000; expected 442 to 678: what the layers",
        ),
        ("parameters/layers/fc1/kept", 10**9, "parameters.layers.fc1.kept: got 1000000000"),
        ("connectivity/connected", [1, 1], "connectivity.connected: got [1, 1]; expected distinct"),
        ("connectivity/connected", [10], "expected distinct classes from 0 to 9"),
        ("finals/0/weights", None, "weights: got null"),
        ("environment", {}, "missing key 'environment.python'"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: Any, words: str, tmp_path: Path) -> None:
    data = synthetic.content("safs", 0.99, 0)
    _change(data, path, value)
    file = tmp_path / "record.json"
    file.write_text(json.dumps(data))
    problems = validate(file)
    assert any(words in line for line in problems), problems
    assert all(line.startswith(f"{file}: ") and "\n" not in line for line in problems)
    with pytest.raises(SafsError, match=r"record\.json"):
        Record.read(file)


def test_dense_has_ratio_zero_and_no_connectivity(tmp_path: Path) -> None:
    data = synthetic.content("dense", 0.0, 0) | {"ratio": 0.9}
    data["connectivity"] = {"connected": [0], "classes": 10, "cap": 0.2}
    file = tmp_path / "record.json"
    file.write_text(json.dumps(data))
    problems = " ".join(validate(file))
    assert "ratio: got 0.9; expected 0.0 for arm dense" in problems
    assert "connectivity: got 'an object'; expected null for arm dense" in problems


def test_only_a_cpu_counts_its_own_time(tmp_path: Path) -> None:
    data = synthetic.content("safs", 0.99, 0)
    data["seconds"]["of"] = "processor"
    file = tmp_path / "record.json"
    Record.model_validate(data).write(file)
    assert validate(file) == []
    data["device"]["type"] = "cuda"
    file.write_text(json.dumps(data))
    assert validate(file) == [f"{file}: seconds.of: got 'processor'; expected wall on cuda"]


def test_a_record_without_its_digest_is_not_valid(tmp_path: Path) -> None:
    """Else whoever takes the digest out could write any number."""
    file = tmp_path / "record.json"
    synthetic.record("safs", 0.99, 0).write(file)
    assert validate(file) == []
    values = json.loads(file.read_text())
    del values["digest"]
    file.write_text(json.dumps(values))
    (line,) = validate(file)
    assert line == f"{file}: digest: not what was written: damaged or edited"


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    data = synthetic.content("safs", 0.99, 0) | {"replicate": -1, "fold": -1}
    file = tmp_path / "record.json"
    file.write_text(json.dumps(data))
    assert len(validate(file)) == 2


def test_what_is_no_record_at_all(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    assert "cannot be read: No such file" in validate(file)[0]
    file.write_text("{")
    assert "not JSON" in validate(file)[0]
    file.write_text("[]")
    assert validate(file)


def test_a_test_loss_is_finite_or_the_final_failed() -> None:
    final = synthetic.final("safs", 0.99, 0)
    finals = [final | {"test": final["test"] | {"loss": None}}]
    with pytest.raises(ValueError, match="not finite on the test images has failed"):
        synthetic.record(finals=finals)
    synthetic.record(finals=finals, protocol={"version": 2, "preset": "paper"})
    with pytest.raises(ValueError, match="finite"):
        synthetic.record(finals=[final | {"test": final["test"] | {"loss": np.inf}}])
