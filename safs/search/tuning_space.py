"""The hyperparameter space of stage 2 and its tuner (SAFS, section 4.2, equation 6 and Table 4).

The space is Table 4's, widened just enough that the recipe of every dense network is a point of
it: that recipe is the default of the space and always the first trial. Alpha and beta are no part
of it; the optimiser learns them within each trial.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from safs.errors import SafsError
from safs.search.smac_session import SmacSession
from safs.settings import (
    LR,
    MOMENTUM,
    OPTIMIZERS,
    SCHEDULES,
    WEIGHT_DECAY,
    ScheduleFor,
)
from safs.spec import Recipe

SpaceValues = dict[str, str | float]

CRASH_COST = 1.0


def space(dense: Recipe, seed: int, *, schedule_for: ScheduleFor = "all") -> Any:
    """A ConfigSpace ``ConfigurationSpace`` whose default is ``dense``.

    Args:
        dense: the dense network's recipe; batch size, restart period and the rules of Adam and
            TAdam are not searched.
        seed: of the space's own sampling.
        schedule_for: whether the schedule is searched for every optimiser or, as in the released
            code, for SGD alone; the others then keep a constant rate.

    Raises:
        SafsError: a value of ``dense`` lies outside of the space.
    """
    from ConfigSpace import ConfigurationSpace

    default = config_of(dense)
    if schedule_for == "sgd" and dense.optimizer != "sgd" and dense.schedule != "constant":
        raise SafsError(
            f"schedule {dense.schedule!r} with {dense.optimizer}, searched for sgd only"
        )
    built = ConfigurationSpace(seed=seed % 2**32)
    try:
        parts = _hyperparameters(default)
    except ValueError as error:
        raise SafsError(f"the dense recipe is outside of the tuning space: {error}") from error
    built.add(list(parts.values()))
    built.add(_conditions(parts, schedule_for))
    return built


def config_of(recipe: Recipe) -> SpaceValues:
    """The active hyperparameters of ``recipe``, by their names in the space."""
    values: SpaceValues = {
        "optimizer": recipe.optimizer,
        "lr": recipe.lr,
        "schedule": recipe.schedule,
    }
    if recipe.optimizer != "fromage":
        values["decays"] = "on" if recipe.weight_decay else "off"
    if recipe.weight_decay:
        values["weight_decay"] = recipe.weight_decay
    if recipe.optimizer == "sgd":
        values["has_momentum"] = "on" if recipe.momentum else "off"
    if recipe.momentum:
        values["momentum"] = recipe.momentum
    return values


def recipe_of(config: Any, dense: Recipe) -> Recipe:
    """The recipe of a ``Configuration`` of :func:`space`.

    The default configuration is ``dense`` itself, its restart period included. Any other takes the
    batch size of ``dense`` and its rules of Adam and TAdam, and restarts after a quarter of its own
    training.
    """
    if _is_default(config):
        return dense
    return Recipe(
        optimizer=str(config["optimizer"]),
        lr=float(config["lr"]),
        momentum=float(config.get("momentum", 0.0)),
        weight_decay=float(config.get("weight_decay", 0.0)),
        schedule=str(config.get("schedule", "constant")),
        batch_size=dense.batch_size,
        betas=dense.betas,
        tadam=dense.tadam,
    )


def _is_default(config: Any) -> bool:
    default = config.config_space.get_default_configuration()
    return np.array_equal(config.get_array(), default.get_array(), equal_nan=True)


def _hyperparameters(default: SpaceValues) -> dict[str, Any]:
    from ConfigSpace import Categorical, Float

    def choice(name: str, items: tuple[str, ...]) -> Any:
        return Categorical(name, items, default=default.get(name, items[0]))

    def number(name: str, bounds: tuple[float, float], log: bool) -> Any:
        return Float(name, bounds, log=log, default=default.get(name))

    schedules = tuple(dict.fromkeys((*SCHEDULES, str(default["schedule"]))))

    return {
        "optimizer": choice("optimizer", OPTIMIZERS),
        "lr": number("lr", LR, log=True),
        "decays": choice("decays", ("off", "on")),
        "weight_decay": number("weight_decay", WEIGHT_DECAY, log=True),
        "has_momentum": choice("has_momentum", ("off", "on")),
        "momentum": number("momentum", MOMENTUM, log=False),
        "schedule": choice("schedule", schedules),
    }


def _conditions(parts: dict[str, Any], schedule_for: ScheduleFor) -> list[Any]:
    from ConfigSpace import EqualsCondition, InCondition

    decaying = [name for name in OPTIMIZERS if name != "fromage"]
    conditions = [
        InCondition(parts["decays"], parts["optimizer"], decaying),
        EqualsCondition(parts["weight_decay"], parts["decays"], "on"),
        EqualsCondition(parts["has_momentum"], parts["optimizer"], "sgd"),
        EqualsCondition(parts["momentum"], parts["has_momentum"], "on"),
    ]
    if schedule_for == "sgd":
        conditions.append(EqualsCondition(parts["schedule"], parts["optimizer"], "sgd"))
    return conditions


class Tuner:
    """Stage 2's hyperparameter optimisation by ask and tell (SMAC3).

    Trials are the dense recipe, four Sobol points, then SMAC's proposals. The first five are the
    same for every arm of the same dense recipe and seed, whatever they cost. The whole sequence
    follows from the seed and the told costs, provided that the process was started with
    ``PYTHONHASHSEED=0``; so a journal of costs is enough to go on after a kill.

    Args:
        dense: the dense network's recipe.
        trials: number of trials, the dense recipe included.
        seed: any non-negative integer.
        schedule_for: see :func:`space`.

    Raises:
        SafsError: ``dense`` lies outside of the space, or there are no trials.
    """

    def __init__(
        self, dense: Recipe, trials: int, seed: int, *, schedule_for: ScheduleFor = "all"
    ) -> None:
        if trials < 1:
            raise SafsError(f"trials must be at least 1, got {trials}")
        self.dense = dense
        built = space(dense, seed, schedule_for=schedule_for)
        first = [built.get_default_configuration()]
        self._session = SmacSession(built, first, trials, seed)
        self._asked: Recipe | None = None

    def ask(self) -> Recipe:
        """The recipe to train next; the same one until it is told."""
        if self._asked is None:
            config = self._session.ask()
            if config is None:
                raise SafsError("SMAC found no further configuration")
            self._asked = recipe_of(config, self.dense)
        return self._asked

    def tell(self, recipe: Recipe, cost: float, failed: bool = False) -> None:
        """Take in the cost of what was asked: 1 - validation accuracy.

        A failed training counts as a crash of cost 1, whatever ``cost`` is.

        Raises:
            SafsError: ``recipe`` is not the one last asked.
        """
        if self._asked is None or recipe != self._asked:
            raise SafsError(f"told recipe {recipe!r}, asked was {self._asked!r}")
        self._session.tell(CRASH_COST if failed else float(cost), failed=failed)
        self._asked = None
