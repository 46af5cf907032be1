"""SMAC3 by ask and tell, made repeatable: the one place that knows SMAC's traps.

Lindauer et al., "SMAC3: A Versatile Bayesian Optimization Package for Hyperparameter Optimization".
The facade for hyperparameter optimisation with its defaults (random forest, log expected
improvement), apart from the initial design. The same proposals follow from the same seed and told
costs only if the process was started with ``PYTHONHASHSEED=0``, since SMAC iterates over sets.
"""

from __future__ import annotations

import logging
import math
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

SOBOL_POINTS = 4
RETRAIN_AFTER = 8
"""How many proposals SMAC takes from one fit of its surrogate unless told otherwise."""
_ONE_AT_A_TIME = threading.Lock()


class SmacSession:
    """A Bayesian optimisation of one space within a number of trials.

    The initial design is ``first``, then four Sobol points (fewer if ``trials`` is less than five);
    it depends on the space and the seed alone. Then SMAC proposes: it fits its surrogate to all
    that was told, takes the next ``retrain_after`` proposals in the order of their expected
    improvement, and only then fits it again. One in five is drawn at random instead.

    Args:
        space: a ConfigSpace space; it is seeded here.
        first: configurations that open the initial design.
        trials: number of trials, the initial design included.
        seed: any non-negative integer.
        retrain_after: proposals from one fit, at least 1.
    """

    def __init__(
        self,
        space: Any,
        first: Iterable[Any],
        trials: int,
        seed: int,
        *,
        retrain_after: int = RETRAIN_AFTER,
    ) -> None:
        logging.getLogger("smac").setLevel(logging.ERROR)
        # SMAC takes 32 bits.
        folded = int(np.random.SeedSequence(seed).generate_state(1)[0])
        # It wants an output folder although nothing is ever saved.
        with _quietly(), TemporaryDirectory(prefix="smac-") as folder:
            scenario = _scenario(space, trials, folded, Path(folder))
            self._smac = _facade(scenario, list(first), retrain_after)
        self._trial: Any = None

    def ask(self) -> Any | None:
        """The next configuration, or ``None`` once the space is exhausted."""
        from smac.main.exceptions import ConfigurationSpaceExhaustedException

        try:
            with _quietly():
                self._trial = self._smac.ask()
        except (StopIteration, ConfigurationSpaceExhaustedException):
            return None
        return self._trial.config

    def tell(self, cost: float, *, failed: bool = False) -> None:
        """The finite cost of the configuration last asked."""
        from smac.runhistory.dataclasses import TrialValue
        from smac.runhistory.enumerations import StatusType

        if not math.isfinite(cost):
            raise ValueError(f"SMAC cannot learn from a cost of {cost}")
        status = StatusType.CRASHED if failed else StatusType.SUCCESS
        self._smac.tell(self._trial, TrialValue(cost=cost, status=status), save=False)


@contextmanager
def _quietly() -> Iterator[None]:
    # SMAC averages an empty list of timings for a log line, and calls what ConfigSpace deprecates.
    # The filter is shared by all threads, hence one at a time.
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _forest(scenario: Any) -> Any:
    """The facade's random forest, in an eighth of its time.

    SMAC's own allows 2^20 leaves per tree, and allocates them, in as many threads as there are
    cores. A tree cannot have more leaves than trials, so the trees are the same.
    """
    from smac.model.random_forest.random_forest import RandomForest

    return RandomForest(
        scenario.configspace,
        ratio_features=1.0,
        log_y=True,
        instance_features=scenario.instance_features,
        seed=scenario.seed,
        min_samples_split=2,
        min_samples_leaf=1,
        max_leaf_nodes=max(2, scenario.n_trials),
        n_jobs=1,
    )


def _scenario(space: Any, trials: int, seed: int, folder: Path) -> Any:
    from smac import Scenario

    return Scenario(
        space,
        deterministic=True,
        n_trials=trials,
        seed=seed,
        output_directory=folder,
        use_default_config=False,
        crash_cost=1.0,
    )


def _facade(scenario: Any, first: list[Any], retrain_after: int) -> Any:
    from smac import HyperparameterOptimizationFacade as Facade
    from smac.initial_design import SobolInitialDesign

    # A quarter of the trials is the default limit of a design; ours has its own.
    sobol = SobolInitialDesign(scenario, n_configs=SOBOL_POINTS, max_ratio=1.0)
    design = [*first, *sobol.select_configurations()][: scenario.n_trials]
    return Facade(
        scenario,
        model=_forest(scenario),
        initial_design=SobolInitialDesign(scenario, n_configs=0, additional_configs=design),
        config_selector=Facade.get_config_selector(scenario, retrain_after=retrain_after),
        logging_level=False,
        overwrite=True,
    )
