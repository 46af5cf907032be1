"""SAFS for any sparse network: prune, search operators, tune, keep the best (Figure 2).

The five pairs of the paper run through ``pipelines``; this is the same method for a module and data
of one's own. Test data has no place here: nothing in this file takes any.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from safs import adopt, compression, evaluation, pruning, search, seeds, slots, training
from safs import given as given_masks
from safs.data import BatchOrder, Fold
from safs.datasets.base import Augmentation
from safs.device import bit_identity
from safs.errors import SafsError
from safs.inputs import Data, Inputs, gather
from safs.operators import CANDIDATES
from safs.pruned import Pruned
from safs.pruning import Mask
from safs.spec import Epochs, Recipe, Spec
from safs.tuning_space import CRASH_COST, Tuner

SCHEMA = 1
WEIGHTS, REPORT = "model.safetensors", "report.json"
PLAIN = Recipe(lr=0.01, momentum=0.9, schedule="cosine")
"""The plain recipe unless another is given."""

_SCORING_IMAGES = 256
_log = logging.getLogger("safs")


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
class Result:
    """What :func:`search_and_tune` returns.

    Attributes:
        module: the tuned sparse network in evaluation mode, on the device of the model. Pruned
            weights are exactly 0.
        mask: the surviving weights by layer.
        report: plain data: operators with alpha and beta per slot, recipe, validation accuracies,
            both traces, sizes.
    """

    module: nn.Module
    mask: Mask
    report: dict[str, Any]

    def save(self, folder: str | Path) -> Path:
        """Write ``model.safetensors`` and ``report.json``; :func:`load` reads them."""
        from safetensors.torch import save_file

        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        state = {k: v.detach().cpu().clone() for k, v in self.module.state_dict().items()}
        save_file(state, place / WEIGHTS)
        text = json.dumps(self.report, indent=1, sort_keys=True, allow_nan=False)
        (place / REPORT).write_text(text + "\n")
        return place


def search_and_tune(
    model: nn.Module,
    train: Data,
    validation: Data,
    *,
    ratio: float | None = None,
    budget: Budget | None = None,
    method: str = "magnitude",
    scope: str = "layerwise",
    mask: given_masks.Source | None = None,
    recipe: Recipe = PLAIN,
    operators: Sequence[str] = CANDIDATES,
    algorithm: str = "lahc",
    default: str | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> Result:
    """Prune a trained classifier, find its activation operators and tune its fine-tuning.

    Stage 1 searches one operator per activation by training loss, stage 2 learns alpha and beta
    while SMAC3 tunes the recipe by validation accuracy. Trial 0 of stage 2 is plain fine-tuning:
    the model's own operators and the plain recipe. The weights of the best trial are returned, the
    earliest among equals, so the result is on validation data never worse than plain fine-tuning.

    The same seed gives the same result on the same processor and number of threads if Python was
    started with ``PYTHONHASHSEED=0``, which SMAC needs.

    Args:
        model: any module with one input and logits ``[N, classes]`` that torch.fx can trace; it
            stays as it is. Training runs on its device.
        train: ``(x, y)`` with floats ``[N, ...]`` and classes ``[N]``, or a ``DataLoader``, which
            is read once into memory: augmentation in it is drawn once.
        validation: the same, for choosing among trials; none of it may be in ``train``.
        ratio: fraction of the weights to prune. None: the model is sparse already (zeros, or the
            buffers of ``torch.nn.utils.prune``), or ``mask`` says what survives.
        budget: how much is trained; None is the paper's budget.
        method, scope: names in :data:`safs.pruning.PRUNERS` and :data:`safs.pruning.SCOPES`.
        mask: a mask, see :func:`safs.given.read`, instead of ``method`` and ``scope``.
        recipe: the plain recipe: of stage 1 and of the first trials of stage 2.
        operators: the candidates of stage 1.
        algorithm: a name in :data:`safs.search.SEARCHES`.
        default: the operator of activations that no registered operator equals; None refuses them.
        augmentation: random crop and flip of training batches, for images ``[N, C, H, W]``.
        seed: of everything that is drawn.

    Raises:
        SafsError: bad input, a module that cannot be traced, or every trial diverged.
    """
    _warn_of_hash_seed()
    device = _device(model)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seeds.integer(seed, "order", 0))  # what a shuffling loader draws from
        fold = _fold(train, validation, augmentation or Augmentation(), device)
        dense = adopt.adopt(model, fold.train.normalised(slice(0, 2)), default)
        fold = _checked(fold, dense, recipe)
        settings = _Settings(budget or Budget(), recipe, tuple(operators), algorithm, seed)
        kept = _mask(model, dense, fold, ratio, method, scope, mask, seed)
        return _Study(Pruned(dense, kept), fold, settings).run(method, scope, ratio)


def load(folder: str | Path, model: nn.Module) -> nn.Module:
    """The network that :meth:`Result.save` wrote, in evaluation mode.

    Args:
        folder: where it was saved.
        model: a fresh instance of the module that was tuned; it stays as it is.

    Raises:
        SafsError: there is nothing to read, or it belongs to another module.
    """
    from safetensors.torch import load_file

    report_file, weights = Path(folder) / REPORT, Path(folder) / WEIGHTS
    for file in (report_file, weights):
        if not file.is_file():
            raise SafsError(f"{file}: no such file; Result.save writes it")
    report = json.loads(report_file.read_text())
    example = torch.zeros(2, *report["data"]["shape"], device=_device(model))
    network = adopt.adopt(model, example, default=report["slots"][0]["operator"])
    names = [slot["name"] for slot in report["slots"]]
    if list(slots.slots(network)) != names:
        found = ", ".join(slots.slots(network))
        raise SafsError(f"{folder}: saved for slots {', '.join(names)}; the module has {found}")
    chromosome = [slot["operator"] for slot in report["slots"]]
    slots.fill(network, chromosome, scaled=report["scaled"])
    try:
        network.load_state_dict(load_file(weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise SafsError(f"{folder}: the weights are of another module: {reason}") from error
    return network.eval()


@dataclass(frozen=True)
class _Settings:
    budget: Budget
    recipe: Recipe
    operators: tuple[str, ...]
    algorithm: str
    seed: int


@dataclass
class _Study:
    """Both stages on one pruned network."""

    pruned: Pruned
    fold: Fold
    settings: _Settings

    def run(self, method: str, scope: str, ratio: float | None) -> Result:
        places = slots.slots(self.pruned.dense)
        default = tuple(slot.operator for slot in places.values())
        pruned = self.pruned.network(default, self.fold.train)
        before = {"dense": self._accuracy(self.pruned.dense), "pruned": self._accuracy(pruned)}
        found, searched = self._search(len(places))
        best, trials, network = self._tune(default, found)
        network.eval()
        shape = tuple(self.fold.train.pixels.shape[1:])
        report = {
            "schema": SCHEMA,
            "seed": self.settings.seed,
            "pruning": self._pruning(method, scope, ratio),
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
                **bit_identity(self.fold.train.labels.device),
                "threads": str(torch.get_num_threads()),
            },
        }
        return Result(network, self.pruned.mask, report)

    def _search(self, count: int) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
        """Stage 1: the chromosome with the lowest training loss, alpha = beta = 1 (Eq. 5)."""
        settings, rows = self.settings, []
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
            rows.append({"failure": outcome.failure})
            _log.info("stage 1, candidate %d: training loss %.4f", index, outcome.fitness)
            return outcome.fitness

        evaluations = search.run(searcher, energy, settings.budget.moves + 1)
        for row, evaluation in zip(rows, evaluations, strict=True):
            finite = math.isfinite(evaluation.energy)
            row |= {**asdict(evaluation), "energy": evaluation.energy if finite else None}
            row["chromosome"] = list(evaluation.chromosome)
        return searcher.best[1], rows

    def _tune(
        self, default: tuple[str, ...], found: tuple[str, ...]
    ) -> tuple[int, list[dict[str, Any]], nn.Module]:
        """Stage 2: the best trial, all trials, and the network that the best one trained (Eq. 6)."""
        settings, budget = self.settings, self.settings.budget
        rows: list[dict[str, Any]] = []
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
    ) -> tuple[nn.Module, dict[str, Any]]:
        network = self.pruned.network(operators, self.fold.train, scaled=scaled)
        order = BatchOrder(self.settings.seed, 0, "tune")
        outcome = self._train(network, recipe, self.settings.budget.tune_epochs, order)
        accuracy = None if outcome.failure else outcome.last.validation_accuracy
        _log.info("stage 2, trial %d: validation accuracy %s", index, accuracy)
        return network, {
            "index": index,
            "operators": list(operators),
            "scaled": scaled,
            "recipe": recipe.model_dump(mode="json"),
            "accuracy": accuracy,
            "cost": CRASH_COST if accuracy is None else 1 - accuracy,
            "failure": outcome.failure,
        }

    def _train(
        self, network: nn.Module, recipe: Recipe, epochs: int, order: BatchOrder
    ) -> training.Outcome:
        return training.train(network, self.fold, recipe, epochs, order, mask=self.pruned.mask)

    def _accuracy(self, network: nn.Module) -> float:
        return evaluation.score(network, self.fold.validation).top1

    def _pruning(self, method: str, scope: str, ratio: float | None) -> dict[str, Any]:
        mask = self.pruned.mask
        return {
            "method": method,
            "scope": scope,
            "ratio": ratio,
            "sparsity": pruning.sparsity(mask),
            "layers": {n: {"total": k.numel(), "kept": int(k.sum())} for n, k in mask.items()},
        }


def _fold(train: Data, validation: Data, augmentation: Augmentation, device: torch.device) -> Fold:
    inputs = {
        name: gather(data, name, device)
        for name, data in (("train", train), ("validation", validation))
    }
    shapes = [tuple(part.pixels.shape[1:]) for part in inputs.values()]
    if shapes[0] != shapes[1]:
        raise SafsError(f"train has inputs {shapes[0]}, validation {shapes[1]}")
    if (augmentation.pad or augmentation.flip) and len(shapes[0]) != 3:
        raise SafsError(f"augmentation is for images [C, H, W], the inputs are {list(shapes[0])}")
    return Fold(inputs["train"], inputs["validation"], augmentation, classes=0)


def _checked(fold: Fold, network: nn.Module, recipe: Recipe) -> Fold:
    """The fold with its number of classes, once network, labels and batches fit each other."""
    training_mode = network.training
    with torch.no_grad():
        output = network.eval()(fold.train.normalised(slice(0, 2)))
    network.train(training_mode)
    if not isinstance(output, Tensor) or output.dim() != 2:
        shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise SafsError(f"the module returns {shape}, expected logits [N, classes]")
    classes = output.shape[1]
    labels = torch.cat([fold.train.labels, fold.validation.labels])
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise SafsError(f"labels run from {low} to {high}, the module has {classes} outputs")
    norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
    if norms and len(fold.train) % recipe.batch_size == 1:
        raise SafsError(
            f"batches of {recipe.batch_size} leave one input over, which batch norm cannot train on; "
            "choose another batch_size"
        )
    return replace(fold, classes=classes)


def _mask(
    model: nn.Module,
    dense: nn.Module,
    fold: Fold,
    ratio: float | None,
    method: str,
    scope: str,
    mask: given_masks.Source | None,
    seed: int,
) -> Mask:
    if mask is None and ratio is None:
        mask = model
        found = given_masks.read(mask, dense)
        if pruning.sparsity(found) == 0:
            raise SafsError("no weight of the module is 0; give a ratio, or a mask")
    if mask is not None:
        return pruning.prune(dense, ratio, "given", given=mask)
    return pruning.prune(
        dense,
        ratio,
        method,
        scope=scope,
        shape=tuple(fold.train.pixels.shape[1:]),
        rng=seeds.generator(seed, "prune", 0),
        **pruning.scoring_batch(fold.train, _SCORING_IMAGES, seed, 0),
    )


def _size(network: nn.Module, mask: Mapping[str, Tensor], shape: tuple[int, ...]) -> dict[str, Any]:
    counts = compression.account(network, mask, shape)  # type: ignore[arg-type]
    plain = asdict(counts) | {"compression": counts.ratio, "speedup": counts.speedup}
    return {**plain, "layers": [asdict(layer) for layer in counts.layers]}


def _device(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise SafsError(f"{type(model).__name__} has no parameters")
    return parameter.device


@cache
def _warn_of_hash_seed() -> None:
    if sys.flags.hash_randomization:
        text = "stage 2 is repeatable only if Python is started with PYTHONHASHSEED=0"
        warnings.warn(text, stacklevel=3)
