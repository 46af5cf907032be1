"""1,000 mutated lab files: each is refused in clear words, or is still valid.

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
from synthetic_labs import content

from bench.labs.pooling import compare
from bench.labs.reading import parse
from bench.labs.schema import LabFile, render, seal
from safs.errors import SafsError

SEED = 20230907
EACH = 500
SECONDS = 2.0
"""No file may take longer."""

BASE = content(replicates=2, ratios=[0.9])
TEXT = render(BASE)


def read(text: str) -> LabFile | None:
    """The file if it is accepted; anything but a clear refusal is a failure."""
    started = time.process_time()
    try:
        return parse(text, "lab.json")
    except SafsError as error:
        lines = str(error).splitlines()
        assert lines and all(re.match(r"lab\.json(:\d+)?: ", line) for line in lines), lines
        assert all(line.isprintable() and len(line) < 2000 for line in lines)
        return None
    finally:
        assert time.process_time() - started < SECONDS


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


def test_a_file_mutated_as_text_is_accepted_only_if_it_says_the_same():
    rng = random.Random(SEED)
    accepted = 0
    for _ in range(EACH):
        text = rng.choice(TEXT_MUTATIONS)(rng, TEXT)
        if read(text) is not None:
            accepted += 1
            said = json.loads(text)
            assert seal(said) == seal(BASE) and said["digest"] == json.loads(TEXT)["digest"]
    assert 0 < accepted < EACH / 4  # white space, a digit for itself, a line for itself


# Data

EVIL: list[Any] = [
    None, True, "", "x", "<script>", "../../etc/passwd", "\x1b[31m", "\u202e", "a" * 50_000, -1, 0,
    1, 2, 2**53, 2**63, 10**400, -0.0, 0.5, 1.5, 1e308, 5e-324, [], {}, [[]] * 3, {"": {}}, ["x"],
]  # fmt: skip


def _share(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1


def _number(x: Any) -> bool:
    return (
        isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= 2**53
    ) or x == 1e308


def _count(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and 0 <= x <= 2**53


def _text(x: Any) -> bool:
    return isinstance(x, str) and x.isprintable() and len(x) <= 32_768


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
    RUN + r"fold": _count,
    RUN + r"network": _text,
    RUN + r"(memory|macs|validation|train)": lambda x: x is None,
    RUN + r"validation\.top1": _null_or(_share),
    RUN + r"train\.accuracy": _null_or(_share),
    RUN + r"(validation|train|test)\.loss": _null_or(_number),
    RUN + r"seconds\.(final|search|tune)": lambda x: _number(x) and x >= 0,
    RUN + r"device\.(type|name)": _text,
    RUN + r"backend": _text,
    RUN + r"threads": lambda x: _count(x) and x >= 1,
    RUN + r"parameters\.activation": _count,
    RUN + r"parameters\.total": lambda x: _count(x) and x >= 44190,
    RUN + r"parameters\.nonzero": lambda x: _count(x) and x <= 44426,
    RUN + r"connectivity\.classes": lambda x: _count(x) and x >= 4,
    RUN + r"connectivity\.cap": _share,
    RUN + r"slots": lambda x: x == [],
    RUN + r"slots\.\d+\.(name|operator)": _text,
    RUN + r"slots\.\d+\.(alpha|beta)": _null_or(_number),
    RUN + r"slots\.\d+\.own": lambda x: x == {},
    RUN + r"recipe\.(optimizer|schedule)": _text,
    RUN + r"recipe\.lr": lambda x: _number(x) and x > 0,
    RUN + r"recipe\.momentum": lambda x: _share(x) and x < 1,
    RUN + r"recipe\.weight_decay": lambda x: _number(x) and x >= 0,
    RUN + r"recipe\.restart_epochs": _null_or(lambda x: _count(x) and x >= 1),
    RUN + r"recipe\.batch_size": lambda x: _count(x) and x >= 1,
    RUN + r"digests\.identity": _text,
    RUN + r"digests\.weights": _text,
    RUN + r"bits": lambda x: x == {},
    RUN + r"seconds\.of": lambda value: value in ("processor", "wall"),
}
DISPENSABLE = RUN + r"(schema|reason|connectivity|memory|macs|validation|train|bits|seconds\.of)"
DISPENSABLE += r"|" + RUN + r"slots(\.\d+(\.own)?)?"
DISPENSABLE += r"|" + RUN + r"recipe\.restart_epochs"
"""What may be left out, as it has a default (or is one slot of several)."""


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


def test_a_file_mutated_as_data_and_sealed_again_is_accepted_only_if_still_valid():
    rng = random.Random(SEED)
    everywhere = places(BASE)
    head = [path for path in everywhere if path[0] != "runs"]
    whole, accepted = parse(TEXT, "whole.json"), 0
    for _ in range(EACH):
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
        if seal(values) == seal(BASE):
            continue
        assert allowed(name, how, inside, key, before), (name, how)
    assert 0 < accepted < EACH / 2


def sealed(values: Any) -> str:
    """The text with a digest that fits, whatever the values are."""
    head = {"lab_file": values.get("lab_file"), "digest": seal(values)}
    return json.dumps(head | values, indent=1)


def allowed(name: str, how: str, inside: Any, key: Any, before: Any) -> bool:
    """Whether the file with this one change is still valid."""
    if how == "delete":
        needed = name.endswith("connectivity") and before is not None
        return re.fullmatch(DISPENSABLE, name) is not None and not needed
    if how == "repeat" and re.fullmatch(RUN + r"slots\.\d+", name):
        return True
    now = inside[key]
    if now == before and isinstance(before, float):
        return True  # 0 for 0.0
    if re.fullmatch(RUN + r"test\.top5", name):
        return _share(now) and now >= inside["top1"]
    return any(re.fullmatch(where, name) and rule(now) for where, rule in FREE.items())


@pytest.mark.parametrize("place", [("digest",), ("lab",), ("runs",), ("cells",), ("dvc_lock",)])
def test_the_rules_of_this_test_do_not_allow_everything(place):
    assert not allowed(".".join(place), "replace", {place[-1]: 5}, place[-1], "x")
