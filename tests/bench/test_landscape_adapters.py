"""A landscape behind CARP-S, Syne Tune and HPOBench: the same values, and never the test's."""

from __future__ import annotations

import json
import math
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_landscape import synthetic_landscape

from bench.landscape import adapters
from bench.landscape.adapters import HPOBenchProblem, failed_loss
from bench.landscape.table import Landscape, loss_at
from safs.errors import SafsError

INSTALL = r"pip install 'safs-bench\[landscape\]'"
CHROMOSOME = ("srs", "acon", "tanh", "swish")


@pytest.fixture(scope="module")
def table() -> Landscape:
    return synthetic_landscape()


def configuration(table: Landscape, chromosome=CHROMOSOME) -> dict[str, str]:
    return dict(zip(table.meta.slots, chromosome, strict=True))


def failing(table: Landscape, replicate: int = 0) -> list[tuple[int, dict[str, str]]]:
    """The epoch in which each failed training of a replicate failed, and its configuration."""
    rows = table.frame.query("replicate == @replicate and failed_epoch > 0 and order == 0")
    return [
        (epoch, configuration(table, table.space.chromosome(index)))
        for epoch, index in zip(rows["failed_epoch"], rows["index"].tolist(), strict=True)
    ]


def test_a_failed_training_is_worse_than_every_other(table):
    for replicate in table.replicates:
        own = table.frame[table.frame["replicate"] == replicate]
        losses = own[[loss_at(epoch) for epoch in table.meta.epochs]].to_numpy()
        assert failed_loss(table, replicate) == pytest.approx(np.nanmax(losses) + 1)


# HPOBench


def test_a_problem_of_hpobench_gives_loss_and_seconds(table):
    problem = HPOBenchProblem(table, replicate=1)
    told = table.evaluate(CHROMOSOME, 1)
    assert problem.objective_function(configuration(table)) == {
        "function_value": told["cost"],
        "cost": told["seconds"],
        "info": {
            "fidelity": {"epochs": 80},
            "failed": False,
            "validation_accuracy": told["validation_accuracy"],
        },
    }
    assert problem(configuration(table)) == told["cost"]


def test_a_problem_of_hpobench_has_fidelities(table):
    problem = HPOBenchProblem(table)
    space = problem.get_fidelity_space(seed=1)
    assert list(space["epochs"].sequence) == [10, 20, 40, 80]
    assert space.get_default_configuration()["epochs"] == 80
    early = problem.objective_function(configuration(table), {"epochs": 10}, rng=3)
    assert early["function_value"] == table.evaluate(CHROMOSOME, 0, 10)["cost"]
    assert early["cost"] == pytest.approx(table.evaluate(CHROMOSOME)["seconds"] / 8)
    assert early["info"] == {"fidelity": {"epochs": 10}, "failed": False}


def test_configurations_of_both_spaces_can_be_given(table):
    problem = HPOBenchProblem(table)
    space = problem.get_configuration_space(seed=5)
    assert tuple(space) == table.meta.slots
    assert all(space[slot].choices == ("acon", "srs", "swish", "tanh") for slot in space)
    for drawn, fidelity in zip(
        space.sample_configuration(20),
        problem.get_fidelity_space(seed=5).sample_configuration(20),
        strict=True,
    ):
        found = problem.objective_function(drawn, fidelity)
        expected = table.evaluate(table.chromosome(drawn), 0, fidelity["epochs"])["cost"]
        assert found["function_value"] == expected or math.isinf(expected)


def test_a_failed_training_of_hpobench_has_a_loss(table):
    problem = HPOBenchProblem(table)
    early, late = sorted(failing(table), key=lambda each: each[0])
    for epoch, chosen in (early, late):
        found = problem.objective_function(chosen)
        assert found["function_value"] == failed_loss(table, 0)
        assert found["info"] == {
            "fidelity": {"epochs": 80}, "failed": True, "validation_accuracy": 0.0,
        }  # fmt: skip
        first = problem.objective_function(chosen, {"epochs": 10})
        assert first["info"]["failed"] is (epoch <= 10)
        assert (first["function_value"] == failed_loss(table, 0)) is (epoch <= 10)
        assert problem.objective_function_test(chosen)["function_value"] == 1.0


def test_the_test_accuracy_is_told_by_the_function_of_the_test_alone(table):
    problem = HPOBenchProblem(table, replicate=1)
    accuracy = table.final(CHROMOSOME, 1)
    tested = problem.objective_function_test(configuration(table))
    assert tested["function_value"] == 1 - accuracy
    shown = problem.objective_function(configuration(table))
    assert accuracy not in (shown["function_value"], shown["cost"], *shown["info"].values())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"fidelity": {"epochs": 11}}, "epochs 11: expected one of 10, 20, 40, 80"),
        ({"fidelity": {"epoch": 10}}, "unknown fidelity 'epoch'; did you mean 'epochs'"),
        ({"epochs": 10}, "epochs: expected in fidelity"),
        ({"configuration": {"conv1": "srs"}}, "configuration without conv2"),
    ],
)
def test_what_a_problem_of_hpobench_cannot_answer_is_named(table, call, message):
    call = {"configuration": configuration(table)} | call
    for function in ("objective_function", "objective_function_test"):
        with pytest.raises(SafsError) as raised:
            getattr(HPOBenchProblem(table), function)(**call)
        expected = "epochs 11: the test" if "11" in message and "_test" in function else message
        assert str(raised.value).startswith(expected)


def test_a_replicate_that_is_not_there_is_named(table):
    with pytest.raises(SafsError, match=r"^replicate 2: expected one of 0, 1$"):
        HPOBenchProblem(table, replicate=2)


def test_the_information_names_the_table(table):
    told = HPOBenchProblem(table, 1).get_meta_information()
    assert told["name"] == "landscape of lenet5_mnist5k at 0.99, replicate 1"
    assert told["digest"] == table.digest


# Syne Tune


def test_the_values_of_a_blackbox_are_the_rows(table):
    names = adapters.chromosomes(table)
    found = adapters.evaluations(table, names)
    assert found.shape == (4**4, 2, 4, 3)
    at = names.index(CHROMOSOME)
    for replicate in table.replicates:
        for place, epoch in enumerate(table.meta.epochs):
            told = table.evaluate(CHROMOSOME, replicate, epoch)
            loss, accuracy, seconds = found[at, replicate, place]
            assert (loss, seconds) == pytest.approx((told["cost"], told["seconds"]))
            assert np.array_equal([accuracy], [told.get("validation_accuracy", np.nan)], True)
    assert np.array_equal(found[at], found[names.index(("srs", "swish", "tanh", "acon"))], True)
    assert np.isfinite(found[..., [0, 2]]).all()
    assert (np.diff(found[..., 2], axis=2) > 0).all()


def test_a_blackbox_has_losses_of_failed_trainings_and_no_test_accuracy(table):
    names = adapters.chromosomes(table)
    found = adapters.evaluations(table, names)
    for replicate in table.replicates:
        for epoch, chosen in failing(table, replicate):
            own = found[names.index(tuple(chosen.values())), replicate]
            assert (own[:, 0] == failed_loss(table, replicate)).tolist() == [
                known >= epoch for known in table.meta.epochs
            ]
            assert own[-1, 1] == 0
    test = table.frame["test_accuracy"].dropna().to_numpy()
    validation = table.frame["validation_accuracy"].to_numpy()
    assert not np.isin(np.setdiff1d(test, validation).astype(float), found).any()


def test_a_blackbox_needs_seconds(table):
    unknown = Landscape(table.meta, table.frame)
    with pytest.raises(SafsError, match=r"^seconds: not known of every training; expected"):
        adapters.evaluations(unknown, adapters.chromosomes(unknown)[:2])


# Without the libraries


@pytest.mark.parametrize(
    ("library", "package", "make"),
    [
        ("CARP-S", "carps", lambda table, folder: adapters.carps(table)),
        ("Syne Tune", "syne_tune", adapters.syne_tune),
        ("Syne Tune", "fastparquet", adapters.syne_tune),
    ],
)
def test_a_library_that_is_not_there_is_named(table, tmp_path, monkeypatch, library, package, make):
    for name in {"carps", "syne_tune", "huggingface_hub"} - {package}:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SafsError, match=f"^{library} needs the package {package}: {INSTALL}$"):
        make(table, tmp_path / "blackbox")
    assert not list(tmp_path.iterdir())


class ObjectiveFunction:
    """Of CARP-S, as far as the adapter knows it."""

    def __init__(self, loggers: Any = None) -> None:
        self.loggers = loggers


def test_nothing_but_the_interface_of_carps_is_used(table, monkeypatch):
    """The adapter with a class and two records in the place of CARP-S."""
    names = ["carps", "carps.objective_functions", "carps.utils"]
    names += ["carps.objective_functions.objective_function", "carps.utils.trials"]
    fakes = {name: ModuleType(name) for name in names}
    fakes[names[3]].ObjectiveFunction = ObjectiveFunction  # type: ignore[attr-defined]
    fakes[names[4]].TrialInfo = fakes[names[4]].TrialValue = dict  # type: ignore[attr-defined]
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    function = adapters.carps(table, 1, loggers=("a",))
    assert function.loggers == ["a"]
    assert function.f_min == table.optimum(1)[1]
    assert set(function.configspace) == set(table.meta.slots)
    trial = pd.Series({"config": configuration(table), "budget": 20.0})
    told = table.evaluate(CHROMOSOME, 1, 20)
    assert function._evaluate(trial) == {
        "cost": told["cost"],
        "virtual_time": told["seconds"],
        "additional_info": {"failed": False},
    }


# With the libraries


def trials(table: Landscape, count: int, **budget: float) -> list[Any]:
    """Random trials of CARP-S."""
    from carps.utils.trials import TrialInfo

    drawn = table.configspace(seed=1).sample_configuration(count)
    return [TrialInfo(config=each, **budget) for each in drawn]


def test_carps_looks_trials_up(table):
    pytest.importorskip("carps")
    function = adapters.carps(table, 1)
    for trial in trials(table, 30) + trials(table, 30, budget=20):
        told = table.evaluate(table.chromosome(trial.config), 1, trial.budget)
        found = function.evaluate(trial)
        assert found.virtual_time == told["seconds"]
        assert found.cost == (
            told["cost"] if math.isfinite(told["cost"]) else failed_loss(table, 1)
        )
        assert found.cost >= function.f_min or trial.budget
    assert function.n_function_calls == 60
    with pytest.raises(SafsError, match=r"^epochs 26\.7: expected one of 10, 20, 40, 80$"):
        function.evaluate(trials(table, 2, budget=26.7)[0])


def test_carps_keeps_failed_trials_and_lacks_time_without_seconds(table):
    pytest.importorskip("carps")
    from carps.utils.trials import StatusType, TrialInfo

    unknown = adapters.carps(Landscape(table.meta, table.frame))
    for _, chosen in failing(table):
        found = unknown.evaluate(TrialInfo(config=unknown.configspace.get_default_configuration()))
        assert (found.virtual_time, found.status) == (0.0, StatusType.SUCCESS)
        found = unknown.evaluate(TrialInfo(config=chosen))
        assert (found.cost, found.status) == (failed_loss(table), StatusType.SUCCESS)
        assert found.additional_info == {"failed": True, "validation_accuracy": 0.0}


def test_an_optimiser_of_carps_searches_a_landscape(table):
    pytest.importorskip("carps")
    from carps.optimizers.random_search import RandomSearchOptimizer
    from carps.utils.task import (
        InputSpace,
        OptimizationResources,
        OutputSpace,
        Task,
        TaskMetadata,
    )

    function = adapters.carps(table)
    function.configspace.seed(3)
    task = Task(
        name="landscape",
        objective_function=function,
        input_space=InputSpace(function.configspace),
        output_space=OutputSpace(),
        optimization_resources=OptimizationResources(n_trials=21),
        metadata=TaskMetadata(),
    )
    search = RandomSearchOptimizer(task)
    trial, value = search.run()
    assert len(search.history) == 21
    assert value.cost == min(each.cost for _, each in search.history)
    assert value.cost == table.evaluate(table.chromosome(trial.config))["cost"]
    spent = sum(each.virtual_time for _, each in search.history)
    assert search.virtual_time_elapsed_seconds == pytest.approx(spent)


@pytest.fixture
def blackbox(table: Landscape, tmp_path, monkeypatch) -> Any:
    """The table as Syne Tune reads it."""
    for package in ("syne_tune", "fastparquet", "huggingface_hub"):
        pytest.importorskip(package)
    from syne_tune.blackbox_repository.blackbox_tabular import deserialize

    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path / "results"))
    (found,) = deserialize(adapters.syne_tune(table, tmp_path / "a/folder")).items()
    assert found[0] == "lenet5_mnist5k"
    return found[1]


def test_syne_tune_reads_what_is_written(table, blackbox, tmp_path):
    assert blackbox.fidelity_values.tolist() == [10, 20, 40, 80]
    assert tuple(blackbox.configuration_space) == table.meta.slots
    assert blackbox.configuration_space["fc2"].categories == ["acon", "srs", "swish", "tanh"]
    assert len(blackbox.all_configurations()) == 256
    found = blackbox(configuration(table), fidelity={"epochs": 80}, seed=1)
    told = table.evaluate(CHROMOSOME, 1)
    assert tuple(found) == adapters.OBJECTIVES
    assert found["metric_train_loss"] == told["cost"]
    assert found["metric_validation_accuracy"] == told["validation_accuracy"]
    assert found["metric_elapsed_time"] == pytest.approx(told["seconds"])
    about = json.loads((tmp_path / "a/folder/metadata.json").read_text())
    assert (about["landscape"], about["replicates"]) == (table.digest, [0, 1])


@pytest.mark.parametrize("name", ["RandomSearch", "ASHA"])
def test_a_scheduler_of_syne_tune_searches_a_blackbox(table, blackbox, name):
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend.simulator_backend.simulator_callback import SimulatorCallback
    from syne_tune.blackbox_repository import UserBlackboxBackend
    from syne_tune.experiments import load_experiment
    from syne_tune.optimizer import baselines

    space = blackbox.configuration_space
    schedulers = {
        "RandomSearch": lambda: baselines.RandomSearch(
            space, metrics=["metric_train_loss"], random_seed=4
        ),
        "ASHA": lambda: baselines.ASHA(
            space, metric="metric_train_loss", time_attr="epochs", max_t=80, grace_period=10,
            reduction_factor=2, random_seed=4,
        ),
    }  # fmt: skip
    tuner = Tuner(
        trial_backend=UserBlackboxBackend(
            blackbox, elapsed_time_attr="metric_elapsed_time", seed=1
        ),
        scheduler=schedulers[name](),
        stop_criterion=StoppingCriterion(max_num_trials_finished=10),
        n_workers=2,
        sleep_time=0,
        callbacks=[SimulatorCallback()],
        save_tuner=False,
        suffix_tuner_name=False,
        tuner_name=name,
    )
    tuner.run()
    rows = load_experiment(name).results
    assert set(rows["epochs"]) == {10, 20, 40, 80}
    assert rows["trial_id"].nunique() >= 10
    for _, row in rows.iterrows():
        chosen = {slot: row[f"config_{slot}"] for slot in table.meta.slots}
        told = table.evaluate(table.chromosome(chosen), 1, int(row["epochs"]))["cost"]
        expected = told if math.isfinite(told) else failed_loss(table, 1)
        assert row["metric_train_loss"] == pytest.approx(expected)
