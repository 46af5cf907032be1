"""Both stages of SAFS on one pruned network, in this process (Section 4.2, Figure 2)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from safs import compression, evaluation, pruning, search, seeds, slots, training
from safs.data import BatchOrder, Fold
from safs.device import bit_identity
from safs.errors import SafsError
from safs.pruned import Pruned
from safs.spec import BackendName, Epochs, Recipe, Spec
from safs.tuning_space import CRASH_COST, Tuner, space

SCHEMA = 1
LOG = logging.getLogger("safs")

Report = dict[str, Any]


class Budget(Spec):
    """How much is trained, in trainings and epochs; the defaults are the paper's (Table 4).

    ``moves`` candidates of stage 1 after the start, ``search_epochs`` each; ``trials`` of stage 2,
    plain fine-tuning included, ``tune_epochs`` each.
    """

    moves: Annotated[int, Field(ge=0)] = 20
    search_epochs: Epochs = 80
    trials: Annotated[int, Field(ge=1)] = 20
    tune_epochs: Epochs = 80


@dataclass(frozen=True)
class Settings:
    """What a study is run with; see :func:`safs.api.search_and_tune`."""

    budget: Budget
    recipe: Recipe
    operators: tuple[str, ...]
    algorithm: str
    backend: BackendName
    seed: int


@dataclass
class Study:
    """Both stages on one pruned network and one fold."""

    pruned: Pruned
    fold: Fold
    settings: Settings
    notices: list[str] = field(default_factory=list)

    def run(self) -> tuple[nn.Module, Report]:
        """The best trial's network, in evaluation mode, and the report.

        Raises:
            SafsError: every trial failed, or the recipe lies outside of the tuning space.
        """
        if self.settings.budget.trials > 1:
            space(self.settings.recipe, self.settings.seed)  # refuses before anything is trained
        places = slots.slots(self.pruned.dense)
        default = tuple(slot.operator for slot in places.values())
        pruned = self.pruned.network(default, self.fold.train)
        before = {"dense": self._accuracy(self.pruned.dense), "pruned": self._accuracy(pruned)}
        found, searched = self._search(len(places))
        best, trials, network = self._tune(default, found)
        network.eval()
        shape = tuple(self.fold.train.pixels.shape[1:])
        return network, {
            "schema": SCHEMA,
            "seed": self.settings.seed,
            "pruning": self._pruning(),
            "budget": self.settings.budget.model_dump(),
            "data": {
                "train": len(self.fold.train),
                "validation": len(self.fold.validation),
                "classes": self.fold.classes,
                "shape": list(shape),
            },
            "default": list(default),
            "slots": [{"name": n, **s.describe()} for n, s in slots.slots(network).items()],
            "scaled": trials[best]["scaled"],
            "recipe": trials[best]["recipe"],
            "validation": {
                **before,
                "plain": trials[0]["accuracy"],
                "tuned": trials[best]["accuracy"],
            },
            "search": {"algorithm": self.settings.algorithm, "evaluations": searched},
            "tuning": {"best": best, "trials": trials},
            "size": _size(network, self.pruned.mask, shape),
            "bits": {
                **bit_identity(self.fold.train.labels.device, self.settings.backend),
                "threads": str(torch.get_num_threads()),
            },
        }

    def _search(self, count: int) -> tuple[tuple[str, ...], list[Report]]:
        """Stage 1: the chromosome with the lowest training loss, alpha = beta = 1 (Eq. 5)."""
        settings = self.settings
        rows: list[Report] = []
        searcher = search.make(
            settings.algorithm,
            slots=count,
            operators=settings.operators,
            budget=settings.budget.moves,
            seed=seeds.integer(settings.seed, "search", 0),
        )
        order = BatchOrder(settings.seed, 0, "search")

        def energy(index: int, chromosome: tuple[str, ...]) -> float:
            network = self.pruned.network(chromosome, self.fold.train)
            outcome = self._train(network, settings.recipe, settings.budget.search_epochs, order)
            rows.append({"failure": outcome.failure, "backend": outcome.backend})
            LOG.info("stage 1, candidate %d: training loss %.4f", index, outcome.fitness)
            return outcome.fitness

        evaluations = search.run(searcher, energy, settings.budget.moves + 1)
        for row, candidate in zip(rows, evaluations, strict=True):
            energy_or_none = candidate.energy if math.isfinite(candidate.energy) else None
            row |= asdict(candidate) | {"energy": energy_or_none}
            row["chromosome"] = list(candidate.chromosome)
        return searcher.best[1], rows

    def _tune(
        self, default: tuple[str, ...], found: tuple[str, ...]
    ) -> tuple[int, list[Report], nn.Module]:
        """Stage 2 (Eq. 6): index of the best trial, all trials, and the best one's network."""
        settings, budget = self.settings, self.settings.budget
        rows: list[Report] = []
        best: tuple[float, int, nn.Module | None] = (math.inf, 0, None)
        tuner = None
        for index in range(budget.trials):
            if index == 1:
                seed = seeds.integer(settings.seed, "tune", 0)
                tuner = Tuner(settings.recipe, budget.trials - 1, seed)
            chosen = settings.recipe if tuner is None else tuner.ask()
            operators = default if tuner is None else found
            network, row = self._trial(index, operators, chosen, scaled=tuner is not None)
            rows.append(row)
            if tuner is not None:
                tuner.tell(chosen, row["cost"], failed=row["failure"] is not None)
            if row["failure"] is None and row["cost"] < best[0]:
                best = (row["cost"], index, network)
        if best[2] is None:
            raise SafsError(f"every trial failed; the first: {rows[0]['failure']}")
        return best[1], rows, best[2]

    def _trial(
        self, index: int, operators: tuple[str, ...], recipe: Recipe, *, scaled: bool
    ) -> tuple[nn.Module, Report]:
        network = self.pruned.network(operators, self.fold.train, scaled=scaled)
        order = BatchOrder(self.settings.seed, 0, "tune")
        outcome = self._train(network, recipe, self.settings.budget.tune_epochs, order)
        accuracy = None if outcome.failure else outcome.last.validation_accuracy
        LOG.info("stage 2, trial %d: validation accuracy %s", index, accuracy)
        return network, {
            "index": index,
            "operators": list(operators),
            "scaled": scaled,
            "recipe": recipe.model_dump(mode="json"),
            "accuracy": accuracy,
            "cost": CRASH_COST if accuracy is None else 1 - accuracy,
            "failure": outcome.failure,
            "backend": outcome.backend,
        }

    def _train(
        self, network: nn.Module, recipe: Recipe, epochs: int, order: BatchOrder
    ) -> training.Outcome:
        outcome = training.train(
            network,
            self.fold,
            recipe,
            epochs,
            order,
            mask=self.pruned.mask,
            backend=self.settings.backend,
        )
        if outcome.notice is not None and outcome.notice not in self.notices:
            self.notices.append(outcome.notice)
            LOG.warning(outcome.notice)
        return outcome

    def _accuracy(self, network: nn.Module) -> float:
        return evaluation.score(network, self.fold.validation).top1

    def _pruning(self) -> Report:
        mask = self.pruned.mask
        return {
            "sparsity": pruning.sparsity(mask),
            "layers": {n: {"total": k.numel(), "kept": int(k.sum())} for n, k in mask.items()},
        }


def _size(network: nn.Module, mask: Mapping[str, Tensor], shape: tuple[int, ...]) -> Report:
    counts = compression.account(network, mask, shape)  # type: ignore[arg-type]
    plain = asdict(counts) | {"compression": counts.ratio, "speedup": counts.speedup}
    return {**plain, "layers": [asdict(layer) for layer in counts.layers]}
