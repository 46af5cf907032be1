"""The landscape behind the interfaces of other benchmark libraries.

A search sees the training loss, the processor time and, at the end of a training, the validation
accuracy; never the test accuracy. A failed training has a finite loss here, worse than every other
of its replicate (:func:`failed_loss`), since a surrogate cannot be fitted to infinity. What the
libraries need is imported when it is asked for: ``pip install 'safs-bench[landscape]'``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.landscape.space import Chromosome
from bench.landscape.table import Landscape, loss_at
from safs.errors import SafsError, UnknownName, shown

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

FIDELITY = "epochs"
"""How the fidelity is called, in every library."""
OBJECTIVES = ("metric_train_loss", "metric_validation_accuracy", "metric_elapsed_time")
"""What a blackbox of Syne Tune has, in this order."""


def failed_loss(table: Landscape, replicate: int = 0) -> float:
    """The loss of a failed training: 1 above the highest of its replicate after any epoch."""
    own = table.frame["replicate"].to_numpy() == replicate
    noted = np.stack([table.frame[loss_at(epoch)].to_numpy()[own] for epoch in table.meta.epochs])
    return float(noted.max(initial=0.0, where=np.isfinite(noted))) + 1.0


class _Seen:
    """What a search may see of a replicate's trainings."""

    def __init__(self, table: Landscape, replicate: int) -> None:
        if replicate not in table.replicates:
            known = ", ".join(map(str, table.replicates))
            raise SafsError(f"replicate {shown(replicate)}: expected one of {known}")
        self.table, self.replicate = table, replicate
        self._failed = failed_loss(table, replicate)

    def __call__(self, configuration: Mapping[str, Any], epochs: Any) -> dict[str, Any]:
        """Cost, seconds, whether it failed and, at the end, validation accuracy (failed: 0)."""
        chromosome = self.table.chromosome(configuration)
        told: dict[str, Any] = self.table.evaluate(chromosome, self.replicate, epochs)
        failed = math.isinf(told["cost"])
        if failed:
            told["cost"] = self._failed
        if failed and "validation_accuracy" in told:
            told["validation_accuracy"] = 0.0
        return told | {"failed": failed}


def carps(table: Landscape, replicate: int = 0, loggers: Sequence[Any] | None = None) -> Any:
    """A replicate as an objective function of CARP-S.

    The budget of a trial is the epochs after which its loss is taken, one of the table's; None is
    the end. Its virtual time is the processor time, 0 where the table does not know it. A failed
    training is a trial that succeeded, at :func:`failed_loss`: some optimisers forget what a
    crashed trial had cost.

    Args:
        table: a landscape.
        replicate: whose mask.
        loggers: of CARP-S.

    Returns:
        A ``carps.objective_functions.objective_function.ObjectiveFunction``.

    Raises:
        SafsError: CARP-S is not installed, or the table has no such replicate.
    """
    _require("CARP-S", "carps")
    from carps.objective_functions.objective_function import ObjectiveFunction
    from carps.utils.trials import TrialInfo, TrialValue

    seen, space, lowest = _Seen(table, replicate), table.configspace(), table.optimum(replicate)[1]

    class LandscapeFunction(ObjectiveFunction):
        """Looks trials up."""

        @property
        def configspace(self) -> ConfigurationSpace:
            return space

        @property
        def f_min(self) -> float:
            return lowest

        def _evaluate(self, trial_info: TrialInfo) -> TrialValue:
            told = seen(trial_info.config, trial_info.budget)
            cost, seconds = told.pop("cost"), told.pop("seconds")
            time = 0.0 if math.isnan(seconds) else seconds
            return TrialValue(cost=cost, virtual_time=time, additional_info=told)

    return LandscapeFunction(None if loggers is None else list(loggers))


def syne_tune(table: Landscape, folder: str | Path) -> Path:
    """Write a table as a blackbox of Syne Tune, with one task that is named as the pair.

    A hyperparameter is a slot; a seed is a replicate, in the order of ``replicates`` in the
    metadata; the fidelity are the epochs. Of the :data:`OBJECTIVES`, the validation accuracy is
    NaN before the end of a training, and the time proportional to the epochs. A failed training
    has :func:`failed_loss` and a validation accuracy of 0.

    Args:
        table: a landscape whose seconds are known: Syne Tune simulates the time.
        folder: of the files; those of an earlier blackbox are replaced.

    Returns:
        The folder, for ``syne_tune.blackbox_repository.blackbox_tabular.deserialize``.

    Raises:
        SafsError: Syne Tune is not installed, or seconds are not known.
    """
    _require("Syne Tune", "syne_tune", "huggingface_hub", "fastparquet")
    from syne_tune.blackbox_repository.blackbox_tabular import BlackboxTabular, serialize
    from syne_tune.config_space import choice, randint

    meta, names = table.meta, chromosomes(table)
    blackbox = BlackboxTabular(
        hyperparameters=pd.DataFrame(names, columns=list(meta.slots)),
        configuration_space={slot: choice(list(table.operators)) for slot in meta.slots},
        fidelity_space={FIDELITY: randint(meta.epochs[0], meta.epochs[-1])},
        objectives_evaluations=evaluations(table, names),
        fidelity_values=np.array(meta.epochs),
        objectives_names=list(OBJECTIVES),
    )
    about = {"landscape": table.digest, "ratio": meta.ratio, "replicates": list(table.replicates)}
    Path(folder).mkdir(parents=True, exist_ok=True)
    serialize({meta.pair: blackbox}, str(folder), about)
    return Path(folder)


def chromosomes(table: Landscape) -> list[Chromosome]:
    """All chromosomes that a search may draw, under all their names."""
    return list(product(table.operators, repeat=len(table.meta.slots)))


def evaluations(table: Landscape, names: Sequence[Chromosome]) -> np.ndarray:
    """``[chromosomes, replicates, epochs, objectives]``: the :data:`OBJECTIVES` of chromosomes.

    Raises:
        SafsError: the table lacks one of them, or its seconds.
    """
    rows = np.array([[table.row(name, r) for r in table.replicates] for name in names])
    seconds, end = table.seconds[rows], table.meta.epochs[-1]
    if not np.isfinite(seconds).all():
        raise SafsError("seconds: not known of every training; expected the file seconds-*.parquet "
                        "beside the table's")  # fmt: skip
    failed = np.array([failed_loss(table, replicate) for replicate in table.replicates])
    found = np.full((*rows.shape, len(table.meta.epochs), len(OBJECTIVES)), np.nan)
    for place, epoch in enumerate(table.meta.epochs):
        loss = table.frame[loss_at(epoch)].to_numpy()[rows]
        found[:, :, place, 0] = np.where(np.isfinite(loss), loss, failed)
        found[:, :, place, 2] = seconds * epoch / end
    accuracy = table.frame["validation_accuracy"].to_numpy()[rows]
    found[:, :, -1, 1] = np.where(np.isfinite(accuracy), accuracy, 0.0)
    return found


class HPOBenchProblem:
    """A replicate with the methods of HPOBench's ``AbstractBenchmark``.

    Args:
        table: a landscape.
        replicate: whose mask.

    Raises:
        SafsError: the table has no such replicate.
    """

    def __init__(self, table: Landscape, replicate: int = 0) -> None:
        self.table, self.replicate = table, replicate
        self._seen = _Seen(table, replicate)
        self.configuration_space = self.get_configuration_space()
        self.fidelity_space = self.get_fidelity_space()

    def objective_function(
        self,
        configuration: Configuration | Mapping[str, Any],
        fidelity: Configuration | Mapping[str, Any] | None = None,
        rng: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The training loss of a configuration: what a search minimises.

        Args:
            configuration: an operator by slot.
            fidelity: ``epochs``; the end where it is not given.
            rng: without effect, since a training is looked up; ``kwargs`` too.

        Returns:
            ``function_value``, the loss, :func:`failed_loss` where the training failed; ``cost``,
            seconds of processor time, NaN where they are not known; ``info``: ``fidelity``, whether
            it ``failed`` and, at the end, ``validation_accuracy``.

        Raises:
            SafsError: the table has no such training.
        """
        epochs = self._epochs(fidelity, kwargs)
        told = self._seen(configuration, epochs)
        value, cost = told.pop("cost"), told.pop("seconds")
        return _result(value, cost, {"fidelity": {FIDELITY: epochs}, **told})

    def objective_function_test(
        self,
        configuration: Configuration | Mapping[str, Any],
        fidelity: Configuration | Mapping[str, Any] | None = None,
        rng: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """1 - test accuracy, for the report of a search that has ended; 1 for a failed training.

        Arguments and result are those of :meth:`objective_function`.

        Raises:
            SafsError: the table has no such training, or the fidelity is not the end.
        """
        epochs, end = self._epochs(fidelity, kwargs), self.table.meta.epochs[-1]
        if epochs != end:
            raise SafsError(f"{FIDELITY} {shown(epochs)}: the test accuracy is known after {end}")
        seconds = self._seen(configuration, end)["seconds"]
        accuracy = self.table.final(self.table.chromosome(configuration), self.replicate)
        return _result(1.0 - accuracy, seconds, {"fidelity": {FIDELITY: end}})

    def __call__(self, configuration: Configuration | Mapping[str, Any], **kwargs: Any) -> float:
        """The value of :meth:`objective_function` alone."""
        return float(self.objective_function(configuration, **kwargs)["function_value"])

    def get_configuration_space(self, seed: int | None = None) -> ConfigurationSpace:
        """A categorical parameter per slot. Raises SafsError without the package ConfigSpace."""
        _require("a space", "ConfigSpace")
        return self.table.configspace(seed)

    def get_fidelity_space(self, seed: int | None = None) -> ConfigurationSpace:
        """The epochs after which there are losses, the end as the default. Raises as above."""
        _require("a space", "ConfigSpace")
        from ConfigSpace import ConfigurationSpace, OrdinalHyperparameter

        epochs, space = self.table.meta.epochs, ConfigurationSpace(seed=seed)
        space.add(OrdinalHyperparameter(FIDELITY, list(epochs), default_value=epochs[-1]))
        return space

    def get_meta_information(self) -> dict[str, Any]:
        """Whose trainings these are."""
        meta = self.table.meta
        return {
            "name": f"landscape of {meta.pair} at {meta.ratio}, replicate {self.replicate}",
            "references": ["Loni, Mohan, Asadi, Lindauer: Learning Activation Functions for "
                           "Sparse Neural Networks. AutoML 2023"],
            "pair": meta.pair, "ratio": meta.ratio, "replicate": self.replicate,
            "digest": self.table.digest,
        }  # fmt: skip

    def _epochs(self, fidelity: Mapping[str, Any] | None, others: Mapping[str, Any]) -> Any:
        if FIDELITY in others:
            raise SafsError(f"{FIDELITY}: expected in fidelity, not as an argument of its own")
        given = {} if fidelity is None else dict(fidelity)
        for name in given:
            if name != FIDELITY:
                raise UnknownName("fidelity", name, [FIDELITY])
        return given.get(FIDELITY, self.table.meta.epochs[-1])


def _result(value: float, cost: float, info: dict[str, Any]) -> dict[str, Any]:
    return {"function_value": value, "cost": cost, "info": info}


def _require(library: str, *packages: str) -> None:
    try:
        for package in packages:
            import_module(package)
    except ImportError as error:
        needed = "pip install 'safs-bench[landscape]'"
        raise SafsError(f"{library} needs the package {error.name}: {needed}") from None
