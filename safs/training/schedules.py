"""The seven learning rate schedules (SAFS, Tables 4, 6 and 7), one step per epoch.

The paper gives names and, for the dense networks, some values; the others follow the released code.
"""

from __future__ import annotations

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LambdaLR,
    LinearLR,
    LRScheduler,
    ReduceLROnPlateau,
    StepLR,
)

from safs.registry import Registry
from safs.spec import Recipe

ScheduleBuilder = Callable[[Recipe, Optimizer, int], LRScheduler]
SCHEDULES: Registry[ScheduleBuilder] = Registry("schedule")


def build(recipe: Recipe, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """The schedule of ``recipe`` for a training of ``epochs`` epochs, before the first."""
    return SCHEDULES[recipe.schedule](recipe, optimizer, epochs)


def advance(scheduler: LRScheduler, training_loss: float) -> None:
    """Step once, at the end of an epoch with the mean training loss ``training_loss``."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(training_loss)
    else:
        scheduler.step()


def quarter(epochs: int) -> int:
    """A quarter of the training in whole epochs, at least one."""
    return max(1, epochs // 4)


@SCHEDULES.register("constant")
def constant(recipe: Recipe, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """``lr`` throughout."""
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


@SCHEDULES.register("step")
def step(recipe: Recipe, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """A tenth after each quarter of the training."""
    return StepLR(optimizer, step_size=quarter(epochs), gamma=0.1)


@SCHEDULES.register("linear")
def linear(recipe: Recipe, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """From a tenth of ``lr`` to all of it within five epochs."""
    return LinearLR(optimizer, start_factor=0.1, end_factor=1.0, total_iters=5)


@SCHEDULES.register("cosine")
def cosine(recipe: Recipe, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """Half a cosine from ``lr`` to 0; Loshchilov, Hutter, "SGDR"."""
    return CosineAnnealingLR(optimizer, T_max=epochs)


@SCHEDULES.register("halving")
def halving(recipe: Recipe, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """``lr 0.5^(epoch // 20)``: VGG-16's schedule in Table 6, which prints ``%`` for ``//``."""
    return StepLR(optimizer, step_size=20, gamma=0.5)


@SCHEDULES.register("sawtooth")
def sawtooth(recipe: Recipe, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """``lr 0.5^(epoch % 20)``: VGG-16's schedule to the letter of Table 6 (stage 2 has it not)."""
    return LambdaLR(optimizer, lambda epoch: 0.5 ** (epoch % 20))


@SCHEDULES.register("plateau")
def plateau(recipe: Recipe, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """A twentieth after more than two epochs without a lower training loss (Table 6)."""
    return ReduceLROnPlateau(
        optimizer, mode="min", factor=0.05, patience=2, threshold=1e-4, min_lr=0.0, eps=1e-8
    )


@SCHEDULES.register("warm_restarts")
def warm_restarts(recipe: Recipe, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """Half cosines from ``lr`` to 5e-5, each of ``restart_epochs`` or a quarter (Table 7)."""
    period = recipe.restart_epochs or quarter(epochs)
    return CosineAnnealingWarmRestarts(optimizer, T_0=period, eta_min=5e-5)
