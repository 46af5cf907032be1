"""Baselines: the pruned network retrained with the dense recipe (vanilla pruning, SReLU)."""

from __future__ import annotations

from pipelines.config import Study
from pipelines.engine.layout import trained_in
from pipelines.engine.work import Work, replicates
from safs.arms import chromosome


def run(study: Study, pair: str, ratio: float) -> None:
    """Final training of the baseline arms of the profile: ``<arm>-r<replicate>``."""
    spec = study.pairs[pair]
    arms = [arm for arm in study.profile.arms if trained_in(arm) == "baselines"]
    total = spec.finetune.epochs * study.profile.replicates * len(arms)
    with Work(study, "baselines", pair, ratio, epochs=total) as work:

        def one(arm: str, replicate: int) -> None:
            start = work.start(replicate)
            operators = chromosome(arm, start.default, study.profile.protocol)
            work.final(arm, replicate, start, operators, spec.recipe)

        work.each(one, [(arm, r) for r in replicates(study) for arm in arms])
