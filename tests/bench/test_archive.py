"""Records in the open: read back as written, small, and refused where they were changed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import PAIR

from bench.labs.reading import validate
from bench.records import archive
from bench.records.archive import Replicate, Search
from safs import sealed
from safs.errors import SafsError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=1), inner, max_size=3)
    ),
    max_leaves=30,
)


def replicate(number: int = 1) -> Replicate:
    arms = ("dense", "vanilla", "stage1_only", "safs")
    records = [
        synthetic.record(arm, ratio, number)
        for arm in arms
        for ratio in ((0.0,) if arm == "dense" else (0.95, 0.99))
    ]
    searches = [
        Search(name=name, compared=True, trace=synthetic.search_trace(ratio, number))
        for ratio in (0.95, 0.99)
        for name in ("search", "random")
    ]
    tunings = [synthetic.tune_trace(ratio, number) for ratio in (0.95, 0.99)]
    return Replicate(
        profile="quick", pair=PAIR, replicate=number, records=records, searches=searches,
        tunings=tunings, predictions=[],
    )  # fmt: skip


def test_a_replicate_is_read_back_the_same(tmp_path: Path) -> None:
    path = replicate().write(tmp_path / "records" / PAIR / "r1.json")
    assert Replicate.read(path) == replicate()
    assert path.read_bytes() == replicate().write(tmp_path / "again.json").read_bytes()
    assert path.stat().st_size < 0.85 * len(replicate().model_dump_json())
    lines = path.read_text().splitlines()
    assert sum('"arm":"stage1_only"' in line for line in lines) == 2, "one entry a line"


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_what_entries_have_in_common_is_put_back(value: Any) -> None:
    folded = archive._folded(value)
    assert archive._unfolded(json.loads(json.dumps(folded))) == value
    assert json.dumps(archive._unfolded(folded), sort_keys=True) == json.dumps(
        value, sort_keys=True
    )


def test_what_a_record_rests_on_is_found() -> None:
    found = replicate()
    safs = next(r for r in found.records if (r.arm, r.ratio) == ("safs", 0.99))
    reached = found.reached(safs)
    assert reached["candidates"] == [e.energy for e in found.searches[2].trace.evaluations]
    assert reached["trials"] == [0.5, 0.6, None]
    vanilla = next(r for r in found.records if r.arm == "vanilla")
    assert found.reached(vanilla) == {}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"replicate": 1', '"replicate": 2', "damaged or edited"),
        ('"ratio":0.99', '"ratio":0.990', "damaged or edited"),
        ('"records_file": 1', '"records_file": 2', "expected a file of version 1"),
        ("{", "", "not JSON"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(
    old: str, new: str, words: str, tmp_path: Path
) -> None:
    path = replicate().write(tmp_path / "r1.json")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SafsError, match=words) as refused:
        Replicate.read(path)
    assert "r1.json" in str(refused.value)


def nested(depth: int) -> list[Any]:
    """Lists in lists."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        {"common": 5, "each": 3},
        {"common": {}, "each": [5]},
        {"common": {"common": {}, "each": []}, "each": []},
        nested(500),
        nested(700),
        nested(900),
    ],
)
def test_what_nobody_can_have_written_is_one_line_and_no_traceback(
    value: Any, tmp_path: Path
) -> None:
    """Under a right digest, wherever there is one."""
    values: dict[str, Any] = {"records_file": 1, "x": value}
    with suppress(ValueError):
        values = sealed.seal(values)
    path = tmp_path / "r1.json"
    path.write_text(archive._text(values))
    assert validate(path)
    with pytest.raises(SafsError, match=r"r1\.json"):
        Replicate.read(path)


def test_entries_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """Under a right digest: whoever writes a file can write an entry twice."""
    whole = replicate()
    search, tuning = whole.searches[0], whole.tunings[0]
    none = search.trace.model_copy(update={"evaluations": (), "best": None})
    beyond = search.trace.model_copy(update={"best": 999})
    found = [row.model_copy(update={"outcome": f"{row.index:032x}"}) for row in tuning.trials]
    other = tuning.model_copy(update={"trials": tuple(found)})
    again = next(r for r in whole.records if (r.arm, r.ratio) == ("safs", 0.95))
    wrong = {
        "the run safs at ratio 0.95 stands 2 times": {"records": [*whole.records, again]},
        "the search search at ratio 0.95 stands 2 times": {"searches": [*whole.searches, search]},
        "the tuning of safs at ratio 0.95 stands 3": {"tunings": [*whole.tunings, tuning, tuning]},
        "search search at ratio 0.95: best: None; expected rows": {
            "searches": [search.model_copy(update={"trace": none})]
        },
        "search search at ratio 0.95: best: 999; expected one of its rows": {
            "searches": [search.model_copy(update={"trace": beyond})]
        },
        "run safs at ratio 0.95: chain.trials: other trainings than its tune has": {
            "tunings": [other]
        },
    }
    for words, changes in wrong.items():
        path = whole.model_copy(update=changes).write(tmp_path / "r1.json")
        with pytest.raises(SafsError, match=f"r1.json: {words}"):
            Replicate.read(path)


def test_a_run_of_another_replicate_is_refused(tmp_path: Path) -> None:
    for part in ("records", "searches", "tunings"):
        strange = replicate().model_copy(update={part: getattr(replicate(2), part)})
        path = strange.write(tmp_path / "r1.json")
        with pytest.raises(SafsError, match=f"has a run of {PAIR}, replicate 2"):
            Replicate.read(path)
