"""What a profile will cost, before anything starts: trainings, epochs, hours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.config.pair import Pair
from pipelines.config.study import Study
from pipelines.engine import layout
from safs.arms import ARMS, finals
from safs.datasets import DATASETS, load_part
from safs.search.halving import planned

STAGES = ("baselines", "search", "tune", "fast")
"""The stages that train the arms of a cell."""

OFFICIAL_SIZES = {"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000,
                  "imagenet16": 1_281_167}  # fmt: skip
"""Training images of the data sets that have to be downloaded: a plan does without the files."""


def training_images(dataset: str, data: Path | None = None) -> int:
    """Images that a replicate trains on: the training part without its validation fold.

    ``data`` is the folder of data sets that have files of their own.
    """
    size = OFFICIAL_SIZES.get(dataset) or len(load_part(dataset, "train", data).labels)
    return size - size // DATASETS[dataset].folds


Spending = dict[str, list[tuple[int, int]]]
"""(trainings, epochs of each) by purpose: ``search``, ``tune`` and ``final``."""


def spending(pair: Pair, arm: str, count: int = 1) -> Spending:
    """What one replicate of an arm at one ratio trains; searches count though arms share them.

    ``count`` is its number of final trainings, of which Table 3 counts one.
    """
    entry = ARMS[arm]
    searches = {
        "found": [(pair.search.evaluations, pair.search.epochs)],
        "best_single": [(len(pair.search.operators), pair.search.epochs)],
        "found_fast": halvings(pair, "search"),
    }
    tunings = [(trials(pair, arm), pair.tune.epochs)]
    if entry.operators == "found_fast":
        tunings = halvings(pair, "tune")
    length = pair.pretrain.epochs if arm == "dense" else pair.finetune.epochs
    return {
        "search": searches.get(entry.operators, []),
        "tune": tunings if entry.tuned else [],
        "final": [(count, length)],
    }


def epochs(trainings: Iterable[tuple[int, int]]) -> int:
    """Epochs that some trainings have together."""
    return sum(count * each for count, each in trainings)


def run_epochs(pair: Pair, arm: str) -> int:
    """Epochs of one replicate of an arm at one ratio, searches and one final included (Table 3)."""
    return sum(epochs(trainings) for trainings in spending(pair, arm).values())


def stage_epochs(study: Study, pair: Pair, stage: str) -> int:
    """Epochs of a stage in one cell, over all replicates."""
    return study.profile.replicates * epochs(_trained(study, pair, stage))


def _trained(study: Study, pair: Pair, stage: str) -> list[tuple[int, int]]:
    """What one replicate of a stage trains in a cell: a search that arms share counts once."""
    protocol = study.profile.protocol
    found = {arm: spending(pair, arm, finals(arm, protocol)) for arm in study.profile.arms}
    here = [arm for arm in found if layout.trained_in(arm) == stage]
    every = [run for arm in here for run in (*found[arm]["tune"], *found[arm]["final"])]
    if stage == "fast":
        return every + [run for arm in here for run in found[arm]["search"]]
    if stage == "search":
        shared = {layout.trace_names(arm).get("search"): arm for arm in found}
        own = [arm for place, arm in shared.items() if place and place[0] == stage]
        every += [run for arm in own for run in found[arm]["search"]]
    return every


@dataclass(frozen=True)
class PlanStep:
    """One stage of a pair, over all its ratios and replicates.

    Attributes:
        trainings: networks trained.
        epochs: epochs that these have together.
    """

    pair: str
    stage: str
    trainings: int
    epochs: int


def steps(study: Study) -> list[PlanStep]:
    """The training stages of every pair, in the order in which they run."""
    found = []
    for name, pair in study.pairs.items():
        cells = len(study.profile.ratios(name)) * study.profile.replicates
        dense = study.profile.replicates
        found.append(PlanStep(name, "pretrain", dense, dense * pair.pretrain.epochs))
        for stage in STAGES:
            runs = _trained(study, pair, stage)
            count = sum(trainings for trainings, _ in runs)
            found.append(PlanStep(name, stage, cells * count, cells * epochs(runs)))
        found += _studies(study, name, pair)
    return found


def _studies(study: Study, name: str, pair: Pair) -> list[PlanStep]:
    """The studies of a pair that the profile asks for."""
    profile = study.profile
    swept = sum(len(profile.swept(name, ratio)) for ratio in profile.ratios(name))
    others = sum(
        algorithm != pair.search.algorithm
        for ratio in profile.ratios(name)
        for algorithm in profile.algorithms(name, ratio)
    )
    finals = profile.replicates * swept
    candidates = profile.replicates * others * pair.search.evaluations
    found = [
        PlanStep(name, "activations", finals, finals * pair.finetune.epochs),
        PlanStep(name, "algorithms", candidates, candidates * pair.search.epochs),
        _readings(study, name),
    ]
    return [step for step in found if step.trainings]


def _readings(study: Study, name: str) -> PlanStep:
    """The readings of a pair, at most: what they share with the profile is not trained again."""
    every = [s for r in study.readings.values() if name in r.pairs for s in steps(r)]
    return PlanStep(name, "readings", sum(s.trainings for s in every), sum(s.epochs for s in every))


def trials(pair: Pair, arm: str) -> int:
    """Trials of a tuned arm; a control with the whole budget has those of both stages of SAFS."""
    return pair.tune.trials + (pair.search.evaluations if ARMS[arm].whole_budget else 0)


def halvings(pair: Pair, stage: Literal["search", "tune"]) -> list[tuple[int, int]]:
    """(trainings, epochs each) of a stage of the cheap search; a continued one counts again."""
    candidates = pair.search.evaluations if stage == "search" else pair.tune.trials
    epochs = pair.search.epochs if stage == "search" else pair.tune.epochs
    return planned(candidates, pair.fast.epochs(epochs), pair.fast.eta)
