"""Atomic files, digests, and journals that survive a kill in the middle of a line."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engine.scratch import Journal
from pipelines.tasks.shared import load, save
from safs.files import replacing, write_json


def test_json_refuses_nan_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []


@given(st.integers(0, 400))
def test_a_torn_journal_keeps_whole_lines_and_goes_on(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    journal = Journal(path)
    for index in range(5):
        journal.add(f"key{index}", {"loss": index / 3})
    text = path.read_bytes()
    path.write_bytes(text[: min(cut, len(text))])
    whole = text[: min(cut, len(text))].count(b"\n")
    again = Journal(path)
    assert len(again) == whole
    assert all(again.get(f"key{i}") == {"loss": i / 3} for i in range(whole))
    assert again.get(f"key{whole}") is None
    again.add("next", {"loss": 0.0})
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [
        *(f"key{i}" for i in range(whole)),
        "next",
    ]


def test_a_journal_answers_by_identity_never_by_position(tmp_path):
    Journal(tmp_path / "j").add("a", {"loss": 1.0})
    assert Journal(tmp_path / "j").get("b") is None


def test_weights_that_differ_in_what_is_no_number_are_one_file(tmp_path):
    """Which NaN comes out of an overflow depends on the processor, and nothing may depend on it."""
    patterns = [0x7FC00000, 0xFFC00000 - (1 << 32), 0x7FA00001]
    for name, bits in zip("abc", patterns, strict=True):
        mean = torch.tensor([0x3F800000, bits], dtype=torch.int32).view(torch.float32)
        save({"mean": mean, "count": torch.tensor(3)}, tmp_path / name)
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1
    found = load(tmp_path / "a")
    assert found["mean"][0] == 1 and found["mean"][1].isnan() and found["count"] == 3
