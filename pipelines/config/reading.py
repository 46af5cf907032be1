"""Reading YAML, and the lines that say what is wrong in it.

Every file is read as data of bounded size, by YAML 1.2's core schema, as DVC reads it: ``no`` and
``1:30`` are texts, ``1e-3`` is a number.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from safs.checked import typed
from safs.errors import SafsError, did_you_mean, printable, shown
from safs.files import read_text

M = TypeVar("M", bound=BaseModel)
Sections = dict[str, dict[str, Any]]
"""Overrides of a pair's sections."""
MAX_BYTES = 2**15
"""Of a file; those of the repository have less than 4,000."""
MAX_DEPTH = 10
MAX_VALUES = 5000
"""Keys and values of a file together; those of the repository have less than 250."""
_TAG = "tag:yaml.org,2002:{}"
_CORE = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?([0-9]*\.[0-9]+|[0-9]+\.|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?",
     list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
)  # fmt: skip
"""What a bare text is taken for: type, pattern, first characters."""


class _Refused(yaml.MarkedYAMLError):
    """YAML, but nothing that a parameter file may hold."""

    def __init__(self, problem: str, at: Any) -> None:
        super().__init__(problem=problem, problem_mark=at.start_mark)


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key is a text that stands once; no aliases, no tags."""

    depth = values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        self.depth, self.values = self.depth + 1, self.values + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
            raise _Refused("an alias or a tag; expected the value itself", event)
        if self.depth > MAX_DEPTH:
            raise _Refused(f"nested deeper than {MAX_DEPTH}; expected less", event)
        if self.values > MAX_VALUES:
            raise _Refused(f"more than {MAX_VALUES} keys and values; expected fewer", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if not value.replace("\n", "").isprintable():
            raise _Refused(f"got {shown(value)}; expected printable characters only", node)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != _TAG.format("str"):
                raise _Refused(f"{shown(key.value)} as a key; expected a text", key)
            if key.value in seen:
                raise _Refused(f"key {shown(key.value)} stands twice; expected each once", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _type, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(_TAG.format(_type), re.compile(f"(?:{_pattern})$"), _first)


def read_yaml(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file; anything else is an error of one line."""
    if not path.exists():
        raise SafsError(f"{path}: no such file")
    try:
        values = yaml.load(read_text(path, MAX_BYTES), _Loader)
    except OSError as error:
        raise SafsError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else None
        parts = () if isinstance(error, _Refused) else ("not YAML", error.context)
        reason = ": ".join(part for part in (*parts[:1], line, *parts[1:], error.problem) if part)
        raise SafsError(f"{path}: {printable(reason)}") from None
    except SafsError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise SafsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise SafsError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


def checked(model: type[M], values: object, source: object) -> M:
    """What was read, as a model: ``'3'`` is no number, ``true`` no 1. Raises SafsError."""
    return typed(model, json.dumps(values), source)


def written_down(keys: Iterable[str], values: Mapping[str, Any], source: object) -> None:
    """Refuse a file without a key that stages depend on: DVC does, once the stages before ran."""
    for key in keys:
        section, _, name = key.rpartition(".")
        if name not in (values.get(section) or {} if section else values):
            there = [str(other) for other in (values.get(section) or {} if section else values)]
            near = difflib.get_close_matches(name, there, 1)
            odd = f" ({near[0]!r} is another)" if near else ""
            raise SafsError(
                f"{source}: missing key {key!r}{odd}; stages follow it, so write it down"
            )


def known(kind: str, name: str, names: Collection[str]) -> None:
    """Raise ValueError, with the nearest valid name, unless ``name`` is one of ``names``."""
    if name not in names:
        raise ValueError(f"unknown {kind} {shown(name)}{did_you_mean(name, names)}")
