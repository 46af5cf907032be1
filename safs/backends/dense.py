"""The dense backend: masked training in PyTorch, on any device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from safs import seeds, slots
from safs.backends.accelerate import Faster, set_tf32
from safs.backends.base import EpochSums, State
from safs.masks import Mask
from safs.networks import prunable
from safs.spec import Acceleration, Recipe
from safs.training import optimizers, scores
from safs.training.data import BatchOrder, Fold, Images
from safs.training.scores import Score


class DenseBackend:
    """Every weight takes part; the gradients of pruned ones are zeroed before each step.

    So pruned weights stay exactly 0 and enter no norm, moment or decay of any optimiser.
    """

    name = "dense"

    def __init__(
        self,
        network: nn.Module,
        fold: Fold,
        recipe: Recipe,
        order: BatchOrder,
        mask: Mask | None,
        acceleration: Acceleration | None = None,
    ) -> None:
        self.faster = Faster(network, fold.train.labels.device, acceleration or Acceleration())
        self.network, self.fold, self.recipe, self.order = network, fold, recipe, order
        device = fold.train.labels.device
        layers = prunable(network)
        keep = {layers[name]: kept for name, kept in (mask or {}).items()}
        self.masked = [(weight, kept.to(device, torch.float32)) for weight, kept in keep.items()]
        own = {id(p) for slot in slots.slots(network).values() for p in slot.parameters()}
        self.weights = [p for p in network.parameters() if id(p) not in own]
        survivors = {weight: int(kept.sum()) for weight, kept in keep.items()}
        self.free = sum(survivors.get(p, p.numel()) for p in self.weights)
        self.optimizer = optimizers.build(
            recipe, self.weights, slots.activation_parameters(network), survivors
        )

    def train_epoch(self, epoch: int, lr: float) -> EpochSums:
        """One pass over the training images."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.network.train()
        torch.manual_seed(self._dropout_seed(epoch))
        totals = _Totals(self.fold.train.labels.device)
        for images, labels in self.order.batches(self.fold, epoch, self.recipe.batch_size):
            self._step(images, labels, lr, totals)
        return totals.sums()

    def _step(self, images: Tensor, labels: Tensor, lr: float, totals: _Totals) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.faster.autocast():
            output = self.faster.forward(self.faster.images(images))
            loss = functional.cross_entropy(output, labels)
        loss.backward()
        for weight, keep in self.masked:
            if weight.grad is not None:  # a batch may leave a layer out
                weight.grad.mul_(keep)
        trained = [p for p in self.weights if p.grad is not None]
        before = [p.detach().clone() for p in trained]
        self.optimizer.step()
        # Weight decay enters inside the optimiser, out of place: `grad` is still the loss's own.
        gradients = [p.grad.flatten() for p in trained if p.grad is not None]
        with torch.no_grad():
            for gradient, old, new in zip(gradients, before, trained, strict=True):
                totals.flow += lr * torch.dot(gradient, gradient)
                totals.flow_step += torch.dot(gradient, (old - new).flatten())
            absolute = torch.stack([gradient.abs().sum() for gradient in gradients]).sum()
            totals.flow_released = absolute.double() / self.free
            totals.loss += loss.detach() * len(labels)
            totals.finite.append(loss.detach().isfinite())
            totals.correct += (output.detach().argmax(1) == labels).sum()
        totals.steps += 1
        totals.images += len(labels)

    def _dropout_seed(self, epoch: int) -> int:
        path = (self.order.replicate, seeds.phase_key(self.order.phase), epoch)
        return seeds.integer(self.order.root, "dropout", *path)

    def score(self, images: Images) -> Score:
        """Evaluate the network as it is, in float32 whatever its steps are computed in."""
        set_tf32(False)
        found = scores.by_torch(self.network, images)
        set_tf32(self.faster.options.tf32)
        return found

    def finish(self) -> None:
        """Nothing to do: the network itself was trained."""

    def state(self) -> State:
        """The network's and the optimiser's state."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: Mapping[str, State]) -> None:
        """Go back to a :meth:`state`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


class _Totals:
    """Sums kept on the device until the end of the epoch, so that steps need not wait for it."""

    def __init__(self, device: torch.device) -> None:
        zero = torch.zeros((), device=device, dtype=torch.float64)
        self.loss, self.correct = zero, zero.clone()
        self.flow, self.flow_step, self.flow_released = zero.clone(), zero.clone(), zero.clone()
        self.steps = self.images = 0
        self.finite: list[Tensor] = []

    def sums(self) -> EpochSums:
        finite = torch.stack(self.finite).cpu()
        return EpochSums(
            loss=float(self.loss),
            correct=int(self.correct),
            flow=float(self.flow),
            flow_step=float(self.flow_step),
            flow_released=float(self.flow_released),
            steps=self.steps,
            images=self.images,
            failed_step=None if finite.all() else int(finite.int().argmin()) + 1,
        )
