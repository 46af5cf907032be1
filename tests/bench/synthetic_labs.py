"""Synthetic lab files: made from seeds, never from a training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import synthetic
from synthetic import IMAGES, PAIR

from bench.labs.file import LabFile
from bench.labs.reading import parse
from bench.labs.schema import Run, render
from bench.labs.summary import pack_runs
from bench.records.record import Record
from bench.records.schema import Final, pack
from safs import sealed

SHOWN_ARMS = ["dense", "vanilla", "srelu", "safs"]
RATIOS = [0.9, 0.99]


def digest_of(content: dict[str, Any]) -> str:
    """The digest that seals a file's content."""
    return sealed.seal(content)[sealed.DIGEST]


def sha(*key: object) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()


def content(
    name: str = "lab-a",
    seed: int = 1,
    gain: float = 0.06,
    replicates: int = 3,
    ratios: Sequence[float] = RATIOS,
    failing: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """A lab file as plain data, without its digest.

    ``gain`` is SAFS over vanilla as a fraction; ``failing`` makes one SAFS run fail; ``changes``
    replace top-level fields.
    """
    searched = {"trainings": 21, "epochs": 4}
    tuned = {"trainings": 20, "epochs": 4}
    none = {"trainings": 0, "epochs": 0}
    budgets = {arm: {"final": 20, "search": none, "tune": none} for arm in SHOWN_ARMS}
    budgets["safs"] = {"final": 20, "search": searched, "tune": tuned}
    pair = {"parameters": sha("parameters"), "layerwise": True, "ratios": list(ratios)}
    head = {
        "lab_file": 2,
        "lab": {"name": name, "description": f"Synthetic, seed {seed}"},
        "profile": "quick",
        "protocol": {"version": 3, "preset": "paper"},
        "seed": seed,
        "replicates": replicates,
        "arms": SHOWN_ARMS,
        "dvc_lock": sha("lock", seed),
        "pairs": {PAIR: pair | {"budgets": budgets}},
    }
    runs = [
        Run(failed={"search": 0, "tune": 0}, record=record(arm, ratio, r, seed, gain))
        for arm in SHOWN_ARMS
        for ratio in ([0.0] if arm == "dense" else ratios)
        for r in range(replicates)
    ]
    if failing:
        runs[-1] = Run(
            failed={"search": 1, "tune": 2},
            record=runs[-1].record.model_copy(
                update={"finals": [Final(reason="loss is not finite")]}
            ),
        )
    return head | pack_runs(runs) | changes


def record(arm: str, ratio: float, replicate: int, seed: int, gain: float) -> Record:
    """A record of replicate ``replicate`` under root seed ``seed``."""
    values = synthetic.content(arm, ratio, replicate)
    rng = np.random.default_rng([seed, replicate, round(100 * ratio), SHOWN_ARMS.index(arm)])
    level = {"dense": 0.95, "safs": 0.5 + gain}.get(arm, 0.5)
    order = np.random.default_rng([seed, replicate]).permutation(IMAGES)
    correct = order < round(IMAGES * (level + 0.01 * rng.standard_normal()))
    test = {"images": IMAGES, "top1": int(correct.sum()) / IMAGES, "top5": 0.97, "loss": 1.3}
    digests = {
        "parameters": sha("p", seed),
        "data": {"train": sha("train"), "test": sha("test")},
        "identity": sha("i", seed, arm, ratio, replicate),
    }
    slots = [slot | {"own": {}} for slot in values["slots"]]
    test |= {"correct": pack(correct)}
    weights = sha("w", seed, arm, ratio, replicate)
    finals = [values["finals"][0] | {"test": test, "weights": weights}]
    changed = {"finals": finals, "history": {}, "digests": digests, "slots": slots, "macs": None}
    return Record.model_validate(values | changed)


def lab(name: str = "lab-a", seed: int = 1, **options: Any) -> LabFile:
    """A valid lab file."""
    return parse(render(content(name, seed, **options)), f"{name}.json")
