"""SAFS for any sparse network: prune, search operators, tune, keep the best (Figure 2).

The five pairs of the paper run through ``pipelines``; this is the same method for a module and data
of one's own. Test data has no place here: nothing in this file takes any.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from safs import contracts, masks, seeds, slots
from safs.api import adopt, saved
from safs.api.adopt import Adopted
from safs.api.inputs import Data, checked
from safs.api.inputs import fold as make_fold
from safs.api.modules import plain_copy, unwrapped
from safs.api.report import Budget, Report
from safs.api.study import Settings, TwoStages
from safs.backends.device import repeatable, seed_generators
from safs.datasets.base import Augmentation
from safs.errors import SafsError, UnknownName, shown
from safs.masks import Mask
from safs.operators import OPERATORS
from safs.pruning import given as given_masks
from safs.pruning import scopes
from safs.pruning.prune import prune, scoring_batch
from safs.pruning.pruners import PRUNERS
from safs.search import SEARCHES
from safs.settings import CANDIDATES
from safs.spec import BackendName, Recipe
from safs.training.data import Fold

__all__ = ["PLAIN", "Budget", "Result", "load", "search_and_tune"]

LOG = logging.getLogger("safs")
PLAIN = Recipe(lr=0.01, momentum=0.9, schedule="cosine", batch_size=128)
"""The plain recipe unless another is given."""

_SCORING_IMAGES = 256


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        """What came out, in a line: neither the network nor its mask."""
        right, operators = self.report.validation, [s["operator"] for s in self.report.slots]
        plain = "failed" if right.plain is None else f"{right.plain:.4f}"
        return (
            f"Result(sparsity={self.report.pruning.sparsity:.4f}, dense={right.dense:.4f}, "
            f"plain={plain}, tuned={right.tuned:.4f}, operators=[{', '.join(operators)}])"
        )

    def save(self, folder: str | Path) -> Path:
        """Write ``model.safetensors`` and ``report.json``; :func:`load` reads them."""
        return saved.write(_path(folder), self.module, self.report)


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

    Of the model every activation becomes a slot, and every weight of a convolution, matrix product
    or recurrent layer is pruned. What is left as it is stands in the report (``left_out``,
    ``pruning.dense``) and in a logged line each: gates, activations inside torch's own layers,
    weights that others are computed from. Embeddings, norms and biases are never pruned.

    The same seed gives the same result on the same processor and number of threads if Python was
    started with ``PYTHONHASHSEED=0``, which SMAC needs. On CUDA, PyTorch's deterministic algorithms
    are on meanwhile and TF32 is off; afterwards the caller's settings hold again.

    Args:
        model: any module that makes logits ``[N, classes]`` of one input and that torch.fx can
            trace, or whose activations are modules; it stays as it is. Training runs on its device.
        train: ``(x, y)`` with floats ``[N, ...]`` and classes ``[N]``, or a ``DataLoader`` or
            ``Dataset``, which is read once into memory: augmentation in it is drawn once.
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
            the layers that they know, and logs which and why. A network that they would train
            wrongly (:mod:`safs.kernels.misread`) is left to PyTorch. Every row of the report says
            which.
        seed: of everything that is drawn.

    Raises:
        SafsError: bad input, a module that cannot be adopted (:func:`safs.api.adopt.take`), or
            every trial diverged.
    """
    _warn_of_hash_seed()
    budget, augmentation = budget or Budget(), augmentation or Augmentation()
    _check_types(budget=(budget, Budget), recipe=(recipe, Recipe), seed=(seed, int),
                 augmentation=(augmentation, Augmentation))  # fmt: skip
    _check_names(method, scope, operators, algorithm, default, backend)
    _check_mask(mask, method, ratio)
    if seed < 0:
        raise SafsError(f"seed: got {seed}, expected a number of at least 0")
    if ratio is not None:
        scopes.kept(1, ratio)  # refuses what is no ratio
        ratio = float(ratio)
    device = _device(model)
    with _own_settings(device), repeatable(device):
        # What a shuffling loader draws from.
        seed_generators(device, seeds.integer(seed, "order", 0))
        fold = make_fold(train, validation, augmentation, device)
        adopted = adopt.take(model, fold.train.normalised(slice(0, 2)), default)
        fold = checked(fold, adopted.network, recipe.batch_size)
        for notice in adopted.notices():
            LOG.warning(notice)
        scored = mask is None and ratio is not None
        how = {"method": method, "scope": scope} if scored else {"method": "given", "scope": None}
        trainer = _trainer(backend, adopted, fold)
        settings = Settings(
            budget, recipe, tuple(operators), algorithm, trainer, seed, {"ratio": ratio, **how}
        )
        kept = _mask(model, adopted, fold, ratio, method, scope, mask, seed)
        if empty := [name for name, keep in kept.items() if not keep.any()]:
            LOG.warning(f"no weight survives in {', '.join(empty)}")
        dense = plain_copy(unwrapped(model))[0]
        network, report = TwoStages(dense, adopted, kept, fold, settings).run()
    return Result(network, kept, report)


def load(folder: str | Path, model: nn.Module, example: Tensor | None = None) -> nn.Module:
    """The network that :meth:`Result.save` wrote, in evaluation mode.

    Args:
        folder: where it was saved.
        model: a fresh instance of the module that was tuned; it stays as it is.
        example: a batch as the module was trained on, of which two inputs are looked at; None is
            noise, which not every module takes: one with an embedding wants classes of tokens.

    Raises:
        SafsError: a file is missing, damaged or of another version, or belongs to another module,
            or the module does not take the example.
    """
    place = _path(folder)
    if place.is_file():
        raise SafsError(f"{place}: a file, expected the folder that holds it")
    report = saved.read_report(place)
    state = saved.read_weights(place, report)
    device = _device(model)
    with _own_settings(device):
        seed_generators(device, 0)
        network = _adopted(model, example, report.data.shape, report.slots[0]["operator"], folder)
        names = [slot["name"] for slot in report.slots]
        if list(slots.slots(network)) != names:
            found = ", ".join(slots.slots(network))
            raise SafsError(f"{folder}: saved for slots {', '.join(names)}; the module has {found}")
        chromosome = [slot["operator"] for slot in report.slots]
        slots.fill(network, chromosome, scaled=report.scaled)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise SafsError(f"{folder}: the weights are of another module: {reason}") from error
    return network.eval()


def _path(folder: str | Path) -> Path:
    if not isinstance(folder, str | PathLike):
        raise SafsError(f"folder: got {shown(folder)}, expected a path")
    return Path(folder)


def _adopted(
    model: nn.Module, example: Tensor | None, shape: list[int], default: str, folder: str | Path
) -> nn.Module:
    """The module with slots, by inputs of the shape that a result was saved for."""
    device = _device(model)
    if example is not None:
        inputs = torch.as_tensor(example)[:2].to(device, torch.float32)
        if list(inputs.shape[1:]) != shape or len(inputs) < 2:
            found = f"example: got {list(torch.as_tensor(example).shape)}"
            raise SafsError(f"{found}, expected two inputs or more of the shape {shape}")
        return adopt.adopt(model, inputs, default)
    try:
        noise = torch.randn(2, *shape, device=device)
    except (RuntimeError, TypeError):  # negative, or more than there is memory for
        raise SafsError(
            f"{folder}: saved for inputs of the shape {shape}, which no tensor has"
        ) from None
    try:
        return adopt.adopt(model, noise, default)
    except SafsError as error:
        raise SafsError(f"{error} (tried with noise; `example` takes inputs of yours)") from error


def _mask(
    model: nn.Module,
    adopted: Adopted,
    fold: Fold,
    ratio: float | None,
    method: str,
    scope: str,
    mask: given_masks.MaskSource | None,
    seed: int,
) -> Mask:
    dense = adopted.network
    if mask is None and ratio is None:
        return _zeros(model, adopted)
    if mask is not None:
        return prune(dense, ratio, "given", given=mask)
    batch = scoring_batch(fold.train, _SCORING_IMAGES, seed, 0)
    shape = tuple(fold.train.pixels.shape[1:])
    few = {name: values[:2] for name, values in batch.items()}
    tried = {**few, "shape": shape, "rng": seeds.generator(seed, "prune", 0)}
    contracts.pruner(dense, method, tried)
    rng = seeds.generator(seed, "prune", 0)
    return prune(
        dense, ratio, method, scope=scope, shape=shape, rng=rng,
        images=batch["images"], labels=batch["labels"],
    )  # fmt: skip


def _trainer(backend: BackendName, adopted: Adopted, fold: Fold) -> BackendName:
    """The backend that was asked for, or PyTorch where the kernels would train something else."""
    if backend == "dense" or fold.train.labels.device.type != "cpu" or not adopted.misread:
        return backend
    LOG.warning(f"{adopted.misread}; trained densely")
    return "dense"


def _zeros(model: nn.Module, adopted: Adopted) -> Mask:
    """The mask of a module that is sparse already; none of its zeros may be lost."""
    mask = given_masks.read(unwrapped(model), adopted.network)
    if masks.sparsity(mask) == 0:
        raise SafsError("no weight of the module is 0; give a ratio, or a mask")
    parameters = dict(adopted.network.named_parameters())
    for name, layer in adopted.dense.items():
        weight = parameters.get(f"{name}.weight", parameters.get(name))
        if weight is not None and bool((weight == 0).any()):
            raise SafsError(f"the zeros of {name!r} would not stay ({layer.why}); give a ratio")
    return mask


@contextmanager
def _own_settings(device: torch.device) -> Iterator[None]:
    """Random numbers, default dtype, autocast and gradient mode of the caller's are put aside."""
    dtype = torch.get_default_dtype()
    drawn = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    torch.set_default_dtype(torch.float32)
    try:
        known = torch.amp.is_autocast_available(device.type)
        exact = torch.autocast(device.type, enabled=False) if known else nullcontext()
        with drawn, exact, torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)


def _check_types(**arguments: tuple[object, type]) -> None:
    for name, (value, kind) in arguments.items():
        if not isinstance(value, kind) or isinstance(value, bool):
            found = " ".join(repr(value).split())
            raise SafsError(f"{name}: got {found}, expected {kind.__name__}")


def _check_names(
    method: str,
    scope: str,
    operators: Sequence[str],
    algorithm: str,
    default: str | None,
    backend: str,
) -> None:
    listed = isinstance(operators, Collection) and not isinstance(operators, str)
    if not listed or len(operators) == 0:
        raise SafsError(f"operators: got {operators!r}, expected names of operators")
    named: list[tuple[str, object, Iterable[str]]] = [
        ("pruning method", method, PRUNERS),
        ("pruning scope", scope, scopes.SCOPES),
        ("search algorithm", algorithm, SEARCHES),
        ("backend", backend, get_args(BackendName)),
        *(("operator", name, OPERATORS) for name in operators),
    ]
    if default is not None:
        named.append(("operator", default, OPERATORS))
    for kind, name, known in named:
        if name not in tuple(known):
            raise UnknownName(kind, name, known)
    for name in OPERATORS:  # the module's activations are compared with all of them
        contracts.operator(name)


def _check_mask(mask: object, method: str, ratio: float | None) -> None:
    """What :func:`safs.pruning.given.read` takes for granted; and that there is a mask if asked."""
    expected = "expected tensors by layer name, a module or a file"
    if mask is None:
        if method == "given" and ratio is not None:
            raise SafsError(f"mask: method 'given' needs one, {expected}")
        return
    if not isinstance(mask, Mapping | nn.Module | str | PathLike):
        raise SafsError(f"mask: got {shown(mask)}, {expected}")
    tensors = mask.state_dict() if isinstance(mask, nn.Module) else mask
    for name, tensor in tensors.items() if isinstance(tensors, Mapping) else ():
        if not isinstance(name, str):
            raise SafsError(f"mask: got {shown(name)} as the name of a layer, {expected}")
        if isinstance(tensor, Tensor) and tensor.is_meta:
            raise SafsError(f"mask: {name} is on the device meta, expected values")


def _device(model: nn.Module) -> torch.device:
    parameter = next(unwrapped(model).parameters(), None)
    if parameter is None:
        raise SafsError(f"{type(model).__name__} has no parameters")
    return parameter.device


@cache
def _warn_of_hash_seed() -> None:
    if sys.flags.hash_randomization:
        text = "stage 2 is repeatable only if Python is started with PYTHONHASHSEED=0"
        warnings.warn(text, stacklevel=3)
