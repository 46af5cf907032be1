"""Zero-cost predictors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipelines.tasks.jobs import Files, Job
from pipelines.tasks.shared import images_of, own_device, starting_point


def predict(
    job: Job,
    files: Files,
    chromosomes: Sequence[Sequence[str]],
    names: Sequence[str],
    images: int,
    spectra: bool = False,
) -> dict[str, Any]:
    """What predictors say of chromosomes, without training any.

    Args:
        job: a training of the pruned checkpoint that the chromosomes are for.
        files: where its dense network and mask are.
        chromosomes: operators per slot.
        names: registered predictors.
        images: size of the batch of training images that they look at.
        spectra: whether the networks' Fisher spectra are told too.

    Returns:
        ``scores``, a dict by predictor for each chromosome (None is the worst), ``epochs``, the
        images passed over those of a training epoch, and ``seconds``; ``spectra``, one for each
        chromosome (:func:`safs.search.spectrum.spectrum`, None for what is not finite), where they
        are asked for.
    """
    from safs.backends.device import clock
    from safs.pruning.prune import scoring_batch
    from safs.search.predictors import score
    from safs.search.spectrum import spectrum

    now = clock(own_device())
    started = now()
    fold = images_of(job, files)
    batch = scoring_batch(fold.train, images, job.seed, job.replicate)
    scores, found = [], []
    for chromosome in chromosomes:
        candidate = job.model_copy(update={"chromosome": tuple(chromosome)})
        network, _ = starting_point(candidate, files, fold)
        told = score(names, network, **batch)
        scores.append({name: _finite(value) for name, value in told.items()})
        if spectra:
            layers = spectrum(network, batch["images"])
            found.append({layer: [*map(_finite, values)] for layer, values in layers.items()})
    return {
        "scores": scores,
        "epochs": len(scores) * len(batch["labels"]) / len(fold.train),
        "seconds": now() - started,
    } | ({"spectra": found} if spectra else {})


def _finite(value: float) -> float | None:
    """JSON has no NaN: what is not finite becomes None."""
    return value if math.isfinite(value) else None
