"""SAFS for any sparse network: prune, search operators, tune, keep the best (Figure 2).

The five pairs of the paper run through ``pipelines``; this is the same method for a module and data
of one's own. Test data has no place here: nothing in this file takes any.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

from safs import masks, seeds, slots
from safs.api import adopt
from safs.api.export import WEIGHTS, save_state
from safs.api.inputs import Data, checked
from safs.api.inputs import fold as make_fold
from safs.api.report import Budget, Report
from safs.api.study import Settings, TwoStages
from safs.backends.device import repeatable
from safs.datasets.base import Augmentation
from safs.errors import SafsError
from safs.files import write_json
from safs.masks import Mask
from safs.pruning import given as given_masks
from safs.pruning.prune import prune, scoring_batch
from safs.settings import CANDIDATES
from safs.spec import BackendName, Recipe
from safs.training.data import Fold
from safs.training.start import Pruned

__all__ = ["PLAIN", "Budget", "Result", "load", "search_and_tune"]

REPORT = "report.json"
PLAIN = Recipe(lr=0.01, momentum=0.9, schedule="cosine", batch_size=128)
"""The plain recipe unless another is given."""

_SCORING_IMAGES = 256


@dataclass(frozen=True)
class Result:
    """What :func:`search_and_tune` returns.

    Attributes:
        module: the tuned sparse network in evaluation mode, on the device of the model. Pruned
            weights are exactly 0.
        mask: the surviving weights by layer.
        report: operators with alpha and beta per slot, recipe, validation accuracies, both traces,
            sizes.
    """

    module: nn.Module
    mask: Mask
    report: Report

    def save(self, folder: str | Path) -> Path:
        """Write ``model.safetensors`` and ``report.json``; :func:`load` reads them."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        save_state(self.module, place / WEIGHTS)
        write_json(place / REPORT, self.report.to_plain())
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
    mask: given_masks.MaskSource | None = None,
    recipe: Recipe = PLAIN,
    operators: Sequence[str] = CANDIDATES,
    algorithm: str = "lahc",
    default: str | None = None,
    augmentation: Augmentation | None = None,
    backend: BackendName = "auto",
    seed: int = 0,
) -> Result:
    """Prune a trained classifier, find its activation operators and tune its fine-tuning.

    Stage 1 searches one operator per activation by training loss, stage 2 learns alpha and beta
    while SMAC3 tunes the recipe by validation accuracy. Trial 0 of stage 2 is plain fine-tuning:
    the model's own operators and the plain recipe. The weights of the best trial are returned, the
    earliest among equals, so the result is on validation data never worse than plain fine-tuning.

    The same seed gives the same result on the same processor and number of threads if Python was
    started with ``PYTHONHASHSEED=0``, which SMAC needs. On CUDA, PyTorch's deterministic algorithms
    are on meanwhile and TF32 is off; afterwards the caller's settings hold again.

    Args:
        model: any module with one input and logits ``[N, classes]`` that torch.fx can trace; it
            stays as it is. Training runs on its device.
        train: ``(x, y)`` with floats ``[N, ...]`` and classes ``[N]``, or a ``DataLoader``, which
            is read once into memory: augmentation in it is drawn once.
        validation: the same, for choosing among trials; none of it may be in ``train``.
        ratio: fraction of the weights to prune. None: the model is sparse already (zeros, or the
            buffers of ``torch.nn.utils.prune``), or ``mask`` says what survives.
        budget: how much is trained; None is the paper's budget.
        method, scope: names in :data:`safs.pruning.pruners.PRUNERS` and
            :data:`safs.pruning.scopes.SCOPES`.
        mask: a mask, see :func:`safs.pruning.given.read`, instead of ``method`` and ``scope``.
        recipe: the plain recipe: of stage 1 and of the first trials of stage 2.
        operators: the candidates of stage 1.
        algorithm: a name in :data:`safs.search.SEARCHES`.
        default: the operator of activations that no registered operator equals; None refuses them.
        augmentation: random crop and flip of training batches, for images ``[N, C, H, W]``.
        backend: who trains: PyTorch, or on a CPU the kernels that do the work of surviving weights
            only; ``auto`` takes them for the whole network where they know every layer, else for
            the layers that they know, and logs which and why. Every row of the report says which.
        seed: of everything that is drawn.

    Raises:
        SafsError: bad input, a module that cannot be traced, or every trial diverged.
    """
    _warn_of_hash_seed()
    device = _device(model)
    drawn = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with drawn, repeatable(device):
        torch.manual_seed(seeds.integer(seed, "order", 0))  # what a shuffling loader draws from
        fold = make_fold(train, validation, augmentation or Augmentation(), device)
        dense = adopt.adopt(model, fold.train.normalised(slice(0, 2)), default)
        fold = checked(fold, dense, recipe.batch_size)
        scored = mask is None and ratio is not None
        how = {"method": method, "scope": scope} if scored else {"method": "given", "scope": None}
        settings = Settings(
            budget or Budget(), recipe, tuple(operators), algorithm, backend, seed,
            {"ratio": ratio, **how},
        )  # fmt: skip
        kept = _mask(model, dense, fold, ratio, method, scope, mask, seed)
        network, report = TwoStages(Pruned(dense, kept), fold, settings).run()
    return Result(network, kept, report)


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


def _mask(
    model: nn.Module,
    dense: nn.Module,
    fold: Fold,
    ratio: float | None,
    method: str,
    scope: str,
    mask: given_masks.MaskSource | None,
    seed: int,
) -> Mask:
    if mask is None and ratio is None:
        mask = model
        found = given_masks.read(mask, dense)
        if masks.sparsity(found) == 0:
            raise SafsError("no weight of the module is 0; give a ratio, or a mask")
    if mask is not None:
        return prune(dense, ratio, "given", given=mask)
    batch = scoring_batch(fold.train, _SCORING_IMAGES, seed, 0)
    return prune(
        dense,
        ratio,
        method,
        scope=scope,
        shape=tuple(fold.train.pixels.shape[1:]),
        rng=seeds.generator(seed, "prune", 0),
        images=batch["images"],
        labels=batch["labels"],
    )


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
