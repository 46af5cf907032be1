"""The sparse backend: masked training on the CPU at the cost of the surviving weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx, nn

from safs import kernels
from safs.backends.base import EpochSums, State
from safs.masks import Mask
from safs.networks import prunable
from safs.spec import Recipe
from safs.training import scores
from safs.training.data import BatchOrder, Fold, Images
from safs.training.scores import Score


class SparseBackend:
    """The same mathematics as :class:`safs.backends.dense.DenseBackend` in :mod:`safs.kernels`.

    Raises:
        kernels.Unsupported: on another device, without a compiler, or for a layer that the kernels
            do not know.
    """

    name = "sparse"

    def __init__(
        self, network: nn.Module, fold: Fold, recipe: Recipe, order: BatchOrder, mask: Mask | None
    ) -> None:
        self.fold, self.order = fold, order
        self.compiled = _compile(network, fold.train, mask, recipe)

    def train_epoch(self, epoch: int, lr: float) -> EpochSums:
        """One pass over the training images, in C++."""
        draw = self.order.draw(self.fold, epoch)
        return self.compiled.train_epoch(
            self.fold.train,
            draw.order,
            lr,
            pad=self.fold.augmentation.pad,
            shift=draw.shift,
            mirror=draw.mirror,
        )

    def score(self, images: Images) -> Score:
        """Evaluate the present network without leaving the kernels."""
        return scores.of_logits(torch.from_numpy(self.compiled.logits(images)), images.labels)

    def finish(self) -> None:
        """Write the trained parameters back into the torch network."""
        self.compiled.write_back()

    def state(self) -> State:
        """Surviving parameters and their optimiser's state."""
        return self.compiled.state()

    def load(self, state: Mapping[str, State]) -> None:
        """Go back to a :meth:`state`."""
        self.compiled.load(state)


def score(network: nn.Module, images: Images) -> Score:
    """Evaluate a network as it is, in evaluation mode.

    Raises:
        kernels.Unsupported: as :class:`SparseBackend`.
    """
    mask = {name: weight != 0 for name, weight in prunable(network).items()}
    compiled = _compile(network, images, mask, _SCORING)
    return scores.of_logits(torch.from_numpy(compiled.logits(images)), images.labels)


_SCORING = Recipe(lr=1.0, batch_size=256)  # of which the batch size alone matters


def _compile(
    network: nn.Module, images: Images, mask: Mask | None, recipe: Recipe
) -> kernels.SparseNetwork:
    """The network on the kernels; without a mask all weights take part."""
    if images.labels.device.type != "cpu":
        raise kernels.Unsupported(f"sparse kernels: not for {images.labels.device.type}")
    if not isinstance(network, fx.GraphModule):
        raise kernels.Unsupported("sparse kernels: the network is no torch.fx graph")
    shape = tuple(images.pixels.shape[1:])
    if len(shape) != 3:
        raise kernels.Unsupported(f"sparse kernels: inputs of shape {shape} are no images")
    if images.pixels.dtype not in (torch.uint8, torch.float32):
        raise kernels.Unsupported(f"sparse kernels: pixels of type {images.pixels.dtype}")
    if mask is None:
        mask = {n: torch.ones_like(w, dtype=torch.bool) for n, w in prunable(network).items()}
    return kernels.compile(network, mask, recipe, shape, recipe.batch_size)
