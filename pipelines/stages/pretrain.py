"""Dense training: one network per replicate, shared by all its pruning ratios (Eq. 1)."""

from __future__ import annotations

from pipelines.config.study import Study
from pipelines.engine import trainings
from pipelines.engine.starts import files
from pipelines.engine.work import Work


def run(study: Study, pair: str) -> None:
    """Train the dense network of every replicate: ``dense-r<replicate>``."""
    epochs = study.pairs[pair].pretrain.epochs
    with Work(study, "pretrain", pair, epochs=epochs) as work:
        work.each(dense, [(work, r) for r in work.replicates])


def dense(work: Work, replicate: int) -> None:
    """The dense network of a replicate, as an artefact of this stage."""
    work.train(f"dense-r{replicate}", trainings.dense(work, replicate), files())
