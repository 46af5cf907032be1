"""The mixed backend: torch runs the network, the kernels run the masked layers that they know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from safs import kernels
from safs.backends.base import EpochSums
from safs.backends.dense import DenseBackend
from safs.kernels.layer import KernelLayer
from safs.masks import Mask
from safs.networks import prunable
from safs.spec import Recipe
from safs.training.data import BatchOrder, Fold, Images
from safs.training.scores import Score

# By kind, so that a subclass, which may compute something else, is left alone: dimensions of one
# input.
_RANK: dict[type[nn.Module], int] = {nn.Conv2d: 3, nn.Linear: 1}
_DENSEST = {nn.Conv2d: 1 / 3, nn.Linear: 1 / 8}
_LANES = 8  # images that the kernels compute together, even where fewer are there

Layers = dict[tuple[int, ...], KernelLayer]


class MixedBackend(DenseBackend):
    """Dense training in which every known layer costs what its surviving weights cost.

    For a network that :class:`safs.backends.sparse.SparseBackend` cannot take as a whole: with a
    layer or an operator that has no kernel. The network is an ordinary one again between the calls,
    so states, scores and resuming are those of the dense backend.

    Raises:
        kernels.Unsupported: no compiler, or no layer is both known and sparse enough.
    """

    name = "mixed"

    def __init__(
        self, network: nn.Module, fold: Fold, recipe: Recipe, order: BatchOrder, mask: Mask | None
    ) -> None:
        if mask is None or fold.train.labels.device.type != "cpu":
            raise kernels.Unsupported("sparse kernels: for masked networks on a CPU only")
        self.layers = _known(network, fold, mask, recipe.batch_size)
        if not self.layers:
            raise kernels.Unsupported("sparse kernels: no layer is known and sparse enough")
        super().__init__(network, fold, recipe, order, mask)

    @property
    def extent(self) -> str:
        """How much of the network the kernels run, in words."""
        names = list(prunable(self.network))
        others = [name for name in names if name not in self.layers]
        text = f"{len(self.layers)} of {len(names)} layers run on the kernels"
        return f"{text}, not {', '.join(others)}" if others else text

    def train_epoch(self, epoch: int, lr: float) -> EpochSums:
        """One pass over the training images."""
        with self._on_kernels():
            return super().train_epoch(epoch, lr)

    def score(self, images: Images) -> Score:
        """Evaluate the network as it is."""
        with self._on_kernels():
            return super().score(images)

    @contextmanager
    def _on_kernels(self) -> Iterator[None]:
        """The known layers compute their forward pass in C++."""
        modules = {name: self.network.get_submodule(name) for name in self.layers}
        for name, module in modules.items():
            setattr(module, "forward", _Forward(module, self.layers[name]))  # noqa: B010
        try:
            yield
        finally:
            for module in modules.values():
                delattr(module, "forward")


class _Forward:
    """The forward pass of a module; inputs of another shape than foreseen are torch's."""

    def __init__(self, module: nn.Module, layers: Layers) -> None:
        self.otherwise, self.layers = module.forward, layers
        self.rank = len(next(iter(layers)))

    def __call__(self, input: Tensor) -> Tensor:
        layer = self.layers.get(tuple(input.shape[-self.rank :]))
        output: Tensor = self.otherwise(input) if layer is None else layer(input)
        return output


def _pays(module: nn.Module, density: float, batch: int) -> bool:
    """Whether a layer is so sparse that the kernels are faster than torch, copies included.

    Forward and backward of single layers against torch, one thread of an AMD EPYC with AVX2,
    medians of 7, CPU seconds. Seven convolutions (3x3, 1x1, depthwise, stride 2; 3 to 512 channels;
    batches of 64, one of 8): 2.3 to 33 times as fast at density 0.01, 2.4 to 3.8 times at 0.25 and
    1.6 to 2.3 times at 0.5. The bound below that leaves room for processors whose vectors torch
    uses better. Four linear layers: 1.6 to 7.8 times at 0.01, 1.2 to 2.7 times at 0.05, 0.9 (in
    batches of 16) to 1.8 times at 0.1, 0.6 to 1.3 times at 0.2.
    """
    densest = next(most for kind, most in _DENSEST.items() if isinstance(module, kind))
    return density * max(1, _LANES / batch) <= densest


def _known(network: nn.Module, fold: Fold, mask: Mask, batch: int) -> dict[str, Layers]:
    """The layers to run on the kernels, by name and by shape of their input."""
    found: dict[str, Layers] = {}
    for name, shapes in _inputs(network, fold.train.normalised(slice(0, 2))).items():
        if name not in mask:
            continue
        module, keep = network.get_submodule(name), mask[name].numpy()
        if not _pays(module, float(keep.mean()), batch):
            continue
        for shape in shapes:
            try:
                layer = KernelLayer(name, module, keep, shape, batch)
            except kernels.Unsupported:
                continue
            found.setdefault(name, {})[shape] = layer
    return found


def _inputs(network: nn.Module, example: Tensor) -> dict[str, list[tuple[int, ...]]]:
    """Shapes of single inputs by layer, as one pass in evaluation mode shows them."""
    seen: dict[str, list[tuple[int, ...]]] = {}

    def watch(name: str, rank: int) -> Any:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            for x in inputs:
                shape = tuple(x.shape[-rank:])
                if x.dtype == torch.float32 and shape not in seen.setdefault(name, []):
                    seen[name].append(shape)

        return note

    hooks = [
        module.register_forward_pre_hook(watch(name, _RANK[type(module)]))
        for name, module in network.named_modules()
        if type(module) in _RANK
    ]
    training = network.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network.eval()(example)
    network.train(training)
    for hook in hooks:
        hook.remove()
    return seen
