"""How long an epoch takes here, and which classes masks leave connected, before a run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from pipelines import compute
from pipelines.config.study import Study
from pipelines.dvc.plan import PlanStep, training_images
from pipelines.engine.work import place_of
from pipelines.tasks import pruning, timing

EpochSeconds = dict[tuple[str, float | None], float]
"""Seconds of one epoch by pair and pruning ratio; ratio None is dense training."""


Connected = dict[tuple[str, float], tuple[int, int]]
"""Connected classes and classes by pair and pruning ratio, before training."""


def measure(study: Study) -> tuple[EpochSeconds, Connected]:
    """One training epoch of each pair, dense and at each ratio, measured here now.

    All workers are busy meanwhile, as they are in a run. Then which classes the masks of untrained
    networks leave connected.

    Raises:
        SafsError: a network does not fit its data set.
    """
    from pipelines.dvc.preflight import fitting  # needs torch; plans that only count have none

    for name, pair in study.pairs.items():
        fitting(name, pair)
    wanted = [
        (name, ratio) for name in study.pairs for ratio in (None, *study.profile.ratios(name))
    ]
    with compute.Pool(lambda identity, epoch: None) as pool, ThreadPoolExecutor() as threads:

        def one(name: str, ratio: float | None) -> float:
            pair = study.pairs[name]
            return pool.run(
                timing.epoch_seconds,
                pair.network,
                pair.dataset.name,
                pair.recipe,
                ratio,
                study.profile.backend,
                study.profile.acceleration,
                training_images(pair.dataset.name, compute.data_directory()),
                place=place_of(pool, pair, study.profile.backend),
            )

        def reached(name: str) -> Connected:
            pair, ratios = study.pairs[name], study.profile.ratios(name)
            key = pair.network, pair.dataset.name, ratios, pair.prune, study.profile.seed
            found = pool.run(pruning.connected, *key) or {}
            return {(name, ratio): reach for ratio, reach in found.items()}

        seconds = dict(zip(wanted, threads.map(one, *zip(*wanted, strict=True)), strict=True))
        every = threads.map(reached, study.pairs)
        return seconds, {cell: reach for found in every for cell, reach in found.items()}


def step_hours(study: Study, step: PlanStep, seconds: EpochSeconds, workers: int) -> float:
    """Hours of a stage: its epochs spread evenly over the pair's ratios."""
    ratios = [None] if step.stage == "pretrain" else study.profile.ratios(step.pair)
    each = [seconds.get((step.pair, ratio), float("nan")) for ratio in ratios]
    return step.epochs * sum(each) / len(each) / 3600 / max(1, workers)
