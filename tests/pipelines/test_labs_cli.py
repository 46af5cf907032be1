"""The commands of several labs, without torch, and every file that a lab has submitted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_cli import without_torch

from bench.labs.reading import LABS, by_lab, parse, validate
from bench.labs.schema import render
from pipelines.cli import main as cli
from pipelines.config.study import load, named
from pipelines.results import archiving, packing
from safs.errors import SafsError
from safs.spec import Acceleration

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / LABS).glob("*/*.json"))


def test_there_are_submitted_files():
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_submitted_file_is_valid_and_lies_where_it_says(path):
    assert validate(path) == []
    assert path.parent.name in by_lab(ROOT / LABS, path.stem)


def test_the_folder_of_labs_holds_nothing_else():
    found = [p for p in (ROOT / LABS).rglob("*") if p.is_file()]
    assert sorted(found) == FILES


@pytest.fixture
def labs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests/bench")
    from synthetic_labs import content

    paths = []
    for seed, name in enumerate(("a", "b", "c")):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(render(content(name, seed)))
    return paths


def test_validate_and_compare_work_without_torch(labs, tmp_path):
    assert without_torch("validate", *map(str, labs)).stdout == "3 valid\n"
    done = without_torch("compare", *map(str, labs), "--to", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "consistent" in done.stdout and "\nb: identical to a in all " in done.stdout
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"labs.csv", "labs_each.csv", "labs.svg"} <= names


def test_a_damaged_file_ends_with_code_2_and_its_line(labs, capsys):
    labs[1].write_text(labs[1].read_text().replace('"seed": 1', '"seed": 5'))
    assert cli.main(["validate", *map(str, labs)]) == 2
    assert capsys.readouterr().err.startswith(f"{labs[1]}:3: digest: ")
    assert cli.main(["compare", *map(str, labs)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {labs[1]}:3: digest: ")


def test_budgets_are_those_of_the_plan_by_hand():
    study = load(Path("pipelines/profiles/mnist5k/params.yaml"), ROOT)
    pair = study.pairs["lenet5_mnist5k"]
    none, search = {"trainings": 0, "epochs": 0}, {"trainings": 21, "epochs": 80}
    tune = {"trainings": 20, "epochs": 80}
    expected = {
        "dense": (none, none),
        "vanilla": (none, none),
        "stage1_only": (search, none),
        "stage2_only": (none, tune),
        "safs": (search, tune),
        "best_single_hpo": ({"trainings": 13, "epochs": 80}, tune),
        "default_hpo_total": (none, {"trainings": 41, "epochs": 80}),
    }
    for arm, (first, second) in expected.items():
        found = packing.budget(pair, arm)
        assert found.model_dump() == {"final": 100, "search": first, "tune": second}, arm


def test_the_digest_of_parameters_forgets_seed_and_labels_only():
    study = load(Path("params.yaml"), ROOT)
    (pair,) = study.pairs
    digest = packing.described(study, pair).parameters

    def changed(profile=None, **pairs):
        about = study.pairs[pair].model_copy(update=pairs)
        update = {"pairs": {pair: about}, "profile": study.profile.model_copy(update=profile or {})}
        return packing.described(study.model_copy(update=update), pair).parameters

    label = study.pairs[pair].about.model_copy(update={"label": "x"})
    assert changed(profile={"seed": 5}, about=label) == digest
    longer = study.pairs[pair].finetune.model_copy(update={"epochs": 999})
    assert changed(finetune=longer) != digest
    assert changed(profile={"acceleration": Acceleration(bf16=True)}) != digest
    assert changed(profile={"backend": "dense"}) == digest


def test_the_cheap_search_is_not_packed_and_does_not_part_labs():
    study = load(Path("params.yaml"), ROOT)
    (pair,) = study.pairs
    assert "safs_fast" in study.profile.arms and "safs_fast" not in packing.packed(study)
    found = packing.described(study, pair)
    assert set(found.budgets) == set(packing.packed(study))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_submitted_file_is_of_the_profile_as_it_stands(path):
    """Labs of today are pooled with it, whatever their profile."""
    study = named(path.stem)
    for pair, submitted in json.loads(path.read_text())["pairs"].items():
        assert packing.described(study, pair).parameters == submitted["parameters"]


def test_a_profile_that_was_not_run_is_not_exported(checkout, capsys):
    study = load(Path("pipelines/profiles/paper/params.yaml"), ROOT)
    with pytest.raises(SafsError, match=r"no such file; run `safs-bench run paper` first"):
        packing.content(study, "lab", "")
    assert cli.main(["export-lab", "lab", "--profile", "papr"]) == 2
    assert "did you mean 'paper'" in capsys.readouterr().err


@pytest.fixture
def quick(published_checkout):
    """The study quick, published and not run."""
    return load(Path("params.yaml"))


def test_replicates_that_were_left_out_are_exported_from_their_records(quick):
    """With their failed trainings, of which runs/ has no trace."""
    with pytest.raises(SafsError, match="runs/quick: no records; `safs-bench run quick` makes"):
        packing.content(quick, "lab", "")
    (pair,) = quick.pairs
    for replicate in range(quick.profile.replicates):
        note = Path(f"runs/quick/evaluate/{pair}/recorded-r{replicate}.json")
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text("{}")
    found = parse(render(packing.content(quick, "lab", "")), "lab.json")
    assert len(found.runs) == quick.profile.replicates * (1 + 3 * (len(found.arms) - 1))
    published = [search for each in archiving.read(quick) for search in each.searches]
    searches = {
        (s.trace.ratio, s.trace.replicate): sum(row.status == "failed" for row in s.trace.rows)
        for s in published
        if s.name == "search"
    }
    told = [run for run in found.runs if run.record.arm == "safs"]
    assert {(r.record.ratio, r.record.replicate): r.failed.search for r in told} == searches
    assert sum(searches.values()) > 0


def test_what_a_profile_costs_is_read_where_show_reads_it(quick, capsys):
    assert cli.main(["cost", "quick", "--watts", "90", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["hours"]
    assert {row["hours_extrapolated"] for row in rows} == {None}
    assert all(row["epochs"] > 0 and row["hours"] > 0 for row in rows)


def test_digests_of_submitted_files_differ():
    digests = [json.loads(path.read_text())["digest"] for path in FILES]
    assert len(set(digests)) == len(digests)
