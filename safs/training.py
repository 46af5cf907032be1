"""The one training loop: dense pretraining, candidates, trials and final trainings alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from safs import optimizers, pruning, schedules, seeds, slots
from safs.data import BatchOrder, Fold
from safs.evaluation import Score, score
from safs.networks import prunable
from safs.pruning import Mask
from safs.spec import Recipe

Validate = Literal["every", "last"]


@dataclass(frozen=True)
class Epoch:
    """What one epoch left behind. Losses in nats; accuracies and flows are plain numbers.

    Attributes:
        epoch: 1-based.
        lr: base learning rate in force.
        train_loss, train_accuracy: means over the epoch's batches, in training mode.
        validation_loss, validation_accuracy: after the epoch; None where not measured.
        flow: gradient flow, mean over steps of ``lr * ||g||^2`` (Appendix B: first-order decrease
            of the loss by one gradient step) over surviving weights, biases and batch norm.
        flow_step: mean over steps of ``-g . delta``, the same term for the step really taken.
        flow_released: mean absolute gradient of the last batch, as the released code reports it.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    flow: float
    flow_step: float
    flow_released: float


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        history: one entry per finished epoch.
        failure: None, or why the run counts as failed (the reason goes into its record).
        seconds: wall time of the training itself, resumed parts included.
    """

    history: list[Epoch]
    failure: str | None
    seconds: float

    @property
    def last(self) -> Epoch:
        return self.history[-1]

    @property
    def fitness(self) -> float:
        """Training loss of the last epoch (Eq. 5); infinite for a failed run."""
        return math.inf if self.failure else self.last.train_loss


State = dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """Hook argument: the training after an epoch, and the state to resume it from."""

    epoch: int
    epochs: int
    state: Callable[[], State]


def train(
    network: nn.Module,
    fold: Fold,
    recipe: Recipe,
    epochs: int,
    order: BatchOrder,
    *,
    mask: Mask | None = None,
    validate: Validate = "last",
    resume: State | None = None,
    on_epoch: Callable[[Snapshot], None] | None = None,
) -> Outcome:
    """Train ``network`` in place.

    With a mask, pruned weights start at 0, their gradients are zeroed before every step, and so
    they stay exactly 0 and enter no norm, moment or decay of any optimiser.

    Args:
        network: an installed network on the device of ``fold``.
        fold: images to train and validate on.
        recipe: optimiser, schedule and batch size; the optimiser's state is fresh.
        epochs: length of the training.
        order: which images come when.
        mask: surviving weights; None trains densely.
        validate: measure validation after every epoch, or only after the last.
        resume: a :class:`Snapshot` state of the same training, which then ends as if it had never
            been interrupted.
        on_epoch: called after every epoch.

    Returns:
        The outcome. A loss that is not finite ends the run as a failed one.
    """
    if mask is not None:
        pruning.apply(mask, network)
    loop = _Loop(network, fold, recipe, epochs, order, mask)
    if resume is not None:
        loop.load(resume)
    while loop.epoch < epochs and loop.failure is None:
        loop.run_epoch(measure=validate == "every" or loop.epoch + 1 == epochs)
        if on_epoch is not None and loop.failure is None:
            on_epoch(Snapshot(loop.epoch, epochs, loop.state))
    if mask is not None and loop.failure is None:
        _assert_pruned(network, mask)
    return Outcome(loop.history, loop.failure, loop.seconds)


@dataclass
class _Totals:
    """Sums over an epoch, kept on the device until its end."""

    loss: Tensor
    correct: Tensor
    flow: Tensor
    flow_step: Tensor
    flow_released: Tensor
    steps: int = 0
    images: int = 0

    @staticmethod
    def on(device: torch.device) -> _Totals:
        zero = torch.zeros((), device=device, dtype=torch.float64)
        return _Totals(zero, zero.clone(), zero.clone(), zero.clone(), zero.clone())


@dataclass
class _Loop:
    network: nn.Module
    fold: Fold
    recipe: Recipe
    epochs: int
    order: BatchOrder
    mask: Mask | None
    epoch: int = 0
    seconds: float = 0.0
    failure: str | None = None
    history: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        layers = prunable(self.network)
        masked = {layers[name]: keep for name, keep in (self.mask or {}).items()}
        device = self.fold.train.labels.device
        activations = slots.activation_parameters(self.network)
        own = {id(p) for s in slots.slots(self.network).values() for p in s.parameters()}
        self.weights = [p for p in self.network.parameters() if id(p) not in own]
        self.masked = [(p, keep.to(device, torch.float32)) for p, keep in masked.items()]
        survivors = {p: int(keep.sum()) for p, keep in masked.items()}
        self.optimizer = optimizers.build(self.recipe, self.weights, activations, survivors)
        self.schedule = schedules.build(self.recipe, self.optimizer, self.epochs)
        self.free = sum(survivors.get(p, p.numel()) for p in self.weights)

    def run_epoch(self, measure: bool) -> None:
        started = time.perf_counter()
        lr = float(self.optimizer.param_groups[0]["lr"])
        totals = _Totals.on(self.fold.train.labels.device)
        self.network.train()
        torch.manual_seed(self._dropout_seed())
        for images, labels in self.order.batches(self.fold, self.epoch, self.recipe.batch_size):
            self._step(images, labels, lr, totals)
        self.epoch += 1
        entry = self._entry(lr, totals)
        validation = score(self.network, self.fold.validation) if measure else None
        self.failure = self._failure(entry, validation)
        if validation is not None and self.failure is None:
            entry = replace(
                entry, validation_loss=validation.loss, validation_accuracy=validation.top1
            )
        if self.failure is None:
            self.history.append(entry)
            schedules.advance(self.schedule, entry.train_loss)
        self.seconds += time.perf_counter() - started

    def _step(self, images: Tensor, labels: Tensor, lr: float, totals: _Totals) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        output = self.network(images)
        loss = functional.cross_entropy(output, labels)
        loss.backward()
        for weight, keep in self.masked:
            assert weight.grad is not None
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
            totals.correct += (output.detach().argmax(1) == labels).sum()
        totals.steps += 1
        totals.images += len(labels)

    def _entry(self, lr: float, totals: _Totals) -> Epoch:
        return Epoch(
            epoch=self.epoch,
            lr=lr,
            train_loss=float(totals.loss) / totals.images,
            train_accuracy=float(totals.correct) / totals.images,
            validation_loss=None,
            validation_accuracy=None,
            flow=float(totals.flow) / totals.steps,
            flow_step=float(totals.flow_step) / totals.steps,
            flow_released=float(totals.flow_released),
        )

    def _failure(self, entry: Epoch, validation: Score | None) -> str | None:
        if not math.isfinite(entry.train_loss):
            return f"training loss became {entry.train_loss} in epoch {entry.epoch}"
        if validation is not None and not math.isfinite(validation.loss):
            return f"validation loss became {validation.loss} after epoch {entry.epoch}"
        return None

    def _dropout_seed(self) -> int:
        path = (self.order.replicate, seeds.phase_key(self.order.phase), self.epoch)
        return seeds.integer(self.order.root, "dropout", *path)

    def state(self) -> State:
        """Everything a resumed training needs; random streams are functions of the epoch."""
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "history": [asdict(entry) for entry in self.history],
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load(self, state: State) -> None:
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.history = [Epoch(**entry) for entry in state["history"]]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])


def _assert_pruned(network: nn.Module, mask: Mask) -> None:
    for name, weight in prunable(network).items():
        if bool(weight.detach()[~mask[name].to(weight.device)].any()):
            raise AssertionError(f"a pruned weight of {name} moved away from 0")
