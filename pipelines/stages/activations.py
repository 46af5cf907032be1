"""The activation study (Figure 4a): one operator in every slot, the dense recipe."""

from __future__ import annotations

from pipelines.config.study import Study
from pipelines.engine.trainings import train_untuned
from pipelines.engine.work import Work
from pipelines.storage import layout


def run(study: Study, pair: str) -> None:
    """The study in every cell of a pair that it names; nothing where it names none."""
    layout.folder(study.profile.profile, "activations", pair).mkdir(parents=True, exist_ok=True)
    for ratio in study.profile.ratios(pair):
        cell(study, pair, ratio)


def cell(study: Study, pair: str, ratio: float) -> None:
    """Final training of the study's arms: ``<arm>-r<replicate>``."""
    arms = study.profile.swept(pair, ratio)
    epochs = study.pairs[pair].finetune.epochs * len(arms)
    with Work(study, "activations", pair, ratio, epochs=epochs) as work:
        train_untuned(work, arms)
