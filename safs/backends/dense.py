"""The dense backend: masked training in PyTorch, on any device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from safs import seeds, slots
from safs.backends.accelerate import Faster
from safs.backends.base import EpochSums, State
from safs.backends.device import seed_generators
from safs.backends.graphs import Captured
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
        self.captured = Captured(device, recipe.batch_size) if self.faster.graphs else None
        # A graph would keep a number that it was captured with.
        self.lr: float | Tensor = torch.zeros((), device=device) if self.captured else recipe.lr
        self.optimizer = optimizers.build(
            recipe, self.weights, slots.activation_parameters(network), survivors,
            self.lr if isinstance(self.lr, Tensor) else None,
        )  # fmt: skip
        self.totals = Totals(device)

    def train_epoch(self, epoch: int, lr: float) -> EpochSums:
        """One pass over the training images."""
        with self.captured.side_stream() if self.captured else nullcontext():
            self.begin(epoch, lr)
            for images, labels in self.order.batches(self.fold, epoch, self.recipe.batch_size):
                self.advance(images, labels)
            return self.totals.sums()

    def begin(self, epoch: int, lr: float) -> None:
        """Get ready for the steps of an epoch, whose sums are yet 0."""
        if isinstance(self.lr, Tensor):
            self.lr.fill_(lr)
        else:
            self.lr = lr
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        self.network.train()
        seed_generators(self.fold.train.labels.device, self._dropout_seed(epoch))
        self.totals.clear()

    def advance(self, images: Tensor, labels: Tensor) -> None:
        """One step, as it is or from a graph."""
        if self.captured:
            self.captured.run(self.step, images, labels)
        else:
            self.step(images, labels)
        self.totals.count(len(labels))

    def step(self, images: Tensor, labels: Tensor) -> None:
        """What a step does on the device; it copies nothing from there and waits for nothing."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.faster.autocast():
            output = self.faster.forward(self.faster.images(images))
            loss = functional.cross_entropy(output, labels)
        loss.backward()
        # A batch may leave a layer out.
        masked = [(w.grad, keep) for w, keep in self.masked if w.grad is not None]
        if masked:
            torch._foreach_mul_([g for g, _ in masked], [keep for _, keep in masked])
        trained = [p for p in self.weights if p.grad is not None]
        before = _vector(trained)
        self.optimizer.step()
        # Weight decay enters inside the optimiser, out of place: `grad` is still the loss's own.
        gradient = _vector([p.grad for p in trained if p.grad is not None])
        self.totals.add_flow(gradient, before - _vector(trained), self.lr, self.free)
        self.totals.add(loss.detach(), output.detach(), labels)

    def _dropout_seed(self, epoch: int) -> int:
        path = (self.order.replicate, seeds.phase_key(self.order.phase), epoch)
        return seeds.integer(self.order.root, "dropout", *path)

    def score(self, images: Images) -> Score:
        """Evaluate the network as it is, in float32 whatever its steps are computed in."""
        self.faster.round(False)
        found = scores.by_torch(self.network, images)
        self.faster.round(self.faster.options.tf32)
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
        if self.captured:
            self.captured.forget()


@torch.no_grad()
def _vector(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers in one vector: one launch on a device, however many tensors there are."""
    return torch.cat([tensor.flatten() for tensor in tensors])


class Totals:
    """Sums kept on the device until the end of the epoch, so that steps need not wait for it.

    They stay in the same memory, and only :meth:`count` keeps numbers on the host.
    """

    _NAMES = ("loss", "correct", "flow", "flow_step", "flow_released", "sound")

    def __init__(self, device: torch.device) -> None:
        self.values = torch.zeros(len(self._NAMES), device=device, dtype=torch.float64)
        self.finite = torch.ones((), device=device, dtype=torch.bool)
        self.steps = self.images = 0

    def clear(self) -> None:
        """Begin an epoch."""
        self.values.zero_()
        self.finite.fill_(True)
        self.steps = self.images = 0

    def add_flow(self, gradient: Tensor, moved: Tensor, lr: float | Tensor, free: int) -> None:
        """Add a step's gradient flow: ``moved`` is what it took off the weights."""
        _, _, flow, flow_step, flow_released, _ = self.values.unbind()
        flow += lr * torch.dot(gradient, gradient)
        flow_step += torch.dot(gradient, moved)
        flow_released.copy_(gradient.abs().sum().double() / free)

    def add(self, loss: Tensor, output: Tensor, labels: Tensor) -> None:
        """Add a step's mean loss and what it got right."""
        total, correct, _, _, _, sound = self.values.unbind()
        total += loss * len(labels)
        correct += (output.argmax(1) == labels).sum()
        self.finite &= loss.isfinite()
        sound += self.finite  # steps before the first loss that is not finite

    def count(self, images: int) -> None:
        """Count a step and its images."""
        self.steps += 1
        self.images += images

    def sums(self) -> EpochSums:
        found = dict(zip(self._NAMES, self.values.tolist(), strict=True))
        sound, correct = int(found.pop("sound")), int(found.pop("correct"))
        return EpochSums(
            **found,
            correct=correct,
            steps=self.steps,
            images=self.images,
            failed_step=None if sound == self.steps else sound + 1,
        )
