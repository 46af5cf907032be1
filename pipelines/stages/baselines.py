"""Baselines: the pruned network retrained with the dense recipe (vanilla pruning, SReLU)."""

from __future__ import annotations

from pipelines import plan
from pipelines.config.study import Study
from pipelines.engine.layout import trained_in
from pipelines.engine.work import Work, replicates
from safs.arms import chromosome


def run(study: Study, pair: str, ratio: float) -> None:
    """Final training of the baseline arms of the profile: ``<arm>-r<replicate>``."""
    spec = study.pairs[pair]
    arms = [arm for arm in study.profile.arms if trained_in(arm) == "baselines"]
    epochs = plan.stage_epochs(study, spec, "baselines")
    with Work(study, "baselines", pair, ratio, epochs=epochs) as work:

        def one(arm: str, replicate: int) -> None:
            start = work.start(replicate)
            operators = chromosome(arm, start.default, study.profile.protocol)
            work.final(arm, replicate, start, operators, spec.recipe)

        work.each(one, [(arm, r) for r in replicates(study) for arm in arms])
