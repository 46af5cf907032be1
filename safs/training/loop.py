"""The one training loop: dense pretraining, candidates, trials and final trainings alike."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from torch import nn

from safs import masks
from safs.backends.base import Backend, EpochSums, State
from safs.backends.dense import DenseBackend
from safs.backends.device import bit_identity, clock
from safs.masks import Mask
from safs.rows import Trained
from safs.spec import Acceleration, BackendName, KeptEpoch, Recipe
from safs.training import schedules
from safs.training.data import BatchOrder, Fold
from safs.training.scores import Score

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
        seconds: that the epochs took (:func:`safs.backends.device.clock`), resumed parts included.
        backend: what did the steps: ``dense``, ``sparse``, or ``mixed``, which is torch with some
            layers on the kernels.
        kept: 1-based epoch whose weights the network has; 0 for a failed run.
        notice: why the sparse backend was not used although it was asked for, and what was used;
            or None.
        failed_epoch, failed_step: 1-based, where a failed run failed; no step where it showed at
            the end of the epoch.
    """

    history: list[Epoch]
    failure: str | None
    seconds: float
    backend: str
    kept: int = 0
    notice: str | None = None
    failed_epoch: int | None = None
    failed_step: int | None = None

    @property
    def last(self) -> Epoch:
        return self.history[-1]

    def told(self) -> Trained:
        """The outcome as plain data; JSON has no NaN, so a flow that is not finite is None."""
        return Trained(
            failure=self.failure,
            seconds=self.seconds,
            backend=self.backend,
            history=tuple(_finite(asdict(entry)) for entry in self.history),
            kept=self.kept,
            notice=self.notice,
            failed_epoch=self.failed_epoch,
            failed_step=self.failed_step,
        )


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
    backend: BackendName = "dense",
    acceleration: Acceleration | None = None,
    validate: Validate = "last",
    keep: KeptEpoch = "last",
    until: int | None = None,
    resume: State | None = None,
    on_epoch: Callable[[Snapshot], None] | None = None,
) -> Outcome:
    """Train ``network`` in place.

    With a mask, pruned weights are 0 (:func:`safs.masks.apply`), stay exactly 0 after every step,
    and enter no norm, moment or decay of any optimiser.

    Args:
        network: an installed network on the device of ``fold``.
        fold: images to train and validate on.
        recipe: optimiser, schedule and batch size; the optimiser's state is fresh.
        epochs: length of the training.
        order: which images come when.
        mask: surviving weights; None trains densely.
        backend: who does the steps: PyTorch, or the kernels. ``auto`` takes the kernels on a CPU.
            Where they cannot run the whole network, PyTorch does, with the masked layers that pay
            on the kernels (:mod:`safs.backends.mixed`), and a notice says why.
        acceleration: how PyTorch computes its steps; None changes no rounding.
        validate: measure validation after every epoch, or only after the last.
        keep: whose weights the network ends with: the last epoch's, or those of the epoch with the
            best validation accuracy, the earliest among equals (for this, validate every epoch).
        until: end after this epoch, as if interrupted; the schedule is that of all ``epochs``.
        resume: a :class:`Snapshot` state of the same training, which then ends as if it had never
            been interrupted. One of other bits (another processor, say) counts for nothing.
        on_epoch: called after every epoch.

    Returns:
        The outcome. A loss that is not finite ends the run as a failed one.

    Raises:
        SafsError: the mask does not fit the network, or one of its pruned weights is not 0.
    """
    if mask is not None:
        masks.check_applied(mask, network)
    end = epochs if until is None else min(until, epochs)
    chosen, notice = _backend(backend, network, fold, recipe, order, mask, acceleration)
    loop = _Loop(chosen, fold, recipe, epochs, keep)
    if resume is not None and resume["bits"] == loop.bits:
        loop.load(resume)
    while loop.epoch < end and loop.failure is None:
        loop.run_epoch(measure=validate == "every" or loop.epoch + 1 == end)
        if on_epoch is not None and loop.failure is None:
            on_epoch(Snapshot(loop.epoch, epochs, loop.state))
    kept = loop.finish()
    if loop.failure is None and not all(bool(p.isfinite().all()) for p in network.parameters()):
        loop.fail(f"a parameter was not finite after epoch {loop.epoch}")
    if mask is not None and loop.failure is None:
        masks.check_applied(mask, network)
    kept = 0 if loop.failure else kept
    return Outcome(
        loop.history, loop.failure, loop.seconds, chosen.name, kept, notice, *loop.failed_at
    )


def _backend(
    wanted: BackendName,
    network: nn.Module,
    fold: Fold,
    recipe: Recipe,
    order: BatchOrder,
    mask: Mask | None,
    acceleration: Acceleration | None,
) -> tuple[Backend, str | None]:
    """The backend to use, and why it is not the one asked for."""
    on_cpu = fold.train.labels.device.type == "cpu"
    if wanted == "dense" or (wanted == "auto" and not on_cpu):
        return DenseBackend(network, fold, recipe, order, mask, acceleration), None
    from safs.backends.mixed import MixedBackend
    from safs.backends.sparse import SparseBackend
    from safs.kernels import Unsupported

    try:
        return SparseBackend(network, fold, recipe, order, mask), None
    except Unsupported as error:
        reason = str(error)
    try:
        mixed = MixedBackend(network, fold, recipe, order, mask)
        return mixed, f"{reason}; {mixed.extent}"
    except Unsupported:
        dense = DenseBackend(network, fold, recipe, order, mask, acceleration)
        return dense, f"{reason}; trained densely"


class _Loop:
    """Epochs, schedule, history and failures, whatever does the steps."""

    def __init__(
        self, backend: Backend, fold: Fold, recipe: Recipe, epochs: int, keep: KeptEpoch
    ) -> None:
        self.backend, self.fold, self.keep = backend, fold, keep
        self.bits = bit_identity(fold.train.labels.device, backend.name)
        self.schedule = schedules.build(recipe, epochs)
        self.epoch, self.seconds = 0, 0.0
        self.failure: str | None = None
        self.failed_at: tuple[int | None, int | None] = (None, None)
        self.history: list[Epoch] = []
        self.best: State | None = None

    def run_epoch(self, measure: bool) -> None:
        now = clock(self.fold.train.labels.device)
        started = now()
        lr = self.schedule.lr
        sums = self.backend.train_epoch(self.epoch, lr)
        self.epoch += 1
        if sums.failed_step is not None:
            where = f"in epoch {self.epoch}, step {sums.failed_step}"
            self.fail(f"training loss became {sums.loss} {where}", sums.failed_step)
        score = self.backend.score(self.fold.validation) if measure and not self.failure else None
        if score is not None and not math.isfinite(score.loss):
            self.fail(f"validation loss became {score.loss} after epoch {self.epoch}")
        if self.failure is None:
            self.history.append(_entry(self.epoch, lr, sums, score))
            self.schedule.advance(self.history[-1].train_loss)
            if self.keep == "best_validation" and score is not None:
                self._remember(score.top1)
        self.seconds += now() - started

    def fail(self, reason: str, step: int | None = None) -> None:
        """End as a failed run."""
        self.failure, self.failed_at = reason, (self.epoch, step)

    def _remember(self, accuracy: float) -> None:
        if self.best is None or accuracy > self.best["accuracy"]:
            state = copy.deepcopy(self.backend.state())
            self.best = {"epoch": self.epoch, "accuracy": accuracy, "backend": state}

    def finish(self) -> int:
        """Leave the weights to keep in the network; returns their epoch."""
        kept = self.epoch
        if self.best is not None:
            self.backend.load(self.best["backend"])
            kept = self.best["epoch"]
        self.backend.finish()
        return kept

    def state(self) -> State:
        """Everything a resumed training needs; random streams are functions of the epoch."""
        return {
            "bits": self.bits,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "history": [asdict(entry) for entry in self.history],
            "backend": self.backend.state(),
            "best": self.best,
            "schedule": self.schedule.state(),
        }

    def load(self, state: State) -> None:
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.history = [Epoch(**entry) for entry in state["history"]]
        self.backend.load(state["backend"])
        self.best = state["best"]
        self.schedule.load(state["schedule"])


def _finite(entry: dict[str, float | None]) -> dict[str, float | None]:
    return {k: None if v is not None and not math.isfinite(v) else v for k, v in entry.items()}


def _entry(epoch: int, lr: float, sums: EpochSums, score: Score | None) -> Epoch:
    return Epoch(
        epoch=epoch,
        lr=lr,
        train_loss=sums.loss / sums.images,
        train_accuracy=sums.correct / sums.images,
        validation_loss=score.loss if score else None,
        validation_accuracy=score.top1 if score else None,
        flow=sums.flow / sums.steps,
        flow_step=sums.flow_step / sums.steps,
        flow_released=sums.flow_released,
    )
