"""Parameters that a slip or somebody hostile may leave: one line each, soon, and nothing runs."""

from __future__ import annotations

import copy
import os
import shutil
import time
from pathlib import Path

import pytest
import yaml

from pipelines.cli.main import main
from pipelines.config.reading import MAX_BYTES, read_yaml
from pipelines.config.study import load
from pipelines.results.publishing import context
from safs.errors import SafsError

ROOT = Path(__file__).parents[2]
PROFILE, PAIR = "pipelines/profiles/tiny/params.yaml", "pipelines/pairs/lenet5_generated.yaml"
SECONDS = 2.0
CELL = {"pair": "lenet5_generated", "ratio": 0.9}
TINY = {
    "profile": "tiny",
    "title": "Tiny",
    "root": "../../..",
    "params_file": PROFILE,
    "seed": 7,
    "replicates": 2,
    "backend": "auto",
    "acceleration": {},
    "protocol": {"preset": "paper"},
    "pairs": ["lenet5_generated"],
    "cells": {"lenet5_generated-0.90": CELL},
    "arms": ["vanilla", "safs"],
    "studies": {"activations": {}, "algorithms": {}, "landscape": {}},
    "readings": {},
    "budget": {"pretrain": {}, "finetune": {}, "search": {}, "tune": {}},
}
SAID = {"ratio": 0.9, "replicates": 2, "contrasts": ["safs-vanilla"]}
TEXT = yaml.safe_dump(TINY)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The repository's parameters, and a profile of one pair."""
    place = tmp_path_factory.mktemp("root")
    shutil.copytree(ROOT / "pipelines/pairs", place / "pipelines/pairs")
    (place / PROFILE).parent.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", place)
    return place


def refusal(root, profile=TEXT, pair=None):
    """The one line that refuses a profile's text, or its pair's."""
    own = (ROOT / PAIR).read_text()
    for file, text in ((PROFILE, profile), (PAIR, own if pair is None else pair)):
        (root / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    started = time.process_time()
    with pytest.raises(SafsError) as caught:
        load(Path(PROFILE), root)
    assert time.process_time() - started < SECONDS
    line = str(caught.value)
    assert line.isprintable() and len(line) < 1500, line
    return line


def changed(values, key, value):
    values = copy.deepcopy(values)
    inside, names = values, key.split("/")
    for name in names[:-1]:
        inside = inside.setdefault(name, {})
    inside[names[-1]] = value
    return yaml.safe_dump(values)


def test_the_profile_of_these_tests_is_valid(root):
    (root / PROFILE).write_text(TEXT)
    shutil.copy(ROOT / PAIR, root / PAIR)
    study = load(Path(PROFILE), root)
    assert study.profile.replicates == 2 and context(study).preregistered.ratio is None


def test_what_a_profile_preregisters_is_confirmatory(root):
    said = SAID | {"margins": {"safs-vanilla": 1.5}}
    (root / PROFILE).write_text(changed(TINY, "preregistered", said))
    shutil.copy(ROOT / PAIR, root / PAIR)
    about = context(load(Path(PROFILE), root))
    assert about.preregistered.margin("safs-vanilla", 0.9) == 1.5
    assert about.kind("safs-vanilla", 0.9) == "confirmatory"
    assert about.kind("safs-vanilla", 0.8) == about.kind("safs-srelu", 0.9) == "exploratory"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("replicates", True, "replicates: got True; expected a valid integer"),
        ("replicates", "3", "replicates: got '3'; expected a valid integer"),
        ("replicates", 2.0, "replicates: got 2.0; expected a valid integer"),
        ("replicates", 10**9, "replicates: got 1000000000; expected less than or equal to 1000"),
        ("seed", -1, "seed: got -1; expected greater than or equal to 0"),
        ("seed", 2**64, "seed: got 18446744073709551616; expected less than or equal to"),
        ("budget/pretrain/epochs", 10**400, "pretrain.epochs: got 1000"),
        ("budget/search/moves", 10**6, "search.moves: got 1000000; expected less than 100000"),
        ("budget/tune/trials", 0, "tune.trials: got 0; expected greater than or equal to 1"),
        ("budget/pretrain", 3, "budget.pretrain: got 3"),
        ("arms", [], "arms: got []; expected at least 1 item"),
        ("arms", ["safs", "safs"], "arms: 'safs' stands twice; expected each once"),
        ("arms", "safs", "arms: got 'safs'; expected a valid array"),
        ("arms", ["sasf"], "arms: unknown arm 'sasf'; did you mean 'safs'?"),
        ("pairs", [], "pairs: got []; expected at least 1 item"),
        ("pairs", ["lenet5_generated"] * 2, "pairs: 'lenet5_generated' stands twice"),
        ("cells", {}, "cells: got {}; expected at least 1 item"),
        ("cells", {"a": CELL, "b": {**CELL}}, "cells.b says the same as cells.a"),
        ("cells", {"../a": CELL}, "cells.../a.[key]: got '../a'; expected match pattern"),
        ("cells/lenet5_generated-0.90/ratio", 0, "ratio: got 0; expected greater than 0"),
        ("cells/lenet5_generated-0.90/ratio", "0.9", "ratio: got '0.9'; expected a valid number"),
        ("cells/lenet5_generated-0.90/ratio", float("nan"), "ratio: got nan; expected a finite"),
        ("acceleration", [], "acceleration: got []; expected an object"),
        ("studies/activations/operators", ["tanh"], "operators and cells go together"),
        ("studies/activations/cells", ["a", "a"], "cells: 'a' stands twice"),
        (
            "preregistered",
            {"ratio": 0.9},
            "contrasts, ratio and replicates go together; missing: contrasts, replicates",
        ),
        (
            "preregistered",
            SAID | {"replicates": 1},
            "replicates 2: no more than the 1 preregistered",
        ),
        (
            "preregistered",
            SAID | {"ratio": 0.5},
            "preregistered.ratio 0.5 has no cell; ratios: 0.9",
        ),
        (
            "preregistered",
            SAID | {"contrasts": ["safs-vanila"]},
            "unknown contrast 'safs-vanila'; did you mean 'safs-vanilla'?",
        ),
        (
            "preregistered",
            SAID | {"contrasts": ["safs-srelu"]},
            "preregistered contrast safs-srelu is not run; srelu is not among arms: vanilla, safs",
        ),
        (
            "preregistered",
            SAID | {"margins": {"safs-vanilla": 0}},
            "got 0; expected greater than 0",
        ),
        ("profile", "../evil", "profile: got '../evil'; expected match pattern"),
        ("profile", "quick", "profile: got 'quick'; expected 'tiny', as the file lies there"),
        ("root", "/", "root: got '/'; expected '../../..'"),
        ("params_file", "/etc/passwd", f"params_file: got '/etc/passwd'; expected '{PROFILE}'"),
        ("title", "a\x1b[31m", r"got 'a\x1b[31m'; expected printable characters only"),
        ("x\x1b" + "y" * 20_000, 1, "expected printable characters only"),
        ("y" * 20_000, 1, "unknown key 'yyy"),
        ("arms", ["z" * 20_000], "unknown arm 'zzz"),
    ],
)
def test_a_wrong_value_of_a_profile_is_named(root, key, value, words):
    assert words in refusal(root, changed(TINY, key, value))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("recipe/lr", 1e30, "recipe.lr: got 1e+30; expected less than or equal to 1000000"),
        ("recipe/lr", float("inf"), "recipe.lr: got inf; expected a finite number"),
        ("recipe/lr", "0.1", "recipe.lr: got '0.1'; expected a valid number"),
        ("recipe/batch_size", 10**9, "recipe.batch_size: got 1000000000; expected less than"),
        ("recipe/weight_decay", 1e9, "recipe.weight_decay: got 1000000000.0; expected less than"),
        ("recipe", None, "recipe: got null; expected an object"),
        ("search/operators", ["elu", "elu"], "search.operators: 'elu' stands twice"),
        ("search/history", 10**12, "search.history: got 1000000000000; expected less than"),
        ("prune/spare", ["fc1", "fc1"], "prune.spare: 'fc1' stands twice"),
        ("fast", {"rungs": [0.1, 0.1]}, "fast.rungs: 0.1 stands twice"),
        ("about/published", [1], "about.published: got [1]; expected a valid string"),
        ("about/published", {"a": 1}, "about.published: got {'a': 1}; expected a valid string"),
        ("about", [1], "about: got [1]; expected an object"),
    ],
)
def test_a_wrong_value_of_a_pair_is_named_though_the_profile_might_override_it(
    root, key, value, words
):
    values = yaml.safe_load((ROOT / PAIR).read_text())
    assert f"{PAIR}: {words}" in refusal(root, pair=changed(values, key, value))


RAW = {
    "nothing": (b"", "an empty file; expected 1 to"),
    "a byte order mark": (b"\xef\xbb\xbf" + TEXT.encode(), "starts with a byte order mark"),
    "UTF-16": (TEXT.encode("utf-16"), "not UTF-8 at byte 0"),
    "Latin-1": (TEXT.replace("Tiny", "T\u00efny").encode("latin-1"), "not UTF-8 at byte"),
    "a zero": (TEXT.encode() + b"\0", "not YAML: unacceptable character #x0000"),
    "a key twice": (TEXT + "seed: 8\n", "key 'seed' stands twice; expected each once"),
    "an inner key twice": ("a: {b: 1, b: 2}", "line 1: key 'b' stands twice"),
    "an alias": ("a: &a [1]\nb: *a\n", "line 2: an alias or a tag; expected the value itself"),
    "itself": ("a: &a [*a]\n", "line 1: an alias or a tag"),
    "an alias bomb": (
        "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(60)),
        "line 2: an alias or a tag",
    ),
    "an object": ("a: !!python/object/apply:os.system [x]", "line 1: an alias or a tag"),
    "a set": ("a: !!set {b}", "line 1: an alias or a tag"),
    "a merge": (f"<<: {{seed: 8}}\n{TEXT}", "unknown key '<<'"),
    "a number as a key": ("1: 2", "line 1: '1' as a key; expected a text"),
    "a list as a key": ("? [a]\n: b", "as a key; expected a text"),
    "depth": ("a: " + "[" * 30_000, "line 1: nested deeper than 10"),
    "many values": ("a: [" + "1," * 16_000 + "]", "more than 5000 keys and values"),
    "quotes": ('a: "' + '\\"' * 16_000, "found unexpected end of stream"),
    "too much": ("a: " + "x" * MAX_BYTES, "bytes; expected 1 to"),
    "a huge number": ("seed: " + "9" * 5000, "not YAML: Exceeds the limit"),
    "an octal number": (TEXT.replace("seed: 7", "seed: 007"), "seed: got '007'; expected a valid"),
    "a clock": (TEXT.replace("seed: 7", "seed: 1:30"), "seed: got '1:30'; expected a valid"),
    "a list": ("- 1", "expected keys and values, found list"),
    "two documents": (f"{TEXT}---\n{TEXT}", "expected a single document in the stream"),
}


@pytest.mark.parametrize(("text", "words"), RAW.values(), ids=RAW)
def test_a_file_that_holds_more_or_less_than_keys_and_values_is_refused(root, text, words):
    line = refusal(root, text)
    assert words in line and "params.yaml: " in line


def test_bare_texts_are_what_dvc_takes_them_for(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("{a: 1e-3, b: no, c: 0.90, d: ~, e: true, f: 5E3, g: -1, h: 2020-01-01}")
    assert read_yaml(file) == {
        "a": 0.001, "b": "no", "c": 0.9, "d": None, "e": True, "f": 5000.0, "g": -1,
        "h": "2020-01-01",
    }  # fmt: skip


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "cannot be read: Is a directory"),
        (Path("/dev/zero"), "not a regular file"),
        (Path("/proc/self/status"), "an empty file"),
        (tmp_path / "none", "no such file"),
    ):
        with pytest.raises(SafsError, match=words):
            read_yaml(path)


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_copied_profile_that_says_to_be_another_runs_neither(root, command, monkeypatch, capsys):
    place = root / "pipelines/profiles/copied"
    shutil.copytree(ROOT / "pipelines/profiles/mnist5k", place, dirs_exist_ok=True)
    text = (place / "params.yaml").read_text().replace("profile: mnist5k", "profile: copied")
    (place / "params.yaml").write_text(text)
    shutil.copy(ROOT / "dvc.yaml", root)
    monkeypatch.chdir(root)
    assert main([command, "copied"]) == 2
    line = capsys.readouterr().err
    assert line == (
        "error: pipelines/profiles/copied/params.yaml: params_file: got "
        "'pipelines/profiles/mnist5k/params.yaml'; expected "
        "'pipelines/profiles/copied/params.yaml', as the file lies there\n"
    )
