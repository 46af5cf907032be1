"""The sparse backend: masked training on the CPU at the cost of the surviving weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx, nn

from safs import kernels
from safs.backends.base import EpochSums, State
from safs.masks import Mask
from safs.spec import Recipe
from safs.training.data import BatchOrder, Fold, Images
from safs.training.evaluation import Score, score_logits


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
        if mask is None or fold.train.labels.device.type != "cpu":
            where = "dense training" if mask is None else fold.train.labels.device.type
            raise kernels.Unsupported(f"sparse kernels: not for {where}")
        if not isinstance(network, fx.GraphModule):
            raise kernels.Unsupported("sparse kernels: the network is no torch.fx graph")
        self.fold, self.order = fold, order
        shape = tuple(fold.train.pixels.shape[1:])
        if len(shape) != 3:
            raise kernels.Unsupported(f"sparse kernels: inputs of shape {shape} are no images")
        if fold.train.pixels.dtype not in (torch.uint8, torch.float32):
            raise kernels.Unsupported(f"sparse kernels: pixels of type {fold.train.pixels.dtype}")
        self.compiled = kernels.compile(network, mask, recipe, shape, recipe.batch_size)

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
        return score_logits(torch.from_numpy(self.compiled.logits(images)), images.labels)

    def finish(self) -> None:
        """Write the trained parameters back into the torch network."""
        self.compiled.write_back()

    def state(self) -> State:
        """Surviving parameters and their optimiser's state."""
        return self.compiled.state()

    def load(self, state: Mapping[str, State]) -> None:
        """Go back to a :meth:`state`."""
        self.compiled.load(state)
