"""Dense training: one network per replicate, shared by all its pruning ratios (Eq. 1)."""

from __future__ import annotations

from pipelines.config.study import Study
from pipelines.engine.work import Work, files


def run(study: Study, pair: str) -> None:
    """Train the dense network of every replicate: ``dense-r<replicate>``."""
    spec = study.pairs[pair]
    total = spec.pretrain.epochs * study.profile.replicates
    with Work(study, "pretrain", pair, epochs=total) as work:

        def one(replicate: int) -> None:
            kept = {"validate_every": True, "keep": study.profile.protocol.reported_epoch}
            job = work.job(replicate, "dense", spec.recipe, spec.pretrain.epochs, **kept)
            work.train(f"dense-r{replicate}", job, files())

        work.each(one, [(r,) for r in work.replicates])
