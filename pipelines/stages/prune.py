"""Pruning: one mask per (replicate, ratio), shared by all methods (Eq. 2)."""

from __future__ import annotations

from pathlib import Path

from pipelines.config.study import Study
from pipelines.engine import scratch, sources
from pipelines.engine.scratch import Json
from pipelines.engine.work import Work, replicates
from pipelines.tasks import pruning
from pipelines.tasks.shared import WEIGHTS


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
            name = f"dense-r{replicate}"
            dense = work.folder("pretrain", None) / f"{name}.safetensors"
            weights = scratch.read_json(dense.with_suffix(".json"))["weights"]
            given = spec.prune.given_file(replicate, ratio)
            mask = scratch.file_digest(given) if given and given.exists() else None
            seed = (study.profile.seed, replicate)
            settings = spec.prune.model_dump(mode="json")
            identity = scratch.digest([weights, ratio, settings, mask, seed, code, work.data])

            def make(place: Path) -> Json:
                if weights is None:
                    return {"failure": "the dense training failed"}
                made = work.pool.run(
                    pruning.prune,
                    spec.network,
                    spec.dataset.name,
                    dense.resolve(),
                    ratio,
                    spec.prune,
                    seed,
                    place / WEIGHTS,
                    given and given.resolve(),
                )
                return {"failure": None, "ratio": ratio, "method": spec.prune.method, **made}

            work.keep(f"mask-r{replicate}", identity, make)

        work.each(one, [(r,) for r in replicates(study)])
