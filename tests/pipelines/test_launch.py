"""What a launch asks of DVC: all of a profile or a part, and what records may stand for."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from pipelines.cli import main as cli
from pipelines.config.study import named
from pipelines.dvc import launch, narrow
from pipelines.dvc.narrow import narrowed
from pipelines.engine import recorded
from pipelines.storage import sources
from safs import sealed


@pytest.fixture
def asked(published_checkout, monkeypatch):
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
    note, old = (Path(f"runs/quick/evaluate/lenet5_mnist5k/recorded-r{r}.json") for r in (0, 7))
    sealed.write(note, {"records": "results/quick/records/lenet5_mnist5k/r0.json"})
    sealed.write(old, {"records": "results/quick/records/lenet5_mnist5k/r7.json"})
    assert launch.launch(named("quick"), launch.Options(quiet=True, from_records=going_on)) == 0
    ((variables, only),) = asked
    assert note.exists() == going_on, "without it DVC runs the stage, which trains the replicate"
    assert not old.exists(), "what does not stand any more is trained in any run"
    assert bool(variables[recorded.ASKED]) == going_on and only is None


def test_the_command_hands_every_option_on(published_checkout, monkeypatch):
    """Also its exit code: that of a failed run, else that of its results."""
    calls = []
    monkeypatch.setattr(launch, "launch", lambda *given: calls.append(given) or 1)
    options = ["--ratio", "0.99", "--workers", "3", "--jobs", "2", "--quiet", "--from-records"]
    assert cli.main(["run", "quick", *options]) == 1
    ((study, options),) = calls
    assert options == launch.Options(3, 2, quiet=True, narrow=True, from_records=True)
    assert list(study.profile.ratios("lenet5_mnist5k")) == [0.99]
    assert cli.main(["run", "quick", "--pair", "lenet5_mnist5k"]) == 1
    assert calls[1][1] == launch.Options()  # its only pair is all of it
    monkeypatch.setattr(launch, "launch", lambda *given: 0)
    assert cli.main(["run", "quick"]) == 0  # the published results are shown
    assert cli.main(["run", "smoke"]) == 3


def test_workers_and_a_failed_stage_are_told(asked, monkeypatch):
    monkeypatch.setenv("SAFS_WORKERS", "1")
    monkeypatch.setattr(launch.side_by_side, "run", lambda *given: 1)
    assert launch.launch(named("quick"), launch.Options(workers=3, quiet=True)) == 1
    assert os.environ["SAFS_WORKERS"] == "3"


def test_a_part_runs_its_own_stages_and_publishes_nothing(asked):
    part = narrowed(named("quick"), None, 0.99)
    pair = next(iter(part.pairs))
    kept, gone = (
        [Path(f"runs/quick/{place}/recorded-r0.json") for place in places]
        for places in (
            (f"evaluate/{pair}", f"tune/{pair}/0.95", f"fast/{pair}/0.99"),
            (f"pretrain/{pair}", f"tune/{pair}/0.99"),
        )
    )
    for note in (*kept, *gone):
        sealed.write(note, {"records": f"results/quick/records/{pair}/r0.json"})
    assert launch.launch(part, launch.Options(quiet=True, narrow=True)) == 0
    assert all(note.exists() for note in kept) and not any(note.exists() for note in gone)
    (_, only), evaluated = asked
    assert only == narrow.stages(part) and evaluated is part
    assert not {stage.partition("@")[0] for stage in only} & {"records", "tables", "report"}


@pytest.mark.parametrize(
    "name", ["quick", "mnist5k", "mnist5k_99", "mnist5k_studies", "landscape", "readings"]
)
def test_what_is_published_stands_as_long_as_nothing_changes(published_checkout, name):
    study = named(name)
    for each in study.every:
        for pair in each.pairs:
            assert list(recorded.standing(each, pair)) == list(range(each.profile.replicates))


def test_standing_says_how_many_published_replicates_stand(checkout, monkeypatch, capsys):
    records = checkout / "results/quick/records"
    shutil.copytree(sources.ROOT / "results/quick/records", records)

    def told(name):
        code = cli.main(["standing", name, "--json"])
        (row,) = json.loads(capsys.readouterr().out)
        return code, row["replicates"], row["published"], row["stand"]

    assert told("quick") == (0, 3, 3, 3)
    (records / "lenet5_mnist5k/r1.json").unlink()
    assert told("quick") == (0, 3, 2, 2)
    monkeypatch.setattr(recorded, "PROTOCOL_VERSION", 9)
    assert told("quick") == (1, 3, 2, 0)
    assert told("fashion_mnist")[0] == 3


def test_standing_counts_readings_too(published_checkout, capsys):
    assert cli.main(["standing", "readings", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["reading"] for row in rows} == {"-", *named("readings").readings}
    assert all(row["stand"] == row["published"] == 10 for row in rows)


def test_another_own_operator_of_the_network_makes_another_replicate(checkout, monkeypatch):
    """Also where no arm asks for it: the dense network and vanilla have it."""
    study = named("smoke")
    name = "efficientnetb0_generated16"
    of = study.pairs[name]
    few = of.search.model_copy(update={"operators": ("tanh", "elu")})
    pairs = {name: of.model_copy(update={"search": few})}
    study = study.model_copy(update={"pairs": pairs})
    before, found = recorded.identity(study, name, 0), sources.of

    def other(*files, entries=()):
        changed = sources.Registered("operator", "swish") in entries
        return "0" * 32 if changed else found(*files, entries=entries)

    monkeypatch.setattr(sources, "of", other)
    assert recorded.identity(study, name, 0) != before


def test_other_pruning_or_given_masks_make_another_replicate(published_checkout, monkeypatch):
    study = named("quick")
    (pair,) = study.pairs
    before = recorded.identity(study, pair, 0)

    def other(*files, entries=()):
        changed = "safs/pruning/connectivity.py" in files
        return "0" * 32 if changed else found(*files, entries=entries)

    found = sources.of
    with monkeypatch.context() as patch:
        patch.setattr(sources, "of", other)
        assert recorded.identity(study, pair, 0) != before
    prune = study.pairs[pair].prune.model_copy(update={"method": "given", "given": "m.safetensors"})
    of = study.pairs[pair].model_copy(update={"prune": prune})
    given = study.model_copy(update={"pairs": {pair: of}})
    told = set()
    for content in (b"one mask", b"another"):
        Path("m.safetensors").write_bytes(content)
        told.add(recorded.identity(given, pair, 0))
    assert len(told) == 2 and before not in told
