"""Stage 2's space: every dense recipe is its default; and the tuner's sequence of trials."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from typing import Any

import pytest

from safs.errors import SafsError
from safs.search import smac_session
from safs.search.tuning_space import Tuner, config_of, recipe_of, space
from safs.settings import LR, MOMENTUM, OPTIMIZERS, SCHEDULES, WEIGHT_DECAY
from safs.spec import Recipe

DENSE = {
    "lenet5": Recipe(lr=0.1),
    "vgg16": Recipe(lr=0.001, momentum=0.9, weight_decay=5e-4, schedule="halving"),
    "resnet18_cifar10": Recipe(lr=0.01, momentum=0.9, weight_decay=5e-4, schedule="plateau"),
    "resnet18_imagenet16": Recipe(
        lr=0.1, momentum=0.9, weight_decay=5e-4, schedule="warm_restarts", restart_epochs=12
    ),
    "efficientnet_b0": Recipe(
        lr=0.01, momentum=0.9, weight_decay=5e-4, schedule="warm_restarts", restart_epochs=12,
        batch_size=128,
    ),
    "as_released": Recipe(
        optimizer="adam", lr=1e-3, weight_decay=5e-4, betas="as_released", tadam="as_released"
    ),
}  # fmt: skip

every_dense = pytest.mark.parametrize("dense", DENSE.values(), ids=DENSE)


def sampled(dense: Recipe, count: int = 300, **options: Any) -> list[Recipe]:
    built = space(dense, 0, **options)
    return [recipe_of(config, dense) for config in built.sample_configuration(count)]


@every_dense
def test_the_default_is_the_dense_recipe_itself(dense: Recipe) -> None:
    assert recipe_of(space(dense, 0).get_default_configuration(), dense) == dense


@every_dense
def test_active_values_go_there_and_back(dense: Recipe) -> None:
    from ConfigSpace import Configuration

    built = space(dense, 0)
    for config in built.sample_configuration(50):
        recipe = recipe_of(config, dense)
        assert recipe_of(Configuration(built, config_of(recipe)), dense) == recipe


def test_every_choice_is_sampled_within_its_bounds() -> None:
    recipes = sampled(DENSE["efficientnet_b0"])
    assert {r.optimizer for r in recipes} == set(OPTIMIZERS)
    assert {(r.optimizer, r.schedule) for r in recipes} == {
        (o, s) for o in OPTIMIZERS for s in SCHEDULES
    }
    assert all(LR[0] <= r.lr <= LR[1] for r in recipes)
    assert {r.weight_decay > 0 for r in recipes if r.optimizer == "tadam"} == {True, False}
    assert {r.momentum > 0 for r in recipes if r.optimizer == "sgd"} == {True, False}
    decays = [r.weight_decay for r in recipes if r.weight_decay]
    assert all(WEIGHT_DECAY[0] <= d <= WEIGHT_DECAY[1] for d in decays)
    momenta = [r.momentum for r in recipes if r.momentum]
    assert all(MOMENTUM[0] <= m <= MOMENTUM[1] for m in momenta)
    assert all(r.batch_size == 128 and r.restart_epochs is None for r in recipes)


def test_the_rules_of_adam_and_tadam_are_the_dense_recipes_in_every_trial() -> None:
    for dense in DENSE.values():
        assert {(r.betas, r.tadam) for r in sampled(dense, 50)} == {(dense.betas, dense.tadam)}


def test_rates_and_decays_are_logarithmic() -> None:
    recipes = sampled(DENSE["lenet5"], 2000)
    middle = sorted(r.lr for r in recipes)[1000]
    assert math.log10(middle) == pytest.approx(-2.5, abs=0.15)
    decays = sorted(r.weight_decay for r in recipes if r.weight_decay)
    assert math.log10(decays[len(decays) // 2]) == pytest.approx(-3, abs=0.25)


def test_schedules_can_be_left_to_sgd() -> None:
    recipes = sampled(DENSE["lenet5"], schedule_for="sgd")
    assert {r.schedule for r in recipes if r.optimizer == "sgd"} == set(SCHEDULES)
    assert {r.schedule for r in recipes if r.optimizer != "sgd"} == {"constant"}


@pytest.mark.parametrize(
    "dense, options, message",
    [
        (Recipe(lr=0.5), {}, "lr"),
        (Recipe(lr=0.01, momentum=0.05), {}, "momentum"),
        (Recipe(lr=0.01, weight_decay=0.5), {}, "weight_decay"),
        (
            Recipe(optimizer="adam", lr=0.01, schedule="step"),
            {"schedule_for": "sgd"},
            "schedule 'step' with adam",
        ),
    ],
)
def test_a_dense_recipe_outside_of_the_space_is_an_error(
    dense: Recipe, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SafsError, match=message):
        space(dense, 0, **options)


# The tuner


def drive(tuner: Tuner, trials: int) -> list[Recipe]:
    """Ask and tell with costs that follow from the recipe alone; every sixth trial crashes."""
    asked = []
    for index in range(trials):
        recipe = tuner.ask()
        cost = min(1.0, abs(math.log10(recipe.lr) + 1.7) / 3)
        tuner.tell(recipe, cost, failed=index % 6 == 5)
        asked.append(recipe)
    return asked


def test_the_dense_recipe_then_the_same_four_whatever_they_cost() -> None:
    first, second = (Tuner(DENSE["vgg16"], 20, seed=5) for _ in range(2))
    asked = drive(first, 5)
    assert asked[0] == DENSE["vgg16"]
    assert len({repr(r) for r in asked}) == 5
    for recipe in asked:
        assert second.ask() == recipe
        second.tell(recipe, 0.9, failed=True)


@pytest.mark.parametrize("trials", [1, 2, 4])
def test_small_budgets_ask_the_beginning_of_the_same_design(trials: int) -> None:
    whole = drive(Tuner(DENSE["lenet5"], 20, seed=7), 5)
    assert drive(Tuner(DENSE["lenet5"], trials, seed=7), trials) == whole[:trials]


def test_no_recipe_is_asked_twice_and_seeds_differ() -> None:
    asked = drive(Tuner(DENSE["lenet5"], 16, seed=1), 16)
    assert len({repr(r) for r in asked}) == 16
    assert drive(Tuner(DENSE["lenet5"], 16, seed=2), 2)[1] != asked[1]


def test_a_tuner_of_crashes_goes_on() -> None:
    tuner = Tuner(DENSE["lenet5"], 8, seed=1)
    for _ in range(8):
        tuner.tell(tuner.ask(), math.nan, failed=True)


def test_the_small_forest_proposes_what_the_facade_s_own_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from smac import HyperparameterOptimizationFacade

    small = drive(Tuner(DENSE["vgg16"], 8, seed=5), 8)
    monkeypatch.setattr(smac_session, "_forest", HyperparameterOptimizationFacade.get_model)
    assert drive(Tuner(DENSE["vgg16"], 8, seed=5), 8) == small


def test_only_the_asked_recipe_is_told() -> None:
    tuner = Tuner(DENSE["lenet5"], 3, seed=1)
    with pytest.raises(SafsError, match="asked was"):
        tuner.tell(DENSE["lenet5"], 0.5)
    assert tuner.ask() == tuner.ask() == DENSE["lenet5"]
    with pytest.raises(SafsError, match="asked was"):
        tuner.tell(DENSE["vgg16"], 0.5)


def test_a_tuner_needs_a_trial() -> None:
    with pytest.raises(SafsError, match="trials must be at least 1, got 0"):
        Tuner(DENSE["lenet5"], 0, seed=1)


def test_logging_of_others_is_left_alone() -> None:
    before = list(logging.getLogger().handlers)
    Tuner(DENSE["lenet5"], 2, seed=1)
    assert logging.getLogger().handlers == before


# The same trials alone, in threads beside each other, and in a later process

THREADS = """
import json, sys, threading
sys.path.insert(0, sys.argv[1])
from test_tuning_space import DENSE, drive
from safs.search.tuning_space import Tuner

jobs = [(DENSE["lenet5"], 1), (DENSE["vgg16"], 2), (DENSE["efficientnet_b0"], 1)]

def trials(index):
    dense, seed = jobs[index]
    found[index] = [r.model_dump() for r in drive(Tuner(dense, 8, seed), 8)]

found = {}
threads = [threading.Thread(target=trials, args=(i,)) for i in range(len(jobs))]
[t.start() for t in threads], [t.join() for t in threads]
beside = dict(sorted(found.items()))
if sys.argv[2] == "both":
    [trials(i) for i in range(len(jobs))]
    assert found == beside, "alone and beside others differ"
assert "torch" not in sys.modules
print(json.dumps(beside))
"""


def test_threads_and_later_processes_repeat_the_trials(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    environment = os.environ | {"PYTHONHASHSEED": "0", "TMPDIR": str(scratch)}

    def run(mode: str) -> subprocess.CompletedProcess[str]:
        here = os.path.dirname(__file__)  # noqa: PTH120
        command = [sys.executable, "-c", THREADS, here, mode]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    first, second = run("both"), run("threads")
    assert first.stdout == second.stdout
    assert [len(asked) for asked in json.loads(first.stdout).values()] == [8] * 3
    assert first.stderr == ""  # SMAC is quiet
    assert list(scratch.iterdir()) == []  # and leaves nothing behind
