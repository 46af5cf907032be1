"""Atomic files, digests, and journals that survive a kill in the middle of a line."""

import json
import os
import threading
from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines import __main__ as stages
from pipelines.cli import main as cli
from pipelines.storage.scratch import IN_USE, SCRATCH, Journal, empty, in_use
from pipelines.tasks.shared import load, save
from safs import sealed
from safs.api.export import save_state
from safs.errors import SafsError, one_line
from safs.files import copy, replacing, write_json
from safs.rows import Trained
from safs.training.loop import Epoch


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


def test_what_is_in_use_is_not_emptied(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with in_use():
        with in_use():
            (SCRATCH / "search").mkdir()
            (SCRATCH / "bench.json").touch()
        with pytest.raises(SafsError, match=r"^scratch: in use by a stage or a command that tr"):
            empty()
        assert (SCRATCH / "search").exists()
    (SCRATCH / "run.lock").touch()
    empty(but=[SCRATCH / "run.lock"])
    assert {*SCRATCH.iterdir()} == {IN_USE, SCRATCH / "run.lock"}


@pytest.mark.parametrize(
    ("command", "trains"),
    [
        (["retrain", "quick"], "pipelines.verification.retraining.retrain"),
        (["landscape", "retrain"], "pipelines.verification.landscape_sample.retrain_sample"),
        (["plan", "quick"], "pipelines.dvc.timing.measure"),
    ],
)
def test_nothing_is_cleaned_under_a_command_that_trains(
    command, trains, published_checkout, monkeypatch, capsys
):
    codes = []

    def cleaning(*_):
        codes.append(cli.main(["clean"]))
        raise SafsError("enough")

    monkeypatch.setattr(trains, cleaning)
    assert cli.main(command) == 2 and codes == [2]
    assert "scratch: in use" in capsys.readouterr().err


def test_nothing_is_cleaned_under_a_stage(checkout, monkeypatch, capsys):
    codes = []
    monkeypatch.setattr(
        "pipelines.stages.pretrain.run", lambda *_: codes.append(cli.main(["clean"]))
    )
    assert stages.main(["pretrain", "params.yaml", "lenet5_mnist5k"]) == 0 and codes == [2]
    assert "scratch: in use" in capsys.readouterr().err
    assert cli.main(["clean"]) == 0


def full(target):
    """Let what is written for ``target`` next meet a full disk."""
    name = f".{target.name}.{os.getpid()}.{threading.get_ident()}"
    target.with_name(name).symlink_to("/dev/full")
    return target


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_json(path, {"a": 1}),
        lambda path: sealed.write_bytes(path, b"state"),
        lambda path: save({"weights": torch.zeros(3)}, path),
        lambda path: save_state(torch.nn.Linear(2, 2), path),
    ],
    ids=["json", "checkpoint", "weights", "state"],
)
def test_a_full_disk_is_one_line_with_the_name_of_the_file(write, tmp_path):
    with pytest.raises(OSError) as caught:
        write(full(tmp_path / "x"))
    assert one_line(caught.value) == f"{tmp_path / 'x'}: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_copy_names_what_it_cannot_write_or_cannot_read(tmp_path):
    (tmp_path / "source").write_text("much")
    with pytest.raises(OSError) as caught:
        copy(tmp_path / "source", full(tmp_path / "target"))
    assert one_line(caught.value) == f"{tmp_path / 'target'}: No space left on device"
    with pytest.raises(OSError) as caught:
        copy(tmp_path / "nowhere", tmp_path / "target")
    assert one_line(caught.value) == f"{tmp_path / 'nowhere'}: No such file or directory"


def test_a_journal_on_a_full_disk_names_itself(tmp_path):
    journal = Journal(tmp_path / "j")
    (tmp_path / "j").symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        journal.add("a", {"loss": 1.0})
    assert one_line(caught.value) == f"{tmp_path / 'j'}: No space left on device"


@given(st.integers(0, 400))
def test_a_torn_journal_keeps_whole_lines_and_goes_on(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("journal") / "trainings.jsonl"
    journal = Journal(path)
    for index in range(5):
        journal.add(f"key{index}", {"loss": index / 3})
    text = path.read_bytes()
    path.write_bytes(text[: min(cut, len(text))])
    whole = text[: min(cut, len(text))].count(b"\n")
    again = Journal(path)
    assert all(again.get(f"key{i}") == {"loss": i / 3} for i in range(whole))
    assert again.get(f"key{whole}") is None
    again.add("next", {"loss": 0.0})
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [
        *(f"key{i}" for i in range(whole)),
        "next",
    ]


def test_what_a_journal_answers_has_the_outcome_of_the_training(tmp_path):
    """So that a search that was killed tells the same chain as one that was not."""
    zeros = {field.name: 0.0 for field in fields(Epoch)}
    history = tuple({**zeros, "epoch": n, "lr": 0.1, "train_loss": 1 / n} for n in (1, 2, 3))
    told = Trained(failure=None, seconds=1.0, backend="sparse", history=history, kept=3)
    Journal(tmp_path / "j").add("a", told.to_plain())
    answered = Trained.model_validate(Journal(tmp_path / "j").get("a"))
    assert answered == told
    assert answered.outcome() == told.outcome()


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
