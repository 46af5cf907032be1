"""The activation study (Figure 4a): one operator in every slot, the dense recipe."""

from __future__ import annotations

from pipelines.config.study import Study
from pipelines.engine.trainings import train_untuned
from pipelines.engine.work import Work


def run(study: Study, pair: str) -> None:
    """Final training of the study's arms, ``<arm>-r<replicate>``, in every cell of a pair."""
    for ratio in study.profile.ratios(pair):
        arms = study.profile.swept(pair, ratio)
        epochs = study.pairs[pair].finetune.epochs * len(arms)
        with Work(study, "activations", pair, ratio, epochs=epochs) as work:
            train_untuned(work, arms)
