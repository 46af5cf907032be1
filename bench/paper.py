"""What the paper prints, read from ``paper.yaml``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True)
class Published:
    """One printed number.

    ``what`` is an arm (its accuracy, percent) or a contrast such as ``safs-vanilla`` (a gain in
    percentage points); ``metric`` is top1 or top5; ``ref`` is the table or section.
    """

    what: str
    metric: str
    ratio: float
    value: float
    ref: str
    gain: bool


@cache
def facts() -> dict[str, Any]:
    """The whole of ``paper.yaml``."""
    text = files("bench").joinpath("paper.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def pairs() -> dict[str, dict[str, str]]:
    """The paper's (network, data set) pairs by key."""
    return facts()["pairs"]


def runs_per_number() -> int:
    """Over how many runs a printed accuracy is averaged (Section 5.4)."""
    return int(facts()["paper"]["runs"])


def published(pair: str | None, table: str, arm: str) -> dict[str, float] | None:
    """Top-1 (and top-5) that ``table`` (``table1``, ``table2``) prints; None if it does not."""
    values = facts()["accuracy"][table]["values"].get(pair, {}).get(arm)
    return None if values is None else dict(zip(("top1", "top5"), values, strict=False))


def gain(pair: str | None, contrast: str, ratio: float) -> float | None:
    """The printed gain in percentage points; None if the paper prints none."""
    for entry in facts()["gains"]:
        if entry["contrast"] == contrast and entry["ratio"] == ratio and pair in entry["values"]:
            return float(entry["values"][pair])
    return None


def hours(pair: str | None) -> dict[str, float]:
    """GPU hours of SAFS and vanilla (Table 3); empty if the paper prints none."""
    return facts()["cost"]["values"].get(pair, {})


def numbers(pair: str) -> list[Published]:
    """Every printed accuracy and gain of ``pair``; what two tables repeat comes once."""
    seen: dict[tuple[object, ...], Published] = {}
    for number in (*_accuracies(pair), *_gains(pair)):
        seen.setdefault((number.what, number.metric, number.ratio, number.value), number)
    return list(seen.values())


def _accuracies(pair: str) -> Iterator[Published]:
    for table in facts()["accuracy"].values():
        for arm, values in table["values"].get(pair, {}).items():
            ratio = 0.0 if arm == "dense" else facts()["paper"]["ratio"]
            for metric, value in zip(("top1", "top5"), values, strict=False):
                yield Published(arm, metric, ratio, value, table["ref"], gain=False)


def _gains(pair: str) -> Iterator[Published]:
    for entry in facts()["gains"]:
        if pair in entry["values"]:
            value = entry["values"][pair]
            name, ratio, ref = entry["contrast"], entry["ratio"], entry["ref"]
            yield Published(name, "top1", ratio, value, ref, gain=True)
