"""Both stages of SAFS on one pruned network, in this process (Section 4.2, Figure 2)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from safs import contracts, masks, seeds, slots
from safs.api.adopt import Adopted
from safs.api.report import (
    Accuracies,
    Budget,
    DataTold,
    PruningTold,
    Report,
    SearchTold,
    TuningTold,
)
from safs.backends.device import bit_identity
from safs.errors import SafsError
from safs.masks import Mask
from safs.method.stage1 import Searched, fitness, stage1
from safs.method.stage2 import cheapest, stage2, trial
from safs.pruning import compression
from safs.rows import Trained, Trial
from safs.search import Chromosome
from safs.search.tuning_space import space
from safs.settings import Fitness, Search, Tune
from safs.spec import BackendName, Recipe
from safs.training import evaluation, loop
from safs.training.data import BatchOrder, Fold
from safs.training.start import Pruned

LOG = logging.getLogger("safs")
LOSS: Fitness = "training_loss"


@dataclass(frozen=True)
class Settings:
    """What a study is run with; see :func:`safs.api.tune.search_and_tune`.

    ``pruning`` says how the mask was made: ratio, method and scope.
    """

    budget: Budget
    recipe: Recipe
    operators: tuple[str, ...]
    algorithm: str
    backend: BackendName
    seed: int
    pruning: dict[str, Any]


@dataclass
class TwoStages:
    """Both stages on one adopted network with its mask, and one fold.

    ``dense`` is the caller's module, whose activations the adopted network may not know.
    """

    dense: nn.Module
    adopted: Adopted
    mask: Mask
    fold: Fold
    settings: Settings
    notices: list[str] = field(default_factory=list)
    backends: set[str] = field(default_factory=set)

    @property
    def pruned(self) -> Pruned:
        """What every training starts from."""
        return Pruned(self.adopted.network, self.mask)

    def run(self) -> tuple[nn.Module, Report]:
        """The best trial's network, in evaluation mode, and the report.

        Raises:
            SafsError: every trial failed, or the recipe lies outside of the tuning space.
        """
        s = self.settings
        if s.budget.trials > 1:
            space(s.recipe, s.seed)  # refuses before anything is trained
        default = tuple(slot.operator for slot in slots.slots(self.pruned.dense).values())
        pruned = self.pruned.network(default, self.fold.train)
        before = {"dense": self._accuracy(self.dense), "pruned": self._accuracy(pruned)}
        searched = self._search(default)
        best, trials, network = self._tune(default, searched.chromosome)
        network.eval()
        after = {"plain": trials[0].validation_top1, "tuned": trials[best].validation_top1}
        shape = tuple(self.fold.train.pixels.shape[1:])
        together = next(iter(self.backends)) if len(self.backends) == 1 else "mixed"
        return network, Report(
            seed=s.seed,
            pruning=self._pruning_told(),
            budget=s.budget,
            data=DataTold(
                train=len(self.fold.train),
                validation=len(self.fold.validation),
                classes=self.fold.classes,
                shape=list(shape),
            ),
            default=list(default),
            left_out=self.adopted.left,
            slots=[{"name": n, **slot.describe()} for n, slot in slots.slots(network).items()],
            scaled=bool(trials[best].scaled),
            recipe=trials[best].config,
            validation=Accuracies(**before, **after),
            search=SearchTold(algorithm=s.algorithm, evaluations=searched.rows),
            tuning=TuningTold(best=best, trials=tuple(trials)),
            size=_size(network, self.mask, shape),
            bits=bit_identity(self.fold.train.labels.device, together),
        )

    def _pruning_told(self) -> PruningTold:
        dense = self.adopted.dense
        masked = sum(keep.numel() for keep in self.mask.values())
        share = masked / (masked + sum(told.weights for told in dense.values()))
        return PruningTold(
            **self.settings.pruning,
            sparsity=masks.sparsity(self.mask) * share,
            layers=masks.counts(self.mask),
            dense=dense,
        )

    def _search(self, default: Chromosome) -> Searched:
        """Stage 1: operators by training loss, alpha = beta = 1 (Eq. 5)."""
        s, budget = self.settings, self.settings.budget
        spec = Search(
            algorithm=s.algorithm,
            moves=budget.moves,
            epochs=budget.search_epochs,
            operators=s.operators,
        )
        seed = seeds.integer(s.seed, "search", 0)

        def train(chromosome: Chromosome) -> Trained:
            contracts.proposal(s.algorithm, chromosome, default, s.operators)
            network = self.pruned.network(chromosome, self.fold.train)
            result = self._train(network, s.recipe, spec.epochs, "search")
            LOG.info("stage 1, %s: training loss %.4f", " ".join(chromosome), fitness(result, LOSS))
            return result

        return stage1(spec, default, seed, train)

    def _tune(self, default: Chromosome, found: Chromosome) -> tuple[int, list[Trial], nn.Module]:
        """Stage 2 (Eq. 6) after plain fine-tuning, trial 0: the best, all, the best's network."""
        s, budget = self.settings, self.settings.budget
        best: tuple[float, nn.Module | None] = (math.inf, None)

        def train(recipe: Recipe, operators: Chromosome = found, scaled: bool = True) -> Trained:
            nonlocal best
            network = self.pruned.network(operators, self.fold.train, scaled=scaled)
            result = self._train(network, recipe, budget.tune_epochs, "tune")
            row = trial(0, recipe, result, "last", operators)
            LOG.info("stage 2, validation accuracy %s", row.validation_top1)
            if row.status == "ok" and row.cost < best[0]:
                best = (row.cost, network)
            return result

        plain = train(s.recipe, default, False)
        rows = [trial(0, s.recipe, plain, "last", default, scaled=False)]
        if budget.trials > 1:
            spec = Tune(trials=budget.trials - 1, epochs=budget.tune_epochs)
            seed = seeds.integer(s.seed, "tune", 0)
            tuned = stage2(spec, s.recipe, seed, train, found, scaled=True)
            rows += [row.model_copy(update={"index": row.index + 1}) for row in tuned.rows]
        index = cheapest(rows)
        if index is None or best[1] is None:
            raise SafsError(f"every trial failed; the first: {rows[0].reason}")
        return index, rows, best[1]

    def _train(
        self, network: nn.Module, recipe: Recipe, epochs: int, phase: seeds.Phase
    ) -> Trained:
        outcome = loop.train(
            network,
            self.fold,
            recipe,
            epochs,
            BatchOrder(self.settings.seed, 0, phase),
            mask=self.mask,
            backend=self.settings.backend,
        )
        self.backends.add(outcome.backend)
        if outcome.notice is not None and outcome.notice not in self.notices:
            self.notices.append(outcome.notice)
            LOG.warning(outcome.notice)
        return outcome.told()

    def _accuracy(self, network: nn.Module) -> float:
        return evaluation.score(network, self.fold.validation).top1


def _size(network: nn.Module, mask: Mapping[str, Tensor], shape: tuple[int, ...]) -> dict[str, Any]:
    counts = compression.account(network, mask, shape)  # type: ignore[arg-type]
    plain = asdict(counts) | {"compression": counts.ratio, "speedup": counts.speedup}
    return {**plain, "layers": [asdict(layer) for layer in counts.layers]}
