"""What a launch asks of DVC: all of a profile or a part, and what records may stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.config.study import named
from pipelines.dvc import launch, narrow
from pipelines.dvc.narrow import narrowed
from pipelines.engine import recorded
from safs import sealed


@pytest.fixture
def asked(checkout, monkeypatch):
    """What DVC is asked for."""
    calls = []
    monkeypatch.setattr(launch, "preflight", lambda study: None)
    monkeypatch.setattr(launch.repository, "commit", lambda: "abc1234")
    monkeypatch.setattr(launch.dvc_process, "mend", lambda lock: None)
    monkeypatch.setattr(
        launch.side_by_side,
        "run",
        lambda target, jobs, variables, held, only, begin: calls.append((variables, only)) or 0,
    )
    monkeypatch.setattr(narrow, "evaluate", lambda study, variables: calls.append(study) or 0)
    return calls


@pytest.mark.parametrize("going_on", [False, True])
def test_records_stand_only_where_that_is_asked(asked, going_on):
    note = Path("runs/quick/evaluate/lenet5_mnist5k/recorded-r0.json")
    sealed.write(note, {"records": "results/quick/records/lenet5_mnist5k/r0.json"})
    assert launch.launch(named("quick"), launch.Options(quiet=True, from_records=going_on)) == 0
    ((variables, only),) = asked
    assert note.exists() == going_on, "without it DVC runs the stage, which trains the replicate"
    assert bool(variables[recorded.ASKED]) == going_on and only is None


def test_a_part_runs_its_own_stages_and_publishes_nothing(asked):
    part = narrowed(named("quick"), None, 0.99)
    assert launch.launch(part, launch.Options(quiet=True, narrow=True)) == 0
    (_, only), evaluated = asked
    assert only == narrow.stages(part) and evaluated is part
    assert not {stage.partition("@")[0] for stage in only} & {"records", "tables", "report"}
