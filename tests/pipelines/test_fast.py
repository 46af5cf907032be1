"""The stage of the cheap search, in this process: what it spends, keeps, continues and reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.records.record import Record
from pipelines.config.profile import Cell, Studies
from pipelines.config.study import Study, load
from pipelines.dvc.plan import steps
from pipelines.engine.spending import run_epochs
from pipelines.engine.work import Work
from pipelines.results.publishing import published
from pipelines.stages import evaluate, fast, pretrain, prune, records, search, tables
from pipelines.tasks import training
from pipelines.tasks.shared import WEIGHTS
from safs.errors import SafsError
from safs.spec import Recipe

ROOT = Path(__file__).parents[2]
PAIR, RATIOS = "lenet5_generated", (0.8, 0.95)


def study(arms: tuple[str, ...] = ("safs_fast", "stage1_only"), **changes: object) -> Study:
    """The smoke profile at two ratios, with enough candidates and epochs for three rungs."""
    whole = load(Path("pipelines/profiles/smoke/params.yaml"), ROOT)
    cells = {f"at-{ratio}": Cell(pair=PAIR, ratio=ratio) for ratio in RATIOS}
    profile = whole.profile.model_copy(
        update={"arms": arms, "pairs": (PAIR,), "cells": cells, "studies": Studies()}
    )
    pair = whole.pairs[PAIR]
    sections = {
        "search": pair.search.model_copy(update={"moves": 6, "epochs": 6}),
        "tune": pair.tune.model_copy(update={"trials": 6, "epochs": 6}),
        "fast": pair.fast.model_copy(update={"rungs": (0.2, 0.5, 1.0), "images": 16, **changes}),
    }
    return Study(profile=profile, pairs={PAIR: pair.model_copy(update=sections)})


def artefact(ratio: float, name: str) -> dict:
    return json.loads(Path(f"runs/smoke/fast/{PAIR}/{ratio}/{name}.json").read_text())


def contents() -> dict[str, bytes]:
    """Every file of the stage, without times and memory."""
    found = {}
    for path in sorted(Path("runs/smoke/fast").rglob("*")):
        if path.suffix == ".json":
            value = json.loads(path.read_text())
            del value["digest"]
            for key in ("seconds", "memory"):
                value.get("result", value).pop(key, None)
            found[str(path)] = json.dumps(value, sort_keys=True).encode()
        elif path.is_file():
            found[str(path)] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A working folder in which the stage ran in this process, after those before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFS_WORKERS", "0")
        patch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
        patch.chdir(tmp_path_factory.mktemp("fast"))
        pretrain.run(study(), PAIR)
        for ratio in RATIOS:
            prune.run(study(), PAIR, ratio)
            search.run(study(), PAIR, ratio)
        fast.run(study(), PAIR)
        evaluate.run(study(), PAIR)
        yield


def journals() -> list[list[dict]]:
    """The trainings of every halving, in their order; the predictors' answers left out."""
    found = []
    for path in Path("scratch/fast").glob("*/trainings.jsonl"):
        rows = [json.loads(line)["value"] for line in path.read_text().splitlines()]
        found.append([row for row in rows if "history" in row])
    return found


def test_rungs_continue_and_the_last_one_is_shorter_for_most(done):
    """7 and 6 candidates for 1 epoch, 3 and 2 on to 3, 1 on to 6."""
    assert study().pairs[PAIR].fast.epochs(6) == (1, 3, 6)
    lengths = sorted(sorted(len(row["history"]) for row in rows) for rows in journals())
    assert lengths == [[1] * 7 + [3] * 3 + [6]] * 4 + [[1] * 6 + [3] * 2 + [6]] * 4
    for ratio in RATIOS:
        spent = [
            e["epochs"] for e in artefact(ratio, "safs_fast-search-r0")["trace"]["evaluations"]
        ]
        assert sorted(spent) == [1, 1, 1, 1, 3, 3, 6]


def test_no_candidate_is_trained_twice(done):
    for ratio in RATIOS:
        for r in (0, 1):
            rows = artefact(ratio, f"safs_fast-search-r{r}")["trace"]["evaluations"]
            assert len({tuple(row["chromosome"]) for row in rows}) == len(rows) == 7
            rows = artefact(ratio, f"safs_fast-tune-r{r}")["trace"]["trials"]
            assert len({json.dumps(row["config"]) for row in rows}) == len(rows) == 6


def test_the_winner_is_the_best_of_the_last_rung(done):
    found = artefact(RATIOS[0], "safs_fast-search-r0")
    rows = found["trace"]["evaluations"]
    longest = max(rows, key=lambda row: row["epochs"])
    assert found["chromosome"] == longest["chromosome"]
    final = artefact(RATIOS[0], "safs_fast-r0")
    assert final["job"]["chromosome"] == found["chromosome"] and final["job"]["scaled"]
    assert final["job"]["recipe"] == artefact(RATIOS[0], "safs_fast-tune-r0")["recipe"]


@pytest.mark.parametrize("r", [0, 1])
def test_a_ratio_starts_from_the_next_lower_one(done, r):
    low, high = (artefact(ratio, f"safs_fast-search-r{r}") for ratio in RATIOS)
    assert high["trace"]["evaluations"][0]["chromosome"] == low["chromosome"]
    low, high = (artefact(ratio, f"safs_fast-tune-r{r}") for ratio in RATIOS)
    dense = study().pairs[PAIR].recipe.model_dump(mode="json")
    first = [dense] if low["recipe"] == dense else [low["recipe"], dense]
    assert [trial["config"] for trial in high["trace"]["trials"]][: len(first)] == first


def test_records_account_for_every_epoch_and_for_what_the_predictor_saw(done):
    record = Record.read(Path(f"runs/smoke/evaluate/{PAIR}/safs_fast-{RATIOS[0]}-r0.json"))
    trace = artefact(RATIOS[0], "safs_fast-search-r0")["trace"]
    seen = 6 * 4 * 16  # moves, screened each, images
    train = round(seen / trace["predictor_epochs"])
    assert trace["predictor_epochs"] == seen / train and train > 16
    assert record.epochs.search == 4 * 1 + 2 * 3 + 6 + -(-seen // train)
    assert record.epochs.tune == 4 * 1 + 3 + 6
    assert record.epochs.final == study().pairs[PAIR].finetune.epochs
    assert (record.trials.search, record.trials.tune) == (7, 6)
    assert record.seconds.search > 0 and record.seconds.tune > 0


def test_the_plan_says_what_is_spent(done):
    of = study()
    (step,) = [step for step in steps(of) if step.stage == "fast"]
    trainings = sum(len(rows) for rows in journals()) + 4
    assert (step.trainings, step.epochs) == (trainings, 4 * run_epochs(of.pairs[PAIR], "safs_fast"))
    assert run_epochs(of.pairs[PAIR], "safs_fast") == (7 + 6 + 3) + (6 + 4 + 3) + 1


def test_a_stage_that_is_done_does_nothing_and_a_killed_one_ends_the_same(done):
    before = contents()
    times = {p: p.stat().st_mtime_ns for p in Path("runs/smoke/fast").rglob("*") if p.is_file()}
    fast.run(study(), PAIR)
    assert {p: p.stat().st_mtime_ns for p in times} == times
    shutil.rmtree("runs/smoke/fast")
    for path in Path("scratch/fast").glob("*/artefact.json"):
        path.unlink()
    for path in Path("scratch/fast").glob("*/trainings.jsonl"):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: len(lines) // 2]) + lines[-1][:40])
    fast.run(study(), PAIR)
    assert contents() == before
    assert not list(Path("scratch/fast").rglob("*.pt")), "states are gone when a halving is over"


@pytest.mark.parametrize("backend", ["dense", "sparse"])
def test_a_training_continued_rung_by_rung_is_bit_identical(done, tmp_path, backend):
    """An unsteady recipe with state of its own (Adam, warm restarts, learned alpha and beta)."""
    of = study()
    recipe = Recipe(optimizer="adam", lr=0.01, schedule="warm_restarts", batch_size=32)
    with Work(of, "fast", PAIR, RATIOS[1]) as work:
        start = work.start(0)
        for path in work.out.iterdir():
            work.named(path.name)

        def train(until: int | None, name: str, **more: Path) -> dict:
            job = work.job(
                0,
                "search",
                recipe,
                7,
                until=until,
                validate_every=True,
                chromosome=("acon", "srs", "tanh", "srelu"),
                scaled=True,
                **start.inputs,
            ).model_copy(update={"backend": backend})
            files = start.files().model_copy(update={"folder": tmp_path / name, **more})
            files = files.model_copy(update={"keep_weights": True})
            return work.pool.run(training.train, job, files, work.pool.topic)

        whole = train(None, "whole")
        first = train(2, "first", state=tmp_path / "2.pt")
        second = train(5, "second", resume=tmp_path / "2.pt", state=tmp_path / "5.pt")
        last = train(None, "last", resume=tmp_path / "5.pt")
    assert whole["failure"] is None and whole["backend"] == backend
    assert [len(r["history"]) for r in (first, second, last)] == [2, 5, 7]
    assert last["history"] == whole["history"] and last["slots"] == whole["slots"]
    assert second["history"] == whole["history"][:5]
    nets = [load_file(tmp_path / name / WEIGHTS) for name in ("whole", "last")]
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])


def test_predictors_are_ranked_against_the_faithful_search(done):
    records.run(study())
    (table,) = published(study()).tables
    assert sorted(table.frame["predictor"].unique()) == sorted(
        ["flow", "snip", "zico", "naswot", "loss"]
    )
    assert list(table.frame["ratio"].unique()) == list(RATIOS)
    trace = json.loads(Path(f"runs/smoke/search/{PAIR}/0.8/search-r0.json").read_text())["trace"]
    trained = {tuple(e["chromosome"]): e["energy"] for e in trace["evaluations"]}
    rows = artefact(0.8, "predictors-r0")["candidates"]
    assert {tuple(row["chromosome"]): row["energy"] for row in rows} == trained
    tables.run(study())
    assert Path("results/smoke/tables/predictors.md").exists()
    records.run(study())
    found = published(study()).traces
    assert set(found.curves["arm"]) == {"safs_fast", "stage1_only"}
    assert {(trace.arm, trace.ratio) for trace in found.tune} == {("safs_fast", r) for r in RATIOS}
    assert {trace.algorithm for trace in found.others} == {"halving"}


def test_without_the_arm_nothing_is_trained_or_kept(done, tmp_path, monkeypatch):
    shutil.copytree("runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    fast.run(study(arms=("stage1_only",)), PAIR)
    assert [p for p in Path("runs/smoke/fast").rglob("*") if p.is_file()] == []
    of = study(arms=("stage1_only",))
    records.run(of)
    assert published(of).tables == []


def test_an_unknown_predictor_is_one_line(tmp_path):
    shutil.copytree(ROOT / "pipelines/pairs", tmp_path / "pipelines/pairs")
    text = (ROOT / "params.yaml").read_text() + "  fast: {predictor: snipp}\n"
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(SafsError, match=r"unknown predictor 'snipp'.*did you mean 'snip'"):
        load(Path("params.yaml"), tmp_path)
