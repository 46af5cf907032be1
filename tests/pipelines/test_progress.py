"""What a stage tells of itself and of the whole run."""

from __future__ import annotations

import pytest

from pipelines.config.study import named
from pipelines.dvc import launch, narrow, plan
from pipelines.dvc.narrow import narrowed
from pipelines.engine import progress, spending
from pipelines.engine.progress import EpochProgress


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves on; returns the function that does."""
    now = [1000.0]
    for name in ("monotonic", "time"):
        monkeypatch.setattr(progress.time, name, lambda: now[0])

    def pass_seconds(seconds):
        now[0] += seconds

    return pass_seconds


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.WHOLE_RUN, str(tmp_path / "run"))
    return tmp_path / "run"


def test_stages_side_by_side_tell_how_far_all_are(folder, clock, capsys):
    progress.begin(folder, 400, alike=True)
    with EpochProgress("search", 100) as search, EpochProgress("tune", 200) as tune:
        clock(20)
        search.epoch("one", 40)
        tune.finished("two", 60, kept=True)
        tune.epoch("three", 20)
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "search: 40/100 epochs, 0:30 left; all stages: 40/400, 3:00 left"
    # 60 of these 100 took no time; the other 40 of search and 20 of tune took 20 seconds.
    assert told[1] == "tune: 60/200 epochs; all stages: 100/400, 2:30 left"
    assert told[2].startswith("tune: 60 epochs, 60 kept from earlier runs in 0:20; all stages: ")


def test_a_total_that_is_known_late_has_a_bar_too(monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv(progress.PLAIN_PROGRESS, raising=False)
    with EpochProgress("landscape", 0) as stage:
        assert stage._bar is None
        stage.expect(10)
        stage.finished("one", 4)
        (task,) = stage._bar.tasks
        assert (task.completed, task.total) == (4, 10)


def test_the_time_left_is_that_of_pruned_epochs(folder, clock, capsys):
    """ResNet-18's dense epochs take twenty times as long: by them a run would take days."""
    progress.begin(folder, 120, alike=True)
    with EpochProgress("pretrain", 20, dense=True) as dense:
        clock(2000)
        dense.finished("dense", 20)
    with EpochProgress("search", 100) as search:
        clock(50)
        search.epoch("one", 10)
    told = capsys.readouterr().err.splitlines()
    assert told[1] == "pretrain: 20 epochs in 33:20; all stages: 20/120"
    assert told[2] == "search: 10/100 epochs, 7:30 left; all stages: 30/120, 7:30 left"


def test_a_run_of_pairs_that_differ_tells_no_time(folder, clock, capsys):
    progress.begin(folder, 50, alike=False)
    with EpochProgress("search", 40) as stage:
        clock(20)
        stage.epoch("one", 20)
    assert "20/40 epochs, 0:20 left; all stages: 20/50\n" in capsys.readouterr().err


def test_a_run_begins_at_nothing_again(folder, clock, capsys):
    for _ in range(2):
        progress.begin(folder, 10, alike=True)
        with EpochProgress("search", 10) as stage:
            stage.finished("one", 4)
        assert capsys.readouterr().err == "search: 4 epochs in 0:00; all stages: 4/10, 0:00 left\n"


@pytest.mark.parametrize(("value", "told"), [("1", ""), ("", "search: 4 epochs in 0:00\n")])
def test_a_stage_is_quiet_where_it_is_asked(value, told, monkeypatch, capsys):
    monkeypatch.delenv(progress.WHOLE_RUN, raising=False)
    monkeypatch.setenv(progress.QUIET, value)
    with EpochProgress("search", 10) as stage:
        stage.finished("one", 4)
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("place", [None, "nowhere"])
def test_a_stage_by_itself_tells_of_itself_alone(place, monkeypatch, tmp_path, capsys):
    if place:
        monkeypatch.setenv(progress.WHOLE_RUN, str(tmp_path / place))
    else:
        monkeypatch.delenv(progress.WHOLE_RUN, raising=False)
    with EpochProgress("search", 10) as stage:
        stage.finished("one", 10)
    assert capsys.readouterr().err == "search: 10 epochs in 0:00\n"


@pytest.mark.parametrize("profile", ["quick", "smoke", "readings"])
def test_the_stages_of_a_run_have_together_what_the_plan_says(profile):
    study = named(profile)
    stages = narrow.stages(study) | {f"readings@{pair}" for pair in study.pairs}
    assert launch.epochs(study, stages) == sum(step.epochs for step in plan.steps(study)) > 0
    assert launch.epochs(study, []) == 0


def test_a_part_of_a_run_counts_what_it_trains(monkeypatch):
    whole = named("quick")
    part = narrowed(whole, None, 0.99)
    (pair,) = whole.pairs
    each = whole.pairs[pair].pretrain.epochs + sum(
        spending.stage_epochs(whole, whole.pairs[pair], stage)
        for stage in ("baselines", "search", "tune")
    )
    every, stages = whole.profile.replicates, narrow.stages(part)
    assert launch.epochs(part, stages) == every * each
    monkeypatch.setattr(launch, "left_out", lambda of: {pair: 1})
    assert launch.epochs(part, stages, from_records=True) == (every - 1) * each
    monkeypatch.setattr(launch, "left_out", lambda of: {pair: every})
    assert launch.epochs(part, stages, from_records=True) == 0


@pytest.mark.parametrize("profile", ["readings", "landscape"])
def test_a_run_whose_records_all_stand_has_nothing_to_train(profile, monkeypatch):
    """Its readings and its landscape neither."""
    study = named(profile)
    stages = narrow.stages(study) | {f"readings@{pair}" for pair in study.pairs}
    monkeypatch.setattr(launch, "left_out", lambda of: dict.fromkeys(of.pairs, 1))
    assert 0 < launch.epochs(study, stages, from_records=True) <= launch.epochs(study, stages)
    every = {of.profile.profile: of.profile.replicates for of in study.every}
    monkeypatch.setattr(
        launch, "left_out", lambda of: dict.fromkeys(of.pairs, every[of.profile.profile])
    )
    assert launch.epochs(study, stages, from_records=True) == 0


def test_a_part_with_all_of_a_pairs_ratios_keeps_its_studies():
    whole = named("smoke")
    parts = [narrowed(whole, pair, None) for pair in whole.pairs]
    counted = [launch.epochs(part, narrow.stages(part)) for part in parts]
    assert sum(counted) == sum(s.epochs for s in plan.steps(whole) if s.stage != "readings")
    assert len({part.profile.studies for part in parts}) > 1
