"""Mutated lab files, 100 or slowly 2,000: each is refused in clear words, or is still valid.

Half are mutated as text, the digest left as it was: such a file may be accepted only if it says the
same. Half are mutated as data and sealed again, as somebody would who wants to pass: such a file
may be accepted only if the one changed value is free, that is, nothing else in the file determines
it, and fits its own rule. Both rules are written here again, apart from the code under test.
"""

from __future__ import annotations

import copy
import json
import random
import re
import time
from typing import Any

import pytest
from synthetic_labs import content, digest_of

from bench.labs.file import LabFile
from bench.labs.pooling import compare
from bench.labs.reading import parse, validate
from bench.labs.schema import render
from bench.records.record import Record
from safs.checked import parsed
from safs.errors import SafsError

SEED = 20230907
each = pytest.mark.parametrize("each", [50, pytest.param(1000, marks=pytest.mark.slow)])
SECONDS = 2.0
"""No file may take longer."""

BASE = content(replicates=2, ratios=[0.9])
TEXT = render(BASE)


@pytest.fixture
def read(tmp_path):
    """The file if it is accepted; anything but a clear refusal by every reader is a failure."""
    path = tmp_path / "lab.json"

    def readers(text: str) -> LabFile | None:
        path.write_text(text, "utf-8", newline="")
        started = time.process_time()
        told = validate(path)
        assert time.process_time() - started < SECONDS
        try:
            file = parse(text, str(path))
        except SafsError as error:
            assert told == str(error).splitlines() or not is_lab_file(text)
            assert told and all(re.match(rf"{path}(:\d+)?: ", line) for line in told), told
            assert all(line.isprintable() and len(line) < 2000 for line in told)
            return None
        assert told == [] and not [r for r in file.records if again(r) != r]
        return file

    return readers


def is_lab_file(text: str) -> bool:
    try:
        return "lab_file" in json.loads(text)
    except ValueError:
        return True


def again(record: Record) -> Record:
    """The record as the reader of records alone takes it."""
    return parsed(Record, record.model_dump_json(by_alias=True), "record.json")


# Text


def cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text))]


def flip(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    return text[:at] + chr(ord(text[at]) ^ (1 << rng.randrange(8))) + text[at + 1 :]


def drop(rng: random.Random, text: str) -> str:
    at, size = rng.randrange(len(text)), rng.randrange(1, 40)
    return text[:at] + text[at + size :]


def repeat(rng: random.Random, text: str) -> str:
    at, size = rng.randrange(len(text)), rng.randrange(1, 400)
    return text[:at] + text[at : at + size] + text[at:]


def insert(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    bits = ["{", "[" * 50, '"', "9" * 400, "-", "e9", "null", "\x00", "\ud7ff", "NaN", "\\u001b"]
    return text[:at] + rng.choice([*bits, " ", "\n", "\t"]) + text[at:]


def swap(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return "\n".join(lines)


def digit(rng: random.Random, text: str) -> str:
    found = rng.choice(list(re.finditer(r"\d", text)))
    return text[: found.start()] + str(rng.randrange(10)) + text[found.end() :]


TEXT_MUTATIONS = (cut, flip, drop, repeat, insert, swap, digit)


@each
def test_a_file_mutated_as_text_is_accepted_only_if_it_says_the_same(each, read):
    rng = random.Random(SEED)
    accepted = 0
    for _ in range(each):
        text = rng.choice(TEXT_MUTATIONS)(rng, TEXT)
        if read(text) is not None:
            accepted += 1
            said = json.loads(text)
            assert digest_of(said) == digest_of(BASE)
            assert said["digest"] == json.loads(TEXT)["digest"]
    assert 0 < accepted < each / 4  # white space, a digit for itself, a line for itself


# Data

EVIL: list[Any] = [
    None, True, "", "x", "<script>", "../../etc/passwd", "\x1b[31m", "\u202e", "a" * 50_000, -1, 0,
    1, 2, 2**53, 2**63, 10**400, -0.0, 0.5, 1.5, 1e308, 5e-324, [], {}, [[]] * 3, {"": {}}, ["x"],
]  # fmt: skip


def _share(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1


def _number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= 3.5e38


def _none_or_between(low: float, high: float):
    return lambda x: _number(x) and (x == 0 or low <= x <= high)


def _named(rule):
    return lambda x: isinstance(x, dict) and all(map(rule, x.values()))


def _count(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and 0 <= x <= 2**53


def _text(x: Any) -> bool:
    return isinstance(x, str) and x.isprintable() and len(x) <= 32_768


def _outcome(x: Any) -> bool:
    return re.fullmatch("[0-9a-f]{32}", str(x)) is not None


def _null_or(rule):
    return lambda x: x is None or rule(x)


RUN = r"runs\.\d+\.record\."
FREE = {
    r"lab\.description": lambda x: _text(x) and len(x) <= 300,
    r"lab\.name": lambda x: re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", str(x)) is not None,
    r"dvc_lock|pairs\.lenet5_mnist5k\.parameters": lambda x: re.fullmatch("[0-9a-f]{64}", str(x)),
    r"seed": _count,
    r"pairs\.lenet5_mnist5k\.layerwise": lambda x: x is True,
    r"runs\.\d+\.failed\.(search|tune)": lambda x: _count(x) and x <= 21,
    RUN + r"(memory|macs)": lambda x: x is None,
    RUN + r"finals\.0\.(validation|train|flow)": lambda x: x is None,
    RUN + r"finals\.0\.flow\.\w+": _null_or(_number),
    RUN + r"finals\.0\.validation\.top1": _null_or(_share),
    RUN + r"finals\.0\.train\.accuracy": _null_or(_share),
    RUN + r"finals\.0\.(validation|train|test)\.loss": _null_or(lambda x: _number(x) and x >= 0),
    RUN + r"seconds\.final": lambda x: _number(x) and 0 <= x <= 1e9,
    RUN + r"device\.name": _text,
    RUN + r"backend": _text,
    RUN + r"acceleration": _named(lambda x: isinstance(x, bool) or _text(x)),
    RUN + r"threads": lambda x: _count(x) and x >= 1,
    RUN + r"slots\.\d+\.(alpha|beta)": lambda x: x is None or x == 1,
    RUN + r"slots\.\d+\.own": lambda x: x == {},
    RUN + r"recipe\.restart_epochs": lambda x: x is None,
    RUN + r"digests\.identity": _text,
    RUN + r"finals\.0\.weights": _text,
    RUN + r"bits": _named(_text),
    RUN + r"chain": lambda x: x is None,
    RUN + r"chain\.((candidates|trials|finals)\.\d+)": lambda x: re.fullmatch(
        "[0-9a-f]{32}", str(x)
    ),
    RUN + r"seconds\.of": lambda value: value in ("processor", "wall"),
}
FREE_IF_TUNED = {
    RUN + r"seconds\.(search|tune)": lambda x: _number(x) and 0 <= x <= 1e9,
    RUN + r"slots\.\d+\.(alpha|beta)": _null_or(_number),
    RUN + r"slots\.\d+\.operator": _text,
    RUN + r"recipe\.lr": lambda x: _number(x) and 1e-4 <= x <= 0.1,
    RUN + r"recipe\.momentum": _none_or_between(0.1, 0.999),
    RUN + r"recipe\.weight_decay": _none_or_between(1e-5, 0.1),
}
DISPENSABLE = RUN + r"(schema|connectivity|memory|macs|history|digest|bits|seconds\.of)"
DISPENSABLE += r"|" + RUN + r"finals\.0\.(reason|validation|train|flow)"
DISPENSABLE += r"|" + RUN + r"(acceleration|slots\.\d+\.own)"
DISPENSABLE += r"|" + RUN + r"chain(\.(dense|mask|candidates|trials))?"
DISPENSABLE += (
    r"|" + RUN + r"recipe\.(optimizer|momentum|weight_decay|schedule|restart_epochs|batch_size)"
)
"""What may be left out, as it has a default, which is also what the file has."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value below ``value``."""
    if not isinstance(value, dict | list):
        return []
    found = []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        found += [(*path, key), *places(inner, (*path, key))]
    return found


def parent(values: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        values = values[key]
    return values


@each
def test_a_file_mutated_as_data_and_sealed_again_is_accepted_only_if_still_valid(each, read):
    rng = random.Random(SEED)
    everywhere = places(BASE)
    head = [path for path in everywhere if path[0] != "runs"]
    whole, accepted = parse(TEXT, "whole.json"), 0
    for _ in range(each):
        values = copy.deepcopy(BASE)
        path = rng.choice(rng.choice([everywhere, head]))
        inside, key = parent(values, path), path[-1]
        before = inside[key]
        how = rng.choice(["replace", "replace", "replace", "nudge", "delete", "repeat", "add"])
        name = ".".join(map(str, path))
        if how == "replace":
            inside[key] = copy.deepcopy(rng.choice(EVIL))
        elif how == "nudge" and isinstance(before, int | float) and not isinstance(before, bool):
            inside[key] = before + rng.choice([-1, 1])
        elif how == "nudge" and isinstance(before, str) and before:
            inside[key] = before[:-1] + ("0" if before[-1] != "0" else "1")
        elif how == "delete":
            del inside[key]
        elif how == "repeat" and isinstance(inside, list):
            inside.insert(key, copy.deepcopy(before))
        elif isinstance(before, dict):
            before["x" * rng.randrange(1, 9)] = rng.choice(EVIL)
        file = read(sealed(values))
        if file is None:
            continue
        accepted += 1
        compare({"a": whole, "b": file})
        if digest_of(values) == digest_of(BASE):
            continue
        assert allowed(name, how, inside, key, before, arm(values, path)), (name, how)
    assert 0 < accepted < each / 2


def arm(values: Any, path: tuple[Any, ...]) -> str:
    """The arm of the run that the path leads into, if it does."""
    inside = path[0] == "runs" and len(path) > 2
    return values["runs"][path[1]]["record"]["arm"] if inside else ""


def sealed(values: Any) -> str:
    """The text with a digest that fits, whatever the values are."""
    head = {"lab_file": values.get("lab_file"), "digest": digest_of(values)}
    return json.dumps(head | values, indent=1)


def allowed(name: str, how: str, inside: Any, key: Any, before: Any, arm: str) -> bool:
    """Whether the file with this one change is still valid."""
    if how == "delete":
        needed = name.endswith("connectivity") and before is not None
        return re.fullmatch(DISPENSABLE, name) is not None and not needed
    now = inside[key]
    if now == before and isinstance(before, float):
        return True  # 0 for 0.0
    if re.fullmatch(RUN + r"finals\.0\.test\.top5", name):
        return _share(now) and now >= inside["top1"]
    if re.fullmatch(RUN + r"parameters\.nonzero", name):
        return _count(now) and inside["layers"]["fc1"]["kept"] <= now <= before
    free = FREE | (FREE_IF_TUNED if arm == "safs" else {})
    return any(re.fullmatch(where, name) and rule(now) for where, rule in free.items())


@pytest.mark.parametrize("place", [("digest",), ("lab",), ("runs",), ("cells",), ("dvc_lock",)])
def test_the_rules_of_this_test_do_not_allow_everything(place):
    assert not allowed(".".join(place), "replace", {place[-1]: 5}, place[-1], "x", "safs")
