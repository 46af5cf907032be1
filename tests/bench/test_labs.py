"""Lab files: what is written can be read, and each kind of fault is named with line and key."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import synthetic
import synthetic_labs
from synthetic import PAIR
from synthetic_labs import content, digest_of, lab, sha

from bench import report
from bench.figures.plot import Source
from bench.labs import agreement, reading
from bench.labs.file import LabFile
from bench.labs.reading import by_lab, by_name, parse, validate
from bench.labs.schema import Run, render
from bench.labs.view import view
from bench.records.collection import Collection
from bench.records.record import Record
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
    assert sum('"arm"' in line for line in lines) == 3 * (1 + 3 * 2)


def _gain(values):
    values["cells"][1]["gains"]["safs-vanilla"]["mean"] += 0.01


def _sparsity(values):
    values["cells"][0]["sparsity"] = 0.95


def _kept(values):
    for name in ("vanilla", "srelu", "safs"):
        for run in values["runs"]:
            if run["record"]["arm"] == name and run["record"]["ratio"] == 0.99:
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


def _dense_link(values):
    dense = next(r["record"] for r in values["runs"] if r["record"]["arm"] == "dense")
    dense["chain"]["finals"] = ["0" * 32]


def _repeated(values):
    values["runs"].append(values["runs"][SAFS])


def _left_out(values):
    del values["runs"][SAFS]


def _same_weights(values):
    record(values)["finals"][0]["weights"] = record(values, -2)["finals"][0]["weights"]


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
    record(values)["finals"][0]["test"]["top1"] = 0.5001


def _environment(values):
    values["environments"].append(values["environments"][0])


def _range(values):
    record(values)["finals"][0]["validation"]["top1"] = 1.5


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
    (_dense_link, "record.chain.dense", "as in other runs of lenet5_mnist5k/replicate 0"),
    (_repeated, "record.replicate", "each run once"),
    (_left_out, "runs", f"no run {PAIR}/0.99/2/safs"),
    (_same_weights, "finals.0.weights", "no other replicate or final has"),
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
    ("key", "value", "words"),
    [
        ("profile", "other", "got 'other'; expected quick, as in all runs"),
        ("protocol", {"version": 3, "preset": "as_released"}, "version=3 preset='paper', as in"),
        ("pairs", {}, f"also {PAIR}, as in the runs"),
        ("arms", ["dense", "safsy"], "an arm; did you mean 'safs'?"),
    ],
)
def test_a_head_that_no_run_agrees_with_is_one_fault(key, value, words):
    values = content()
    values[key] = value
    (line,) = faults(values)
    assert f": {key}: " in line and words in line


def test_arms_of_one_search_have_its_candidates():
    def file(*candidates):
        contents = [synthetic.content(arm, 0.99, 0) for arm in ("stage1_only", "safs")]
        for one, link in zip(contents, candidates, strict=True):
            one["chain"]["candidates"][3] = link * 32
            one["slots"] = contents[0]["slots"]
        records = [Record.model_validate(one) for one in contents]
        runs = [Run(failed={"search": 0, "tune": 0}, record=record) for record in records]
        return LabFile.model_construct(runs=runs)

    assert [key for key, *_ in agreement.problems(file("0", "0"))] == []
    (problem,) = agreement.problems(file("0", "1"))
    assert problem[0] == ("runs", "1", "record", "chain", "candidates")


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


FIRST = 0  # a dense run
UNTUNED = 5  # vanilla at the lowest ratio, replicate 2
CONSISTENT = [
    (SAFS, "connectivity/cap", 5e-324, "at least 0.7: the share of the connected classes"),
    (SAFS, "connectivity/cap", 1.0, "0.995, as in other runs of mnist5k/6 connected classes"),
    (SAFS, "connectivity/classes", 20, "10, as the record says elsewhere"),
    (SAFS, "slots/1/name", "conv1", "each slot once"),
    (SAFS, "slots/1/name", "other", "as in other runs of lenet5_mnist5k"),
    (SAFS, "slots/1/alpha", 1e39, "less than or equal to 34028235"),
    (UNTUNED, "slots/1/alpha", 1.5, "1.0, as arm vanilla learns no scales"),
    (UNTUNED, "slots/1/operator", "swish", "as in other runs of lenet5_mnist5k/default"),
    (UNTUNED, "recipe/lr", 0.2, "as in other runs of lenet5_mnist5k/the dense recipe"),
    (FIRST, "recipe/weight_decay", 0.01, "as in other runs of lenet5_mnist5k/the dense recipe"),
    (SAFS, "recipe/lr", 5.0, "0.0001 to 0.1, as stage 2 chooses"),
    (SAFS, "recipe/lr", 5e-324, "0.0001 to 0.1, as stage 2 chooses"),
    (SAFS, "recipe/momentum", 0.01, "0.1 to 0.999, as stage 2 chooses"),
    (SAFS, "recipe/batch_size", 128, "256, as in other runs of lenet5_mnist5k"),
    (SAFS, "recipe/betas", "as_released", "'published', as in other runs of lenet5_mnist5k"),
    (SAFS, "recipe/tadam", "as_released", "'published', as in other runs of lenet5_mnist5k"),
    (SAFS, "recipe/betas", "released", "'published' or 'as_released'"),
    (SAFS, "recipe/restart_epochs", 2**53, "less than or equal to 100000"),
    (SAFS, "recipe/restart_epochs", 5, "restart_epochs is for warm_restarts only"),
    (SAFS, "recipe/schedule", "cosinus", "'linear', 'cosine'"),
    (SAFS, "fold", 1, "2, as in other runs of mnist5k/replicate 2"),
    (SAFS, "fold", 3, "at most the replicate 2"),
    (SAFS, "network", "vgg16", "'lenet5', as in other runs of lenet5_mnist5k"),
    (SAFS, "parameters/total", 50_000, "44418, as in other runs"),
    (SAFS, "parameters/activation", 300, "at least 44490"),
    (SAFS, "seconds/final", 1e300, "less than or equal to 1000000000"),
    (UNTUNED, "seconds/search", 1.0, "0, as arm vanilla has no such stage"),
    (UNTUNED, "trials/tune", 1, "0, as arm vanilla has no such stage"),
    (SAFS, "finals/0/test/loss", -1.0, "greater than or equal to 0"),
    (SAFS, "finals/0/validation/loss", 1e300, "less than or equal to 34028235"),
    (SAFS, "macs", {"dense": 10, "sparse": 11}, "at most dense = 10"),
    (SAFS, "bits", {"threads": "7"}, "'1', as the record says elsewhere"),
    (SAFS, "device/type", "tpu", "'cpu' or 'cuda'"),
    (SAFS, "threads", 2**60, "less than or equal to 9007199254740992"),
]


@pytest.mark.parametrize(("place", "path", "value", "words"), CONSISTENT)
def test_what_the_rest_of_the_file_determines_is_held_against_it(place, path, value, words):
    values = content()
    inside, *names = record(values, place), *path.split("/")
    for name in names[:-1]:
        inside = inside[int(name) if name.isdigit() else name]
    inside[names[-1]] = value
    found = faults(values)
    assert any(f"record.{path.split('/')[0]}" in line and words in line for line in found), found


def test_an_arm_has_as_many_finals_in_every_run():
    values = content()
    run = record(values, SAFS)
    run["finals"] = run["finals"] * 2
    run["chain"]["finals"] = run["chain"]["finals"] * 2
    assert any(
        "record.finals: " in line and "1, as in other runs" in line for line in faults(values)
    )


@pytest.mark.parametrize(
    ("arm", "stage", "value", "words"),
    [
        ("vanilla", "search", {"trainings": 3, "epochs": 3}, "0, as arm vanilla has no such stage"),
        ("safs", "tune", {"trainings": 0, "epochs": 0}, "at least 1"),
        ("safs", "search", {"trainings": 2**53, "epochs": 4}, "less than or equal to 200000"),
        ("srelu", "final", 2**53, "less than or equal to 100000"),
        ("srelu", "final", 21, "20, as for arm vanilla"),
    ],
)
def test_budgets_are_those_of_their_arms(arm, stage, value, words):
    values = content()
    values["pairs"][PAIR]["budgets"][arm][stage] = value
    assert any(words in line and f"budgets.{arm}.{stage}" in line for line in faults(values))


@pytest.mark.parametrize(
    "arms", [["dense", "vanila", "srelu", "safs"], ["dense", "safs", "safs"], ["safs"]]
)
def test_arms_are_known_and_distinct(arms):
    assert any(": arms: got" in line for line in faults(content() | {"arms": arms}))


def test_folds_are_the_replicates_modulo_one_number():
    values = content()
    for run in values["runs"]:
        run["record"]["fold"] = {0: 0, 1: 0, 2: 1}[run["record"]["replicate"]]
    assert any("replicate modulo a number of folds" in line for line in faults(values))


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
    assert digest_of(json.loads(text)) != json.loads(text)["digest"]


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


HOSTILE = {
    "escapes": '{"lab_file": 1, "' + '\\"' * 100_000,
    "escapes to the bound": '{"' + '\\"' * 4_000_000,
    "keys of a lab file": '{"lab_file": 1' + "".join(f', "k{n}": 1' for n in range(150_000)) + "}",
    "keys of a record": '{"schema": 1' + "".join(f', "k{n}": 1' for n in range(150_000)) + "}",
    "too many keys": '{"lab_file": 1' + "".join(f', "k{n}": 1' for n in range(300_000)) + "}",
    "wrong runs": '{"lab_file": 1, "runs": [' + "1," * 150_000 + "1]}",
    "empty runs": '{"lab_file": 1, "runs": [' + "{}," * 90_000 + "{}]}",
    "budgets": '{"lab_file": 1, "pairs": {' + ",".join(f'"p{n}": {{}}' for n in range(9000)) + "}}",
    "a long text": '{"lab_file": 1, "x": "' + "a" * 8_000_000 + '"}',
    "a long key": '{"lab_file": 1, "' + "a" * 8_000_000 + '": 1}',
    "depth": '{"lab_file": 1, "x": ' + "[" * 190_000,
    "closed depth": '{"lab_file": 1, "x": ' + "[" * 900 + "]" * 900 + "}",
    "digits": '{"schema": ' + "9" * 1_000_000 + "}",
    "decimals": '{"ratio": 0.' + "9" * 1_000_000 + "}",
    "a key twice": '{"schema": 1, "schema": 1}',
    "no object": "[]",
    "a number": "1",
    "too much": " " * 8_400_000,
    "nothing": "",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_file_takes_long_or_many_lines(text, tmp_path):
    path = tmp_path / "hostile.json"
    path.write_text(text)
    started = time.process_time()
    found = validate(path)
    assert time.process_time() - started < 3
    assert 0 < len(found) <= MAX_FAULTS + 1
    assert all(line.startswith(str(path)) and line.isprintable() for line in found)
    assert all(len(line) < 2000 for line in found)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/proc/self/status"), tmp_path):
        assert len(validate(path)) == 1 and str(path) in validate(path)[0]


def test_what_a_terminal_would_not_print_is_escaped(tmp_path):
    path = tmp_path / "record.json"
    values = synthetic.content("safs", 0.9, 0) | {"\x1b[2J\u202e": 1, "network": "\x1b]0;x\x07"}
    path.write_text(json.dumps(values))
    found = validate(path)
    assert len(found) == 2 and all(line.isprintable() for line in found)
    assert r"unknown key '\x1b[2J\u202e'" in found[1] and r"got '\x1b]0;x\x07'" in found[0]


def test_a_lab_file_of_another_version_is_refused():
    with pytest.raises(SafsError, match="lab_file: got 1; expected"):
        parse(render(content() | {"lab_file": 1}), "lab.json")


def test_a_lab_file_is_known_by_its_keys_in_any_order(tmp_path):
    path = tmp_path / "lab.json"
    values = json.loads(render(content()))
    path.write_text(json.dumps(values, sort_keys=True, indent=1))
    assert validate(path) == []
    values["seed"] += 1
    path.write_text(json.dumps(values, sort_keys=True, indent=1))
    (line,) = validate(path)
    number = int(re.match(r".*json:(\d+): digest: got", line)[1])
    assert '"digest"' in path.read_text().splitlines()[number - 1]


def test_a_published_file_of_records_is_checked_too(tmp_path):
    path = tmp_path / "r0.json"
    published = Path(__file__).parents[2] / "results/quick/records/lenet5_mnist5k/r0.json"
    path.write_text(published.read_text())
    assert validate(path) == []
    path.write_text(published.read_text().replace('"vanilla"', '"srelu"', 1))
    assert validate(path) == [f"{path}: its content does not fit its digest: damaged or edited"]


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
    source = Source(whole, comparisons, synthetic.traces(), about)
    report.render(source, {}, path, shown)
    page = path.read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert page.index('id="labs"') < page.index('id="figure-labs"') < page.index('id="labs_each"')
    report.render(source, {}, path)
    assert 'id="labs"' not in path.read_text()


def test_a_lab_file_has_no_weights_and_is_small():
    assert "own" in synthetic.content("srelu", 0.99, 0)["slots"][0]
    assert len(render(synthetic_labs.content())) < 65_000
