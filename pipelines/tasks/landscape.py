"""Many candidates of stage 1 in one task: a part of a landscape."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines import compute
from pipelines.tasks.jobs import Files, Job
from pipelines.tasks.shared import images_of, own_device, starting_point
from pipelines.tasks.training import told

if TYPE_CHECKING:
    from safs.training.loop import Outcome

_ANNOUNCE_SECONDS = 2.0


def candidates(
    job: Job,
    files: Files,
    chromosomes: Sequence[tuple[str, ...]],
    marks: Sequence[int],
    topic: str,
    identity: str,
) -> list[dict[str, Any]]:
    """Train candidates one after the other, each from the pruned checkpoint.

    The test images are opened once for all of them.

    Args:
        job: the training of one of them.
        files: where its dense network and mask are.
        chromosomes: operators per slot.
        marks: epochs after which losses are noted.
        topic, identity: where finished epochs are announced, and as whose.

    Returns:
        For each its ``losses`` (None from where it failed), ``validation`` and ``test`` accuracy,
        ``failed_epoch`` and ``failed_step`` (0 if it did not fail), ``outcome``, and ``seconds``
        of the training, by the clock of :func:`safs.backends.device.clock`.
    """
    from safs.training import evaluation
    from safs.training.data import BatchOrder
    from safs.training.loop import train

    fold = images_of(job, files)
    order = BatchOrder(job.seed, job.replicate, job.phase, job.final)
    rows, networks = [], []
    announced = time.monotonic()
    for chromosome in chromosomes:
        candidate = job.model_copy(update={"chromosome": chromosome})
        network, mask = starting_point(candidate, files, fold)
        outcome = train(
            network, fold, job.recipe, job.epochs, order,
            mask=mask, backend=job.backend, acceleration=job.acceleration,
        )  # fmt: skip
        networks.append(network)
        row = _row(outcome, marks) | {"outcome": told(outcome, network).outcome()}
        rows.append(row | {"seconds": round(outcome.seconds, 3)})
        if time.monotonic() - announced > _ANNOUNCE_SECONDS:
            compute.announce(topic, identity, len(rows) * job.epochs)
            announced = time.monotonic()
    scores = evaluation.test(networks, job.dataset, own_device(), files.data)
    for row, score in zip(rows, scores, strict=True):
        row["test"] = None if row["failed_epoch"] else score.top1
    return rows


def _row(outcome: Outcome, marks: Sequence[int]) -> dict[str, Any]:
    """What a training reached; JSON has no NaN, so what it did not reach is None."""
    failed = outcome.failure is not None
    losses = [entry.train_loss for entry in outcome.history]
    reached = [losses[mark - 1] if mark <= len(losses) else math.nan for mark in marks]
    if failed:
        reached[-1] = math.nan
    return {
        "losses": [loss if math.isfinite(loss) else None for loss in reached],
        "validation": None if failed else outcome.last.validation_accuracy,
        "failed_epoch": outcome.failed_epoch or 0,
        "failed_step": outcome.failed_step or 0,
    }
