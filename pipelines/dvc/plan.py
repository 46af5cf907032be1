"""What a profile will cost, before anything starts: trainings, epochs, hours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.config.pair import Pair
from pipelines.config.study import Study
from pipelines.engine.spending import epochs, trained
from pipelines.results import landscapes
from pipelines.tasks.shared import slot_names
from safs.datasets import DATASETS, load_part

STAGES = ("baselines", "search", "tune", "fast")
"""The stages that train the arms of a cell."""

OFFICIAL_SIZES = {"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000,
                  "imagenet16": 1_281_167,
                  "fashion_mnist_rgb16": 6_000, "fashion_mnist_rgb32": 6_000}  # fmt: skip
"""Training images of the data sets that have to be downloaded: a plan does without the files."""


def training_images(dataset: str, data: Path | None = None) -> int:
    """Images that a replicate trains on: the training part without its validation fold.

    ``data`` is the folder of data sets that have files of their own.
    """
    size = OFFICIAL_SIZES.get(dataset) or len(load_part(dataset, "train", data).labels)
    return size - size // DATASETS[dataset].folds


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
            runs = trained(study, pair, stage)
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
        _landscape(study, name, pair),
        _readings(study, name),
    ]
    return [step for step in found if step.trainings]


def _landscape(study: Study, name: str, pair: Pair) -> PlanStep:
    """The landscapes of a pair; how many chromosomes there are, its network's slots say."""
    ratios = [x for x in study.profile.ratios(name) if study.profile.landscape(name, x)]
    if not ratios:
        return PlanStep(name, "landscape", 0, 0)
    space = landscapes.space(study, name, slot_names(pair.network, pair.dataset.name))
    count = sum(landscapes.trainings(study, space, name, ratio) for ratio in ratios)
    return PlanStep(name, "landscape", count, count * pair.search.epochs)


def _readings(study: Study, name: str) -> PlanStep:
    """The readings of a pair, at most: what they share with the profile is not trained again."""
    every = [s for r in study.readings.values() if name in r.pairs for s in steps(r)]
    return PlanStep(name, "readings", sum(s.trainings for s in every), sum(s.epochs for s in every))
