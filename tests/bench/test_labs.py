"""Lab files: what is written can be read, and each kind of fault is named with line and key."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import synthetic
import synthetic_labs
from synthetic import PAIR
from synthetic_labs import content, lab, sha

from bench import report
from bench.collection import Collection
from bench.labs import reading
from bench.labs.reading import by_lab, by_name, parse, validate
from bench.labs.schema import render, seal
from bench.labs.view import view
from bench.tables import comparisons as compare
from safs import checked
from safs.checked import MAX_FAULTS
from safs.errors import SafsError

EVIL = "<script>alert('x')</script> & \"quoted\""
SAFS = -1  # the last run of a synthetic lab is SAFS at the highest ratio


def faults(values: dict[str, Any]) -> list[str]:
    """What is wrong with a file whose digest fits its content."""
    with pytest.raises(SafsError) as caught:
        parse(render(values), "lab.json")
    return str(caught.value).splitlines()


def record(values: dict[str, Any], place: int = SAFS) -> dict[str, Any]:
    return values["runs"][place]["record"]


def test_what_is_written_is_read_back():
    values = content(failing=True)
    file = parse(render(values), "lab.json")
    assert json.loads(render(values)) == values | {"digest": file.digest}
    assert [r.status for r in file.records].count("failed") == 1
    assert all(not slot.own for r in file.records for slot in r.slots)


def test_a_run_is_a_line():
    lines = render(content()).splitlines()
    assert sum('"method"' in line for line in lines) == 3 * (1 + 3 * 2)


def _gain(values):
    values["cells"][1]["gains"]["safs-vanilla"]["mean"] += 0.01


def _sparsity(values):
    values["cells"][0]["sparsity"] = 0.95


def _kept(values):
    for name in ("vanilla", "srelu", "safs"):
        for run in values["runs"]:
            if run["record"]["method"] == name and run["record"]["ratio"] == 0.99:
                run["record"]["parameters"]["layers"]["fc1"]["kept"] += 100


def _nonzero(values):
    record(values)["parameters"]["nonzero"] += 1


def _prunable(values):
    record(values)["parameters"]["prunable"] += 1


def _final(values):
    record(values)["epochs"]["final"] = 19


def _search(values):
    record(values)["epochs"]["search"] -= 1


def _trials(values):
    record(values)["trials"]["tune"] = 25
    record(values)["chain"]["trials"] += 5 * ["0" * 32]


def _repeated(values):
    values["runs"].append(values["runs"][SAFS])


def _left_out(values):
    del values["runs"][SAFS]


def _same_weights(values):
    record(values)["digests"]["weights"] = record(values, -2)["digests"]["weights"]


def _same_identity(values):
    record(values)["digests"]["identity"] = record(values, -2)["digests"]["identity"]


def _parameters(values):
    record(values)["digests"]["parameters"] = sha("other")


def _data(values):
    record(values)["digests"]["data"]["test"] = sha("other")


def _head_data(values):
    values["data"]["mnist5k"]["test"] = sha("other")


def _protocol(values):
    record(values)["protocol"]["version"] = 2


def _weights(values):
    record(values)["slots"][0]["own"] = {"t_r": [0.5]}


def _top1(values):
    record(values)["test"]["top1"] = 0.5001


def _environment(values):
    values["environments"].append(values["environments"][0])


def _range(values):
    record(values)["validation"]["top1"] = 1.5


def _unknown(values):
    values["lab"]["descriptoin"] = "x"


def _name(values):
    values["lab"]["name"] = "../a"


FAULTS = [
    (_gain, "cells.1.gains.safs-vanilla.mean", "the mean difference of its runs"),
    (_sparsity, "cells.0.sparsity", "0.9, from the counts"),
    (_kept, "parameters.layers.fc1.kept", "442, as ratio 0.99"),
    (_nonzero, "parameters.nonzero", "442 to 678: what the layers keep"),
    (_prunable, "parameters.prunable", "44190, the sum"),
    (_final, "epochs.final", "the budget of 20 epochs"),
    (_search, "epochs.search", "84: 21 trainings of 4 epochs"),
    (_trials, "trials.tune", "the budget of 20 trainings"),
    (_repeated, "record.replicate", "each run once"),
    (_left_out, "runs", f"no run {PAIR}/0.99/2/safs"),
    (_same_weights, "digests.weights", "no other replicate has"),
    (_same_identity, "digests.identity", "no other run has"),
    (_parameters, "digests.parameters", "as in the pair's other runs"),
    (_data, "runs", "data checksums differ"),
    (_head_data, "data", "the checksums of the runs"),
    (_protocol, "record.protocol", "the file's protocol"),
    (_weights, "slots.0.own", "no weights"),
    (_top1, "test.top1", "the share of ones"),
    (_environment, "environments", "those of the runs"),
    (_range, "validation.top1", "less than or equal to 1"),
    (_unknown, "lab.descriptoin", "did you mean 'description'"),
    (_name, "lab.name", "pattern"),
]


@pytest.mark.parametrize(
    ("damage", "key", "words"), FAULTS, ids=lambda x: getattr(x, "__name__", "")
)
def test_a_fault_is_named_with_line_and_key(damage, key, words):
    values = content()
    damage(values)
    line = next(line for line in faults(values) if words in line)
    found = re.match(r"lab\.json:(\d+): (?:(?:unknown|missing) key ')?([\w.-]+)", line)
    number, where = found.groups()
    assert where.endswith(key), line
    shown = render(values).splitlines()[int(number) - 1]
    assert f'"{key.split(".")[-1]}"' in shown, (line, shown[:80])


def test_a_failed_search_may_spend_less_but_no_more():
    values = content(failing=True)
    run = values["runs"][SAFS]
    run["record"]["epochs"]["search"] -= 4  # one failed candidate of four epochs
    parse(render(values), "lab.json")
    run["record"]["epochs"]["search"] -= 1
    assert any("80 to 84: 21 trainings of 4 epochs, 1 failed" in line for line in faults(values))


def test_a_changed_file_is_found_by_its_digest():
    text = render(content()).replace("Synthetic, seed 1", "Synthetic, seed 2")
    with pytest.raises(SafsError, match=r"^lab\.json:3: digest: .* the file was changed"):
        parse(text, "lab.json")
    assert seal(json.loads(text)) != json.loads(text)["digest"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"lab_file": 1, "lab_file": 1}', "x: lab_file: key stands twice"),
        ('{"lab_file":\n' + "[" * 1900, "x: (whole file): nested too deeply"),
        ('{"lab_file": ' + "9" * 50 + "}", "a number of 50 characters; expected at most 40"),
        ('{"lab_file": "a\\u001b[31m"}', "got 'a\\x1b[31m'; expected"),
        ('{"lab_file": "\\ud800"}', "not JSON: unexpected end of hex escape"),
        ('{"lab_file": "' + "a" * 40_000 + '"}', "got 'aaa"),
        ('{"lab_file": [' + "0," * 2001 + "0]}", "more than 2000 values"),
        ('{"lab_file": 1,\n "lab": }', "x:2: (whole file): not JSON"),
        ('{"lab_file": 1e999}', "x:1: lab_file"),
        ('{"lab_file": NaN}', "x:1: lab_file"),
        ("", "x:1: (whole file): not JSON"),
    ],
)
def test_hostile_text_is_one_clear_line(text, words, monkeypatch):
    monkeypatch.setattr(checked, "MAX_VALUES", 2000)
    with pytest.raises(SafsError) as caught:
        parse(text, "x")
    assert words in str(caught.value).splitlines()[0]
    assert str(caught.value).isascii() and "\x1b" not in str(caught.value)


def test_many_faults_are_cut_short():
    values = content()
    values["runs"][0]["record"] |= {f"x{n}": 1 for n in range(MAX_FAULTS + 5)}
    found = faults(values)
    assert len(found) == MAX_FAULTS + 1 and found[-1] == "lab.json: and 5 more"


def test_a_file_is_read_no_further_than_the_bound(tmp_path, monkeypatch):
    path = tmp_path / "lab.json"
    path.write_text(render(content()))
    assert validate(path) == []
    monkeypatch.setattr(reading, "MAX_BYTES", 1000)
    assert validate(path) == [f"{path}: {path.stat().st_size} bytes; expected 1 to 1000 bytes"]
    path.write_bytes(b'{"lab_file": "\xff"}')
    assert "not UTF-8 at byte 14" in validate(path)[0]
    assert "Is a directory" in validate(tmp_path)[0]
    assert "No such file" in validate(tmp_path / "none.json")[0]


def test_records_are_validated_as_before(tmp_path):
    path = tmp_path / "record.json"
    synthetic.record().write(path)
    assert validate(path) == []
    path.write_text('{"schema": 1}')
    assert f"{path}: missing key 'pair'" in validate(path)


def test_files_of_a_folder_lie_where_they_say(tmp_path):
    for name, seed in (("lab-b", 2), ("lab-a", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "quick.json").write_text(render(content(name, seed)))
    assert list(by_lab(tmp_path, "quick")) == ["lab-a", "lab-b"]
    assert by_lab(tmp_path, "paper") == {}
    paths = [tmp_path / "lab-a/quick.json"] * 2
    with pytest.raises(SafsError, match="'lab-a' is given twice"):
        by_name(paths)
    (tmp_path / "lab-a").rename(tmp_path / "lab-c")
    with pytest.raises(SafsError, match=r"in the wrong place; expected lab-a/quick\.json"):
        by_lab(tmp_path, "quick")


def test_nothing_of_a_lab_file_reaches_the_page_unescaped(whole: Collection, tmp_path):
    about = synthetic.context()
    labs = {
        name: lab(name, seed, lab={"name": name, "description": EVIL})
        for seed, name in enumerate(("a", "b", "c"))
    }
    shown = view(labs, about.pairs)
    path = tmp_path / "report.html"
    comparisons = compare.compare(whole, about)
    report.render(whole, comparisons, synthetic.traces(), about, {}, path, shown)
    page = path.read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert page.index('id="labs"') < page.index('id="figure-labs"') < page.index('id="labs_each"')
    report.render(whole, comparisons, synthetic.traces(), about, {}, path)
    assert 'id="labs"' not in path.read_text()


def test_a_lab_file_has_no_weights_and_is_small():
    assert "own" in synthetic.content("srelu", 0.99, 0)["slots"][0]
    assert len(render(synthetic_labs.content())) < 60_000
