"""An arm's value over its final trainings, failed ones at chance, and files of older editions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
import synthetic_labs
from synthetic import PAIR

from bench.labs.reading import parse, validate
from bench.labs.schema import render
from bench.records import finals
from bench.records.collection import Collection, Expected, collect, from_table
from bench.records.record import Record
from bench.tables import table1
from safs import sealed
from safs.errors import SafsError

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
    assert finals.top1(of_finals(BAD, classes=None)) is None


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


def as_version_1(record: dict[str, Any]) -> dict[str, Any]:
    """A record with one final training as the first edition wrote it."""
    (final,) = record["finals"]
    old = {key: record[key] for key in record if key not in ("finals", "history", "classes", "arm")}
    old |= {"schema": 1, "method": record["arm"], "status": "ok", "reason": None}
    old |= {name: final[name] for name in ("test", "validation", "train")}
    old["digests"] = record["digests"] | {"weights": final["weights"]}
    chain = record["chain"]
    rest = {key: chain[key] for key in chain if key != "finals"}
    return old | {"chain": rest | {"final": chain["finals"][0]}}


def test_a_record_of_version_1_is_read(tmp_path: Path) -> None:
    path, new = tmp_path / "record.json", synthetic.content("safs", 0.99, 0)
    sealed.write(path, as_version_1(new))
    assert validate(path) == []
    found = Record.read(path)
    expected = synthetic.record(classes=10, history={})
    without = [f.model_copy(update={"flow": None}) for f in expected.finals]
    assert found == expected.model_copy(update={"finals": without})
    told = json.loads(path.read_text())
    path.write_text(path.read_text().replace('"replicate": 0', '"replicate": 1'))
    assert "damaged or edited" in validate(path)[0]
    bad = {**told, "status": "failed", "reason": "nan", "test": None, "digest": None}
    failed = Record.model_validate(bad)
    assert (failed.status, failed.reason, failed.finals[0].weights) == ("failed", "nan", None)
    assert finals.top1(failed) is None, "under its protocol a failure was no value"
    with pytest.raises(ValueError, match="status: got 'fine'; expected 'ok' or 'failed'"):
        Record.model_validate(bad | {"status": "fine"})


def test_a_lab_file_of_version_1_is_read() -> None:
    new = synthetic_labs.content()
    old = {"methods" if key == "arms" else key: new[key] for key in new} | {"lab_file": 1}
    old["runs"] = [run | {"record": as_version_1(run["record"])} for run in new["runs"]]
    found = parse(render(old), "lab.json")
    now = parse(render(new), "lab.json")
    assert (found.arms, found.cells) == (now.arms, now.cells)
    assert [r.chain for r in found.records] == [r.chain for r in now.records]
    fewer = json.loads(render(old | {"protocol": {"version": 2, "preset": "paper"}}))
    for run in fewer["runs"]:
        run["record"]["protocol"]["version"] = 2
    del fewer["digest"], fewer["cells"][0]["gains"]["safs-srelu"]
    assert parse(render(fewer), "lab.json").cells[0].gains.keys() == {"safs-vanilla"}
    edited = render(old).replace('"seed": 1', '"seed": 2')
    with pytest.raises(SafsError, match="digest"):
        parse(edited, "lab.json")


def test_a_table_of_version_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    head = "pair,ratio,replicate,method,status,reason,top1\n"
    path.write_text(f"{head}{PAIR},0.99,0,safs,ok,,50.0\n{PAIR},0.99,1,safs,failed,nan,\n")
    found = from_table(path)
    assert found.series(PAIR, 0.99, "safs").tolist() == [50]
    assert found.frame["failures"].tolist() == [0, 1]


RUNS = f"pair,ratio,replicate,arm,status,top1\n{PAIR},0.99,0,safs,ok,50.0\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ": an empty file; expected 1 to"),
        (b"\n", ": no column 'pair'; known: none"),
        (RUNS.encode() + b"\xff", ": not UTF-8 at byte"),
        (b"a,b\n1,2\n", ": no column 'pair'; known: a, b"),
        (RUNS.replace("status", "state").encode(), ": no column 'status'; did you mean 'state'?"),
        (RUNS.replace("50.0", "fifty").encode(), ":2: top1: got 'fifty'; expected a number"),
        (RUNS.replace(",0,", ",x,").encode(), ":2: replicate: got 'x'; expected a number"),
        (RUNS.replace(",0,", ",,").encode(), ":2: replicate: got nothing; expected a value"),
        (RUNS.replace("50.0", "50.0,1").encode(), ":2: 7 fields; expected 6"),
        (RUNS[:-8].encode(), ":2: 5 fields; expected 6"),
        (RUNS.replace("50.0", '"50.0').encode(), ":2: not CSV: unexpected end of data"),
        (RUNS.replace("status", "pair").encode(), ": column 'pair' stands twice"),
        ((RUNS + RUNS.splitlines()[1].replace("0.99", "0.990")).encode(), ":3: pair 'lenet5_"),
        ((RUNS + RUNS.splitlines()[1].replace(",0,", ",00,")).encode(), ":3: pair 'lenet5_"),
        (RUNS.replace("50.0", "inf").encode(), ": top1: got inf; expected 0 to 100, or nothing"),
        (RUNS.replace("50.0", "150").encode(), ": top1: got 150; expected 0 to 100, or nothing"),
        (RUNS.replace(",0,", ",0.5,").encode(), ": replicate: got 0.5; expected a whole number"),
        (RUNS.replace("0.99", "1").encode(), ": ratio: got 1; expected 0 to less than 1"),
        (RUNS.replace("safs", "banana").encode(), ": arm: got 'banana'; expected one of dense"),
        (RUNS.replace("ok", "fine").encode(), ": status: got 'fine'; expected one of ok"),
        ((RUNS + RUNS.splitlines()[1]).encode(), ":3: pair 'lenet5_"),
    ],
)
def test_a_table_that_is_none_is_told_in_one_line(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    with pytest.raises(SafsError) as caught:
        from_table(path)
    line = str(caught.value)
    assert line.startswith(f"{path}{words}") and "\n" not in line
