"""Reading YAML, and the lines that say what is wrong in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from safs.errors import SafsError, did_you_mean

Sections = dict[str, dict[str, Any]]
"""Overrides of a pair's sections."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file; anything else is an error of one line."""
    if not path.is_file():
        raise SafsError(f"{path}: no such file")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise SafsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise SafsError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


def written_down(keys: Iterable[str], values: Mapping[str, Any], source: object) -> None:
    """Refuse a file without a key that stages depend on: DVC does, once the stages before ran."""
    for key in keys:
        section, _, name = key.rpartition(".")
        if name not in (values.get(section) or {} if section else values):
            raise SafsError(f"{source}: missing key {key!r}; stages follow it, so write it down")


def known(kind: str, name: str, names: Collection[str]) -> None:
    """Raise ValueError, with the nearest valid name, unless ``name`` is one of ``names``."""
    if name not in names:
        raise ValueError(f"unknown {kind} {name!r}{did_you_mean(name, names)}")
