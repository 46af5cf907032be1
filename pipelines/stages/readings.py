"""The readings of the paper: a pair once more for each, with the arms that it affects.

What a reading shares with the profile or with another reading (dense networks, masks, searches) has
the same identity and is taken from scratch instead of trained again.
"""

from __future__ import annotations

from pipelines.config.study import Study
from pipelines.stages import baselines, evaluate, fast, pretrain, prune, search, tune
from pipelines.storage import layout, scratch


def run(study: Study, pair: str) -> None:
    """Train, search, tune and evaluate a pair's readings; nothing where it has none."""
    own = {name: s for name, s in study.readings.items() if s.profile.pairs == (pair,)}
    folder = layout.folder(study.profile.profile, "readings", pair)
    folder.mkdir(parents=True, exist_ok=True)
    for place in folder.iterdir():
        if place.name not in own:
            scratch.remove(place)
    for reading in own.values():
        _run(reading, pair)


def _run(reading: Study, pair: str) -> None:
    pretrain.run(reading, pair)
    for ratio in reading.profile.ratios(pair):
        for stage in (prune, baselines, search, tune):
            stage.run(reading, pair, ratio)
    fast.run(reading, pair)
    evaluate.run(reading, pair)
