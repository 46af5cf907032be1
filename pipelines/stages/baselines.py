"""Baselines: the pruned network retrained with the dense recipe (vanilla pruning, SReLU)."""

from __future__ import annotations

from pipelines.config import Study
from pipelines.engine.work import Work, replicates
from safs.arms import ARMS, chromosome

HERE = tuple(name for name, arm in ARMS.items() if not arm.tuned and arm.operators != "found")


def run(study: Study, pair: str, ratio: float) -> None:
    """Final training of the baseline arms of the profile: ``<arm>-r<replicate>``."""
    spec = study.pairs[pair]
    arms = [arm for arm in HERE if arm in study.profile.arms]
    total = spec.finetune.epochs * study.profile.replicates * len(arms)
    with Work(study, "baselines", pair, ratio, epochs=total) as work:

        def one(arm: str, replicate: int) -> None:
            start = work.start(replicate)
            work.final(arm, replicate, start, chromosome(arm, start.default), spec.recipe)

        work.each(one, [(arm, r) for r in replicates(study) for arm in arms])
