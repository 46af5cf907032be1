"""Stage 1: search one operator per slot, alpha = beta = 1 (Eq. 5), and its final training."""

from __future__ import annotations

from pathlib import Path

from pipelines.config.pair import Pair
from pipelines.config.study import Study
from pipelines.engine import spending
from pipelines.engine.starts import PrunedStart
from pipelines.engine.trainings import candidate, train_finals
from pipelines.engine.work import Work
from pipelines.storage import sources
from pipelines.storage.scratch import Journal
from pipelines.storage.sources import Registered
from safs import contracts, seeds
from safs.arms import ARMS
from safs.method.stage1 import stage1
from safs.rows import SearchTrace, Trained
from safs.sealed import Json, digest
from safs.search import Chromosome
from safs.settings import Search

ARM = "stage1_only"


def run(study: Study, pair: str, ratio: float) -> None:
    """The searches that the profile's arms need, and ``stage1_only-r<replicate>``."""
    spec = study.pairs[pair]
    epochs = spending.stage_epochs(study, spec, "search")
    with Work(study, "search", pair, ratio, epochs=epochs) as work:

        def one(name: str, replicate: int) -> None:
            start = work.start(replicate)
            found = find(work, name, replicate, start, searches(study, spec)[name])
            if name == "search" and ARM in study.profile.arms:
                train_finals(work, ARM, replicate, start, found, spec.recipe)

        work.each(one, [(n, r) for r in work.replicates for n in searches(study, spec)])


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


def find(work: Work, name: str, replicate: int, start: PrunedStart, spec: Search) -> Chromosome:
    """The best chromosome of a search, as the artefact ``<name>-r<replicate>``."""
    if start.failure is not None:
        return start.default
    seed = seeds.integer(work.study.profile.seed, "search", replicate)

    def make(place: Path) -> Json:
        journal = Journal(place / "trainings.jsonl")

        def train(chromosome: Chromosome) -> Trained:
            contracts.proposal(spec.algorithm, chromosome, start.default, spec.operators)
            job = candidate(work, replicate, start, spec, chromosome)
            return work.trial(journal, job, start.files())

        found = stage1(spec, start.default, seed, train)
        head = {"algorithm": spec.algorithm, "slots": start.slots, "operators": spec.operators}
        told = work.noted(found, replicate, SearchTrace, "evaluations", **head)
        return {"chromosome": list(found.chromosome), **told}

    used = [Registered("operator", name) for name in spec.operators]
    entries = [Registered("search", spec.algorithm), *used]
    code = sources.of("safs/method/stage1.py", entries=entries)
    basis = candidate(work, replicate, start, spec, start.default).identity
    identity = digest([spec.model_dump(mode="json"), basis, code])
    content = work.keep(f"{name}-r{replicate}", identity, make, spec.evaluations * spec.epochs)
    return tuple(content["chromosome"])
