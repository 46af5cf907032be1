"""Two sets of runs held to each other, link by link: the same, or where they begin to differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import synthetic
from synthetic import PAIR

from bench.records.chains import Links
from bench.records.identity import MOST, Place, compare
from bench.records.record import Record

ARMS = ("dense", "vanilla", "stage1_only", "safs")
RATIOS, REPLICATES = (0.95, 0.99), 2
CELLS = len(RATIOS) * REPLICATES
TRAININGS = REPLICATES + CELLS * (3 + 21 + 20)
"""Dense networks; in each cell three final trainings, a search that two arms share, and trials."""
OTHER = "0" * 32

Change = Callable[[dict[str, Any]], None]


def contents() -> list[dict[str, Any]]:
    """Every run of a small profile as plain data."""
    return [
        synthetic.content(arm, ratio, replicate)
        for arm in ARMS
        for ratio in ((0.0,) if arm == "dense" else RATIOS)
        for replicate in range(REPLICATES)
    ]


def reached(record: Record) -> dict[str, list[float | None]]:
    searched = {"candidates": record.trials.search, "trials": record.trials.tune}
    return {name: [0.1 + i / 100 for i in range(count)] for name, count in searched.items()}


def chains(*changes: Change, of: list[dict[str, Any]] | None = None) -> list[Links]:
    """The runs' chains, each run having gone through ``changes``."""
    runs = contents() if of is None else of
    for run in runs:
        for change in changes:
            change(run)
    return [Links(r, **reached(r)) for r in map(Record.model_validate, runs)]


PUBLISHED = chains()


def in_cell(run: dict[str, Any], replicate: int = 1, ratio: float = 0.99) -> bool:
    return (run["replicate"], run["ratio"]) == (replicate, ratio)


def dense(run: dict[str, Any]) -> None:
    if run["replicate"] == 1:
        if run["arm"] == "dense":
            run["chain"]["finals"] = [OTHER]
            run["finals"][0]["train"] = {"loss": 1.125, "accuracy": 0.5}
        else:
            run["chain"]["dense"] = OTHER


def mask(run: dict[str, Any]) -> None:
    if in_cell(run):
        run["chain"]["mask"] = OTHER


def candidate(run: dict[str, Any]) -> None:
    if in_cell(run) and run["chain"]["candidates"]:
        run["chain"]["candidates"][3] = run["chain"]["candidates"][7] = OTHER
        run["chain"]["finals"] = [OTHER]


def trial(run: dict[str, Any]) -> None:
    if in_cell(run) and run["chain"]["trials"]:
        run["chain"]["trials"][19] = OTHER


def final(run: dict[str, Any]) -> None:
    if in_cell(run) and run["arm"] == "vanilla":
        run["chain"]["finals"] = [OTHER]
        run["finals"][0]["validation"] = {"top1": 0.25, "loss": 1.0}


def images(run: dict[str, Any]) -> None:
    if in_cell(run) and run["arm"] == "safs":
        run["finals"][0]["test"] = synthetic.final("vanilla", 0.9, 0)["test"]


def data(run: dict[str, Any]) -> None:
    if run["replicate"] == 0:
        run["chain"]["data"] = OTHER


def checksum(run: dict[str, Any]) -> None:
    run["digests"]["data"] = {"mnist_5k.csv": "decaf"}


def parameters(run: dict[str, Any]) -> None:
    run["digests"]["parameters"] = "q"


def test_the_same_runs_are_identical():
    found = compare(PUBLISHED, chains())
    assert found.identical and (found.trainings, found.same, found.missing) == (*[TRAININGS] * 2, 0)
    assert found.lines == [
        f"{TRAININGS} of {TRAININGS} trainings identical to the published results"
    ]


AT = {"profile": "quick", "pair": PAIR}
CELL = AT | {"ratio": 0.99, "replicate": 1}
OF_REPLICATE = TRAININGS // REPLICATES
CASES: list[tuple[Change, dict[str, Any], int, int, str]] = [
    (parameters, AT, 0, TRAININGS, f"{PAIR}: parameters differ"),
    (data, AT | {"replicate": 0}, 0, OF_REPLICATE, "replicate 0: images, labels or partition"),
    (checksum, AT | {"replicate": 0}, 0, OF_REPLICATE, "images, labels or partition"),
    (dense, AT | {"replicate": 1}, 1, OF_REPLICATE - 1, "training loss 1.125 here, 1.1 published"),
    (mask, CELL, 0, 3 + 21 + 20, "ratio 0.99, replicate 1: mask differs"),
    (candidate, CELL | {"of": "found", "index": 3}, 4, 17 + 20 + 2,
     "stage1_only and safs: candidate 3 differs: training loss 0.13 on both sides; 39 trainings"),
    (trial, CELL | {"of": "safs", "index": 19}, 1, 1, "safs: trial 19 differs: validation"),
    (final, CELL | {"of": "vanilla", "index": 0}, 1, 0,
     "training 0 differs: training loss 1.1 on both sides; validation accuracy 25 % here, 50 % p"),
    (images, CELL | {"of": "safs", "index": 0}, 0, 0, "safs: result of final 0 on the test images"),
]  # fmt: skip
LINKS = {"images": "test", "checksum": "data", "candidate": "candidates", "trial": "trials"}


@pytest.mark.parametrize(
    "change, place, other, resting, words", CASES, ids=[case[0].__name__ for case in CASES]
)
def test_the_first_link_that_differs_is_named_once(change, place, other, resting, words):
    found = compare(PUBLISHED, chains(change))
    first = found.differences[0]
    name = change.__name__
    assert first.place == Place(LINKS.get(name, name), **place)
    assert (found.trainings - found.same, first.resting) == (other, resting)
    assert len(found.differences) == (REPLICATES if change is checksum else 1)
    assert not found.identical and found.headline.startswith("NOT IDENTICAL: ")
    assert words in first.text and first.text in found.lines


def test_numbers_that_look_alike_are_written_out():
    def slightly(run: dict[str, Any]) -> None:
        dense(run)
        if run["arm"] == "dense":
            run["finals"][0]["train"] = {"loss": 1.1000000000000003, "accuracy": 0.51}

    (found,) = compare(PUBLISHED, chains(slightly)).differences
    assert "training loss 1.1000000000000003 here, 1.1 published" in found.text


def test_of_several_differences_the_earliest_link_comes_first():
    found = compare(PUBLISHED, chains(final, candidate, mask, dense))
    assert [d.place.link for d in found.differences] == ["dense"]
    found = compare(PUBLISHED, chains(final, trial))
    assert [d.place.link for d in found.differences] == ["trials", "final"]


def test_many_differences_are_cut_off_for_people_alone():
    def every(run: dict[str, Any]) -> None:
        run["chain"]["finals"] = [OTHER] if run["arm"] != "dense" else run["chain"]["finals"]

    found = compare(PUBLISHED, chains(every))
    assert len(found.differences) == len(found.row()["differences"]) == 3 * CELLS
    shown = [line for line in found.lines if " differs" in line]
    assert len(shown) == min(MOST, 3 * CELLS)


def test_a_run_that_is_not_here_is_no_identical_one():
    here = [run for run in contents() if not (in_cell(run) and run["arm"] == "safs")]
    found = compare(PUBLISHED, chains(of=here))
    assert not found.identical and not found.differences
    assert (found.missing, found.same) == (21, TRAININGS - 21), "its trials and its final training"
    assert "; not here: 21" in found.headline
    more = compare(chains(of=here), PUBLISHED)
    assert more.identical and more.headline.endswith("; here but not published: 1 run")


def test_another_number_of_finals_is_a_difference():
    def again(run: dict[str, Any]) -> None:
        if in_cell(run) and run["arm"] == "safs":
            run["finals"] = run["finals"] * 2
            run["chain"]["finals"] = [*run["chain"]["finals"], OTHER]

    for published, here in ((PUBLISHED, chains(again)), (chains(again), PUBLISHED)):
        (found,) = compare(published, here).differences
        assert (found.place.link, found.place.index) == ("final", 1)
        assert None in (found.here, found.published) and "final training 1 differs" in found.text


def test_what_each_side_ran_on_is_said():
    def elsewhere(run: dict[str, Any]) -> None:
        run["environment"]["cpu"] = "another processor"
        run |= {"portable": run["arm"] != "dense", "compiler": "zig 0.16"}
        run["bits"] = {"isa": "AVX2"}

    assert compare(PUBLISHED, chains(elsewhere)).identical
    *_, here, there = compare(PUBLISHED, chains(elsewhere, dense)).lines
    assert here == (
        "ran here: another processor, AVX2, zig 0.16, python 3.11.2, torch 2.14.1, numpy 2.4.6, "
        "backend dense, not portable"
    )
    assert there.startswith("ran published: x86, python 3.11.2")
