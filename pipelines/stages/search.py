"""Stage 1: search one operator per slot, alpha = beta = 1 (Eq. 5), and its final training."""

from __future__ import annotations

import math
from pathlib import Path

from pipelines.config import Pair, Study
from pipelines.engine import sources
from pipelines.engine.jobs import Job, Result
from pipelines.engine.scratch import Journal, Json, digest
from pipelines.engine.work import Start, Work, replicates, spent
from safs import search, seeds
from safs.arms import ARMS
from safs.protocol import Search

ARM = "stage1_only"


def run(study: Study, pair: str, ratio: float) -> None:
    """The searches that the profile's arms need, and ``stage1_only-r<replicate>``."""
    spec = study.pairs[pair]
    with Work(study, "search", pair, ratio, epochs=_epochs(study, spec)) as work:

        def one(name: str, replicate: int) -> None:
            start = work.start(replicate)
            found = find(work, name, replicate, start, searches(study, spec)[name])
            if name == "search" and ARM in study.profile.arms:
                work.final(ARM, replicate, start, found, spec.recipe)

        work.each(one, [(n, r) for r in replicates(study) for n in searches(study, spec)])


def searches(study: Study, spec: Pair) -> dict[str, Search]:
    """The searches of a cell by artefact name: the profile's own, and the best single operator's.

    The control ``best_single_hpo`` needs each operator tried everywhere, at the same epochs and
    fitness as the candidates of the search.
    """
    wanted = {ARMS[arm].operators for arm in study.profile.arms}
    singles = {"algorithm": "singles", "moves": len(spec.search.operators) - 1}
    every = {
        "search": ("found", spec.search),
        "singles": ("best_single", spec.search.model_copy(update=singles)),
    }
    return {name: search for name, (operators, search) in every.items() if operators in wanted}


def find(work: Work, name: str, replicate: int, start: Start, spec: Search) -> tuple[str, ...]:
    """The best chromosome of a search, as the artefact ``<name>-r<replicate>``."""
    if start.failure is not None:
        return start.default

    candidates = _Candidates(work, replicate, start, spec)
    code = sources.fingerprint(sources.closure(sources.ROOT / "safs/search/__init__.py"))
    basis = candidates.job(start.default).identity
    identity = digest([spec.model_dump(mode="json"), basis, code])

    def make(place: Path) -> Json:
        candidates.journal = Journal(place / "journal.jsonl")
        searcher = search.make(
            spec.algorithm,
            slots=len(start.slots),
            operators=spec.operators,
            budget=spec.moves,
            seed=seeds.integer(work.study.profile.seed, "search", replicate),
            start="random" if spec.start == "random" else start.default,
            **({"history_length": spec.history} if spec.algorithm == "lahc" else {}),
        )
        evaluations = search.run(searcher, candidates.energy, spec.evaluations)
        accepted = [evaluation.accepted for evaluation in evaluations]
        best, chromosome, _ = searcher.best
        return {
            "chromosome": list(chromosome),
            "seconds": sum(result["seconds"] for _, result in candidates.seen),
            "trace": candidates.trace(best, accepted),
        }

    epochs = spec.evaluations * spec.epochs
    content = work.keep(f"{name}-r{replicate}", identity, make, epochs)
    return tuple(content["chromosome"])


class _Candidates:
    """Trains chromosomes from the pruned checkpoint and remembers what came of each."""

    def __init__(self, work: Work, replicate: int, start: Start, spec: Search) -> None:
        self.work, self.replicate, self.start, self.spec = work, replicate, start, spec
        self.journal: Journal
        self.seen: list[tuple[tuple[str, ...], Result]] = []

    def job(self, chromosome: tuple[str, ...]) -> Job:
        """The training of one candidate: dense recipe, alpha = beta = 1."""
        return self.work.job(
            self.replicate,
            "search",
            self.work.pair.recipe,
            self.spec.epochs,
            validate_every=self.spec.fitness == "best_validation_error",
            chromosome=chromosome,
            train_own=self.work.study.profile.protocol.own_parameters == "both",
            **self.start.inputs,
        )

    def energy(self, index: int, chromosome: tuple[str, ...]) -> float:
        """What the search minimises."""
        result = self.work.trial(self.journal, self.job(chromosome), self.start.files())
        self.seen.append((chromosome, result))
        return energy(result, self.spec)

    def trace(self, best: int, accepted: list[bool]) -> Json:
        """The search as :class:`bench.traces.SearchTrace` reads it."""
        rows = zip(self.seen, accepted, strict=True)
        return {
            "schema": 1,
            "pair": self.work.pair_name,
            "ratio": self.work.ratio,
            "replicate": self.replicate,
            "algorithm": self.spec.algorithm,
            "slots": list(self.start.slots),
            "operators": list(self.spec.operators),
            "best": best,
            "evaluations": [
                {
                    "index": index,
                    "chromosome": list(chromosome),
                    "energy": None if result["failure"] else energy(result, self.spec),
                    "accepted": taken,
                    "epochs": spent(result),
                    "status": "failed" if result["failure"] else "ok",
                    "reason": result["failure"],
                }
                for index, ((chromosome, result), taken) in enumerate(rows)
            ],
        }


def energy(result: Result, spec: Search) -> float:
    """The fitness of a candidate by ``spec.fitness``, to be minimised; infinite if it failed."""
    if result["failure"] is not None:
        return math.inf
    if spec.fitness == "best_validation_error":
        return 1 - max(float(entry["validation_accuracy"]) for entry in result["history"])
    last = result["history"][-1]
    values = {
        "training_loss": last["train_loss"],
        "validation_loss": last["validation_loss"],
        "validation_error": 1 - last["validation_accuracy"],
    }
    return float(values[spec.fitness])


def _epochs(study: Study, spec: Pair) -> int:
    each = sum(s.evaluations * s.epochs for s in searches(study, spec).values())
    each += spec.finetune.epochs if ARM in study.profile.arms else 0
    return each * study.profile.replicates
