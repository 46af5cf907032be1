"""Dense training: one network per replicate, shared by all its pruning ratios (Eq. 1)."""

from __future__ import annotations

from pipelines.config.study import Study
from pipelines.engine.jobs import Job
from pipelines.engine.work import Work, files


def run(study: Study, pair: str) -> None:
    """Train the dense network of every replicate: ``dense-r<replicate>``."""
    total = study.pairs[pair].pretrain.epochs * study.profile.replicates
    with Work(study, "pretrain", pair, epochs=total) as work:
        work.each(dense, [(work, r) for r in work.replicates])


def dense(work: Work, replicate: int) -> None:
    """The dense network of a replicate, as an artefact of this stage."""
    work.train(f"dense-r{replicate}", job(work, replicate), files())


def job(work: Work, replicate: int) -> Job:
    """Its training."""
    kept = {"validate_every": True, "keep": work.study.profile.protocol.reported_epoch}
    return work.job(replicate, "dense", work.pair.recipe, work.pair.pretrain.epochs, **kept)
