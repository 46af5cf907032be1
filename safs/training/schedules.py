"""The seven learning rate schedules (SAFS, Tables 4, 6 and 7), one step per epoch.

The paper gives names and, for the dense networks, some values; the others follow the released code
and PyTorch's schedulers. They are closed forms of the epoch in portable arithmetic
(:mod:`safs.exact`), where PyTorch's multiply up from epoch to epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from safs import exact
from safs.registry import Registry
from safs.spec import Recipe


class Schedule(Protocol):
    """The learning rate of the coming epoch."""

    @property
    def lr(self) -> float: ...

    def advance(self, training_loss: float) -> None:
        """End an epoch that had the mean training loss ``training_loss``."""

    def state(self) -> dict[str, Any]:
        """Where it stands, as plain data."""

    def load(self, state: dict[str, Any]) -> None:
        """Go back to a :meth:`state`."""


class Curve:
    """A schedule that depends on the epoch alone.

    Args:
        rate: the learning rate of each 0-based epoch.
    """

    def __init__(self, rate: Callable[[int], float]) -> None:
        self.rate, self.epoch = rate, 0

    @property
    def lr(self) -> float:
        return self.rate(self.epoch)

    def advance(self, training_loss: float) -> None:
        self.epoch += 1

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]


class Plateau:
    """A twentieth after more than two epochs without a lower training loss (Table 6).

    Lower is lower by a ten thousandth of the lowest so far. A rate that would fall by less than
    1e-8 stays.
    """

    FACTOR, PATIENCE, THRESHOLD, LEAST = 0.05, 2, 1e-4, 1e-8

    def __init__(self, lr: float) -> None:
        self.lr, self.best, self.bad = lr, math.inf, 0

    def advance(self, training_loss: float) -> None:
        if training_loss < self.best * (1 - self.THRESHOLD):
            self.best, self.bad = training_loss, 0
        else:
            self.bad += 1
        if self.bad > self.PATIENCE:
            lower = self.lr * self.FACTOR
            self.lr, self.bad = lower if self.lr - lower > self.LEAST else self.lr, 0

    def state(self) -> dict[str, Any]:
        return {"lr": self.lr, "best": self.best, "bad": self.bad}

    def load(self, state: dict[str, Any]) -> None:
        self.lr, self.best, self.bad = state["lr"], state["best"], state["bad"]


ScheduleBuilder = Callable[[Recipe, int], Schedule]
SCHEDULES: Registry[ScheduleBuilder] = Registry("schedule")


def build(recipe: Recipe, epochs: int) -> Schedule:
    """The schedule of ``recipe`` for a training of ``epochs`` epochs, before the first."""
    return SCHEDULES[recipe.schedule](recipe, epochs)


def quarter(epochs: int) -> int:
    """A quarter of the training in whole epochs, at least one."""
    return max(1, epochs // 4)


@SCHEDULES.register("constant")
def constant(recipe: Recipe, epochs: int) -> Schedule:
    """``lr`` throughout."""
    return Curve(lambda epoch: recipe.lr)


@SCHEDULES.register("step")
def step(recipe: Recipe, epochs: int) -> Schedule:
    """A tenth after each quarter of the training."""
    return Curve(lambda epoch: recipe.lr / 10 ** (epoch // quarter(epochs)))


@SCHEDULES.register("linear")
def linear(recipe: Recipe, epochs: int) -> Schedule:
    """From a tenth of ``lr`` to all of it within five epochs."""
    return Curve(lambda epoch: recipe.lr * (0.1 + 0.9 * min(epoch, 5) / 5))


@SCHEDULES.register("cosine")
def cosine(recipe: Recipe, epochs: int) -> Schedule:
    """Half a cosine from ``lr`` to 0; Loshchilov, Hutter, "SGDR"."""
    return Curve(lambda epoch: recipe.lr * _falling(min(epoch, epochs) / epochs))


@SCHEDULES.register("halving")
def halving(recipe: Recipe, epochs: int) -> Schedule:
    """``lr 0.5^(epoch // 20)``: VGG-16's schedule in Table 6, which prints ``%`` for ``//``."""
    return Curve(lambda epoch: recipe.lr / 2 ** (epoch // 20))


@SCHEDULES.register("sawtooth")
def sawtooth(recipe: Recipe, epochs: int) -> Schedule:
    """``lr 0.5^(epoch % 20)``: VGG-16's schedule to the letter of Table 6 (stage 2 has it not)."""
    return Curve(lambda epoch: recipe.lr / 2 ** (epoch % 20))


@SCHEDULES.register("plateau")
def plateau(recipe: Recipe, epochs: int) -> Schedule:
    """See :class:`Plateau`."""
    return Plateau(recipe.lr)


@SCHEDULES.register("warm_restarts")
def warm_restarts(recipe: Recipe, epochs: int) -> Schedule:
    """Half cosines from ``lr`` to 5e-5, each of ``restart_epochs`` or a quarter (Table 7)."""
    period, floor = recipe.restart_epochs or quarter(epochs), 5e-5
    return Curve(lambda epoch: floor + (recipe.lr - floor) * _falling(epoch % period / period))


def _falling(part: float) -> float:
    """Half a cosine from 1 to 0 as ``part`` goes from 0 to 1."""
    return (1 + exact.half_cosine(part)) / 2
