"""Pruning: one mask per (replicate, ratio), shared by all methods (Eq. 2)."""

from __future__ import annotations

from pathlib import Path

from pipelines.config.study import Study
from pipelines.engine import artefacts, sources
from pipelines.engine.work import Work
from pipelines.tasks import pruning
from pipelines.tasks.shared import WEIGHTS
from safs.sealed import Json, digest, file_digest


def run(study: Study, pair: str, ratio: float) -> None:
    """Prune the dense network of every replicate: ``mask-r<replicate>``."""
    spec = study.pairs[pair]
    entries = [
        sources.Registered("pruner", spec.prune.method),
        sources.Registered("scope", spec.prune.scope),
        sources.Registered("network", spec.network.name),
        sources.Registered("dataset", spec.dataset.name),
    ]
    code = sources.of("safs/pruning/prune.py", "safs/pruning/connectivity.py", entries=entries)
    with Work(study, "prune", pair, ratio) as work:

        def one(replicate: int) -> None:
            dense = work.folder("pretrain", None) / f"dense-r{replicate}.json"
            weights = artefacts.whole(dense)["weights"]
            given = spec.prune.given_file(replicate, ratio)
            mask = file_digest(given) if given and given.exists() else None
            seed = (study.profile.seed, replicate)
            settings = spec.prune.model_dump(mode="json")
            identity = digest([weights, ratio, settings, mask, seed, code, work.data])

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

        work.each(one, [(r,) for r in work.replicates])
