"""Schedules against their closed forms and torch's, epoch by epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import torch
from torch.optim import Optimizer
from torch.optim import lr_scheduler as rate
from torch.optim.lr_scheduler import LRScheduler

from safs.settings import SCHEDULES as NAMES
from safs.spec import Recipe
from safs.training.schedules import SCHEDULES, Schedule, build

LR = 0.08
FLOOR = 5e-5


def rates(schedule: Schedule, losses: list[float]) -> list[float]:
    """The learning rate that each epoch trains with."""
    used = []
    for loss in losses:
        used.append(schedule.lr)
        schedule.advance(loss)
    return used


def warm(period: int) -> Callable[[int], float]:
    def rate(epoch: int) -> float:
        return FLOOR + (LR - FLOOR) * (1 + math.cos(math.pi * (epoch % period) / period)) / 2

    return rate


CLOSED: dict[str, Callable[[int, int], float]] = {
    "constant": lambda epoch, epochs: LR,
    "step": lambda epoch, epochs: LR * 0.1 ** (epoch // max(1, epochs // 4)),
    "linear": lambda epoch, epochs: LR * (0.1 + 0.9 * min(epoch, 5) / 5),
    "cosine": lambda epoch, epochs: LR * (1 + math.cos(math.pi * epoch / epochs)) / 2,
    "halving": lambda epoch, epochs: LR * 0.5 ** (epoch // 20),
    "warm_restarts": lambda epoch, epochs: warm(max(1, epochs // 4))(epoch),
}


def test_the_registry_has_the_names_of_the_recipes() -> None:
    assert {*NAMES, "sawtooth"} == set(SCHEDULES)


@pytest.mark.parametrize("epochs", [1, 3, 9, 80])
@pytest.mark.parametrize("name", CLOSED)
def test_rate_of_each_epoch(name: str, epochs: int) -> None:
    schedule = build(Recipe(lr=LR, schedule=name), epochs)
    expected = [CLOSED[name](epoch, epochs) for epoch in range(epochs)]
    assert rates(schedule, [1.0] * epochs) == pytest.approx(expected, rel=1e-14, abs=1e-17)


def test_the_dense_recipe_restarts_after_its_own_period() -> None:
    recipe = Recipe(lr=LR, schedule="warm_restarts", restart_epochs=12)
    expected = [warm(12)(epoch) for epoch in range(50)]
    assert rates(build(recipe, 50), [1.0] * 50) == pytest.approx(expected, abs=1e-15)


def test_plateau_watches_the_training_loss() -> None:
    # The best is 2.0; 1.9999 is not lower by the threshold. Two bad epochs are endured, a third
    # is not; then the count starts anew.
    losses = [3.0, 2.0, 2.5, 1.9999, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    expected = [LR] * 5 + [LR / 20] * 4 + [LR / 400]
    used = rates(build(Recipe(lr=LR, schedule="plateau"), 10), losses)
    assert used == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_schedule_continues_bit_for_bit(name: str) -> None:
    recipe, losses = Recipe(lr=LR, schedule=name), [1.0 + 0.1 * (i % 3) for i in range(30)]
    expected = rates(build(recipe, 30), losses)
    schedule = build(recipe, 30)
    before = rates(schedule, losses[:13])
    state = json.loads(json.dumps(schedule.state()))
    schedule = build(recipe, 30)
    schedule.load(state)
    assert before + rates(schedule, losses[13:]) == expected


TORCH: dict[str, Callable[[Optimizer, int], LRScheduler]] = {
    "constant": lambda o, epochs: rate.LambdaLR(o, lambda epoch: 1.0),
    "step": lambda o, epochs: rate.StepLR(o, max(1, epochs // 4), gamma=0.1),
    "linear": lambda o, epochs: rate.LinearLR(o, start_factor=0.1, total_iters=5),
    "cosine": rate.CosineAnnealingLR,
    "halving": lambda o, epochs: rate.StepLR(o, 20, gamma=0.5),
    "plateau": lambda o, epochs: rate.ReduceLROnPlateau(o, factor=0.05, patience=2),
    "warm_restarts": lambda o, n: rate.CosineAnnealingWarmRestarts(o, max(1, n // 4), eta_min=5e-5),
}


@pytest.mark.parametrize("epochs", [1, 30, 200])
@pytest.mark.parametrize("name", NAMES)
def test_rates_are_those_of_torch(name: str, epochs: int) -> None:
    losses = [2 - 0.02 * min(i, 20) for i in range(epochs)]
    optimizer = torch.optim.SGD([torch.zeros(())], lr=LR)
    schedule, expected = TORCH[name](optimizer, epochs), []
    for loss in losses:
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step(*[loss] * (name == "plateau"))
    used = rates(build(Recipe(lr=LR, schedule=name), epochs), losses)
    assert used == pytest.approx(expected, rel=1e-9, abs=1e-14)
