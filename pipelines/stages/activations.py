"""The activation study (Figure 4a): one operator in every slot, the dense recipe."""

from __future__ import annotations

from pipelines.config.study import Study
from pipelines.engine import layout
from pipelines.engine.work import Work, replicates
from safs.arms import chromosome


def run(study: Study, pair: str) -> None:
    """The study in every cell of a pair that it names; nothing where it names none."""
    layout.folder(study.profile.profile, "activations", pair).mkdir(parents=True, exist_ok=True)
    for ratio in study.profile.ratios(pair):
        cell(study, pair, ratio)


def cell(study: Study, pair: str, ratio: float) -> None:
    """Final training of the study's arms: ``<arm>-r<replicate>``."""
    spec = study.pairs[pair]
    arms = study.profile.swept(pair, ratio)
    total = spec.finetune.epochs * study.profile.replicates * len(arms)
    with Work(study, "activations", pair, ratio, epochs=total) as work:

        def one(arm: str, replicate: int) -> None:
            start = work.start(replicate)
            operators = chromosome(arm, start.default, study.profile.protocol)
            work.final(arm, replicate, start, operators, spec.recipe)

        work.each(one, [(arm, r) for r in replicates(study) for arm in arms])
