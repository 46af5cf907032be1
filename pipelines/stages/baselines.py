"""Baselines: the pruned network retrained with the dense recipe (vanilla pruning, SReLU)."""

from __future__ import annotations

from pipelines.config.study import Study
from pipelines.engine import spending
from pipelines.engine.trainings import train_untuned
from pipelines.engine.work import Work
from pipelines.storage.layout import trained_in


def run(study: Study, pair: str, ratio: float) -> None:
    """Final training of the baseline arms of the profile: ``<arm>-r<replicate>``."""
    arms = [arm for arm in study.profile.arms if trained_in(arm) == "baselines"]
    epochs = spending.stage_epochs(study, study.pairs[pair], "baselines")
    with Work(study, "baselines", pair, ratio, epochs=epochs) as work:
        train_untuned(work, arms)
