"""Pruning: one mask per (replicate, ratio), shared by all arms (Eq. 2)."""

from __future__ import annotations

from pathlib import Path

from pipelines.config.pair import Pair
from pipelines.config.study import Study
from pipelines.engine.work import Work
from pipelines.storage import artefacts, sources
from pipelines.tasks import pruning
from pipelines.tasks.shared import WEIGHTS
from safs.sealed import Json, digest, file_digest


def run(study: Study, pair: str, ratio: float) -> None:
    """Prune the dense network of every replicate: ``mask-r<replicate>``."""
    with Work(study, "prune", pair, ratio) as work:
        work.each(mask, [(work, r) for r in work.replicates])


def mask(work: Work, replicate: int) -> None:
    """The mask of a replicate's dense network, as an artefact of this stage."""
    assert work.ratio is not None
    spec, ratio = work.pair, work.ratio
    dense = work.dense(replicate)
    weights = artefacts.whole(dense)["weights"]
    given = spec.prune.given_file(replicate, ratio)
    same = file_digest(given) if given and given.exists() else None
    seed = (work.study.profile.seed, replicate)
    settings = spec.prune.model_dump(mode="json")
    identity = digest([weights, ratio, settings, same, seed, _code(spec), work.data])

    def make(place: Path) -> Json:
        if weights is None:
            return {"failure": "the dense training failed"}
        made = work.run(
            pruning.prune,
            spec.network,
            spec.dataset.name,
            artefacts.weights_of(dense).resolve(),
            ratio,
            spec.prune,
            seed,
            place / WEIGHTS,
            given and given.resolve(),
        )
        return {"failure": None, "ratio": ratio, "method": spec.prune.method, **made}

    work.keep(f"mask-r{replicate}", identity, make)


def _code(spec: Pair) -> str:
    """Fingerprint of the code that prunes a network of this pair."""
    entries = [
        sources.Registered("pruner", spec.prune.method),
        sources.Registered("scope", spec.prune.scope),
        sources.Registered("network", spec.network.name),
        sources.Registered("dataset", spec.dataset.name),
    ]
    return sources.of("safs/pruning/prune.py", "safs/pruning/connectivity.py", entries=entries)
