"""The method's switches reach what they name: a reading's row is not the profile's own."""

from __future__ import annotations

import math

import pytest

from safs.method.stage1 import fitness, stage1
from safs.method.stage2 import stage2, trial
from safs.rows import Trained
from safs.search.tuning_space import CRASH_COST
from safs.settings import Search, Tune
from safs.spec import Recipe

HISTORY = tuple(
    {"epoch": n, "train_loss": loss, "validation_loss": loss + 1, "validation_accuracy": top1}
    for n, (loss, top1) in enumerate([(0.5, 0.6), (0.4, 0.8), (0.3, 0.7)], 1)
)
RESULT = Trained(failure=None, seconds=1.0, backend="dense", history=HISTORY, kept=3)
FAILED = RESULT.model_copy(update={"failure": "NaN in epoch 3"})


@pytest.mark.parametrize(
    ("of", "value"),
    [
        ("training_loss", 0.3),
        ("validation_loss", 1.3),
        ("validation_error", 0.3),
        ("best_validation_error", 0.2),
    ],
)
def test_a_candidates_fitness_is_the_one_that_is_named(of, value):
    assert fitness(RESULT, of) == pytest.approx(value)
    assert fitness(FAILED, of) == math.inf


@pytest.mark.parametrize(("objective", "cost"), [("last", 0.3), ("best", 0.2)])
def test_a_trials_cost_is_of_the_epoch_that_is_named(objective, cost):
    row = trial(0, Recipe(lr=0.1), RESULT, objective, ("relu",))
    assert row.cost == pytest.approx(cost) and row.validation_top1 == pytest.approx(1 - cost)
    assert trial(0, Recipe(lr=0.1), FAILED, objective, ("relu",)).cost == CRASH_COST


@pytest.mark.parametrize("start", ["default", "random"])
def test_stage_1_starts_where_its_settings_say(start):
    asked = []
    spec = Search(moves=1, epochs=3, operators=("tanh", "elu"), start=start)
    stage1(spec, ("relu", "relu"), 0, lambda chromosome: asked.append(chromosome) or RESULT)
    assert (asked[0] == ("relu", "relu")) == (start == "default")


@pytest.mark.parametrize("schedule_for", ["all", "sgd"])
def test_stage_2_gives_schedules_to_the_optimisers_that_its_settings_say(schedule_for):
    asked = []
    spec = Tune(trials=12, epochs=3, schedule_for=schedule_for)
    dense = Recipe(lr=0.1)
    stage2(spec, dense, 0, lambda recipe: asked.append(recipe) or RESULT, ("relu",), scaled=True)
    others = {recipe.schedule for recipe in asked if recipe.optimizer != "sgd"}
    assert (others == {"constant"}) == (schedule_for == "sgd")
