"""A training whose worker dies twice is a failed row, and never finished work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines import compute
from pipelines.config.profile import Studies
from pipelines.config.study import Study, load
from pipelines.dvc.launch import forget_the_dead
from pipelines.stages import baselines, evaluate, pretrain, prune, search, tune

ROOT = Path(__file__).parents[2]
PAIR, RATIO = "lenet5_generated", 0.9
REASON = "its worker died twice: killed by signal 9 (SIGKILL)"


@pytest.fixture
def study(monkeypatch, tmp_path) -> Study:
    """The smoke profile's LeNet-5 with three arms and one replicate, trained in this process."""
    monkeypatch.setenv("SAFS_WORKERS", "0")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    whole = load(Path("pipelines/profiles/smoke/params.yaml"), ROOT)
    profile = whole.profile.model_copy(
        update={
            "pairs": (PAIR,),
            "cells": {"only": whole.profile.cells[f"{PAIR}-0.90"]},
            "studies": Studies(),
            "arms": ("vanilla", "stage1_only", "safs"),
            "replicates": 1,
        }
    )
    monkeypatch.chdir(tmp_path)
    return Study(profile=profile, pairs={PAIR: whole.pairs[PAIR]})


@pytest.fixture
def deaths(monkeypatch):
    """Trainings to lose: the test puts ``(phase, number)`` into it."""
    lost: set[tuple[str, int]] = set()
    seen: dict[str, int] = {}
    run = compute.Pool.run

    def dying(pool, function, *arguments, place=None):
        if function.__name__ == "train":
            phase = arguments[0].phase
            seen[phase] = seen.get(phase, -1) + 1
            if (phase, seen[phase]) in lost:
                raise compute.WorkerDied(REASON)
        return run(pool, function, *arguments, place=place)

    monkeypatch.setattr(compute.Pool, "run", dying)
    return lost


def run_all(study: Study) -> None:
    pretrain.run(study, PAIR)
    for stage in (prune, baselines, search, tune):
        stage.run(study, PAIR, RATIO)
    evaluate.run(study, PAIR)


def content(stage: str, name: str) -> dict:
    at = "" if stage == "evaluate" else f"{RATIO}/"
    return json.loads(Path(f"runs/smoke/{stage}/{PAIR}/{at}{name}.json").read_text())


def recorded() -> set[str]:
    return {path.stem for path in Path(f"runs/smoke/evaluate/{PAIR}").glob("*.json")}


ARMS = {f"{arm}-{RATIO}-r0" for arm in ("vanilla", "stage1_only", "safs")}


@pytest.mark.parametrize(
    ("phase", "missing"),
    [("dense", ARMS | {"dense-r0"}), ("tune", {f"safs-{RATIO}-r0"})],
)
def test_what_rests_on_a_death_has_no_record_until_it_is_tried_again(study, deaths, phase, missing):
    """The dense training, and a trial beside others that went well."""
    deaths |= {(phase, 0)}
    run_all(study)
    assert recorded() == (ARMS | {"dense-r0"}) - missing
    run_all(study)
    assert recorded() == ARMS | {"dense-r0"}
    assert {row["reason"] for row in content("evaluate", f"safs-{RATIO}-r0")["finals"]} == {None}


def test_the_pipeline_goes_on_and_a_rerun_tries_again(study, deaths, capsys):
    """The final training of vanilla and one candidate of the search die with their workers."""
    deaths |= {("final", 0), ("search", 1)}
    run_all(study)
    assert f"baselines {PAIR} 0.9: {REASON}" in capsys.readouterr().err
    assert recorded() == {"dense-r0"}, "a death is no failure: these runs are missing"
    assert content("tune", "safs-r0")["result"]["failure"] is None, "what followed was trained"
    rows = content("search", "search-r0")["trace"]["evaluations"]
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert rows[1]["reason"] == REASON
    run_all(study)
    assert content("evaluate", f"vanilla-{RATIO}-r0")["finals"][0]["reason"] is None
    rows = content("search", "search-r0")["trace"]["evaluations"]
    assert [row["status"] for row in rows] == ["ok", "ok", "ok"]


def test_only_what_died_is_trained_again(study, deaths, monkeypatch):
    deaths |= {("search", 1)}
    run_all(study)
    finished = content("baselines", "vanilla-r0")
    journal = next(Path("scratch/search").glob("*/trainings.jsonl"))
    before = journal.read_text()
    assert len(before.splitlines()) == 2, "the lost candidate is not in the journal"
    search.run(study, PAIR, RATIO)
    after = journal.read_text()
    assert after.startswith(before)
    assert len(after.splitlines()) == 3, "the two that ended are not trained again"
    baselines.run(study, PAIR, RATIO)
    assert content("baselines", "vanilla-r0") == finished


def test_the_launcher_has_dvc_run_the_stages_of_the_dead_again(study, deaths):
    deaths |= {("final", 0)}
    run_all(study)
    kept = Path(f"runs/smoke/search/{PAIR}/{RATIO}/stage1_only-r0.json")
    forget_the_dead(Path("runs/smoke"))
    assert not Path(f"runs/smoke/baselines/{PAIR}/{RATIO}/vanilla-r0.json").exists()
    assert kept.exists()
