"""A project laid out by ``init``, and what ``doctor`` finds."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from test_end_to_end import one_pair

from pipelines.cli import doctor
from pipelines.cli import main as cli
from pipelines.dvc import project
from pipelines.dvc.dependencies import CODE
from safs import sealed
from safs.datasets import batches

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project") / "mine"
    assert cli.main(["init", str(folder)]) == 0
    return folder


def test_a_project_has_all_that_its_stages_name_and_is_a_repository(place):
    assert {path.name for path in place.iterdir()} >= {"params.yaml", "dvc.yaml", ".dvc", ".git"}
    assert (place / CODE).is_file() and not list(place.rglob("*.py"))
    assert not list(place.rglob("dvc.lock"))
    subprocess.run(["git", "add", "--all"], cwd=place, check=True)
    command = ["git", "ls-files"]
    tracked = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    assert "pipelines/profiles/smoke/dvc.yaml" in tracked.stdout


def test_what_its_stages_read_is_there_or_made_by_another(place):
    pipeline = yaml.safe_load((place / "dvc.yaml").read_text())["stages"]
    stages = [stage.get("do", stage) for stage in pipeline.values()]
    read = {dep for stage in stages for dep in stage.get("deps", ())}
    fixed = {dep for dep in read if "$" not in dep}
    assert "results/labs" in fixed
    assert [dep for dep in sorted(fixed) if not (place / dep).exists()] == []


@pytest.mark.slow
def test_a_project_runs_to_its_report(tmp_path):
    """By the installed command, from an empty folder to figures, page and digests."""
    bench = Path(sys.executable).with_name("safs-bench")
    subprocess.run([bench, "init", tmp_path / "mine"], check=True)
    params = tmp_path / "mine/pipelines/profiles/smoke/params.yaml"
    values = yaml.safe_load(params.read_text())
    one_pair(values)
    params.write_text(yaml.safe_dump(values | {"arms": ["vanilla"]}))
    done = subprocess.run(
        [bench, "run", "smoke"], cwd=tmp_path / "mine", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = tmp_path / "mine/results/smoke"
    assert (results / "report.html").is_file() and (results / "SHA256SUMS").is_file()


def test_every_profile_of_a_project_can_be_planned(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert cli.main(["profiles", "--json"]) == 0
    names = [row["profile"] for row in json.loads(capsys.readouterr().out)]
    assert {"quick", "smoke", "paper"} <= set(names)
    for name in names:
        assert cli.main(["plan", name, "--no-measure", "--json"]) == 0, name


def test_other_code_is_noted_once(place, monkeypatch):
    before = sealed.read(place / CODE)
    project.note_code(place)
    assert sealed.read(place / CODE) == before
    monkeypatch.setattr(project.metadata, "version", lambda name: "9")
    project.note_code(place)
    assert sealed.read(place / CODE)["safs-bench"] == "9"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("bench/page/templates/report.html.j2", True),
        ("safs/new.py", True),
        ("pipelines/profiles/quick/dvc.lock", False),
        ("pipelines/profiles/quick/params.yaml", False),
        ("safs/__pycache__/new.cpython-311.pyc.1402", False),
    ],
)
def test_what_stages_read_of_the_packages_is_code(tmp_path, monkeypatch, name, counts):
    """Not what a run in the checkout writes, nor what a project has of its own."""
    installed, place = tmp_path / "installed", tmp_path / "project"
    (installed / "safs").mkdir(parents=True)
    (installed / "safs/old.py").touch()
    monkeypatch.setattr(project, "ROOT", installed)
    project.note_code(place)
    before = sealed.read(place / CODE)
    (installed / name).parent.mkdir(parents=True, exist_ok=True)
    (installed / name).touch()
    project.note_code(place)
    assert (sealed.read(place / CODE) != before) == counts


def test_a_checkout_needs_no_note(monkeypatch):
    root = Path(__file__).parents[2]
    project.note_code(root)
    assert not (root / CODE).exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert cli.main(["init", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: not empty; a project begins in an empty folder\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_project_needs_git_and_leaves_nothing_half_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert cli.main(["init", str(tmp_path / "project")]) == 2
    assert "no command git" in capsys.readouterr().err
    assert not (tmp_path / "project").exists()


def test_the_doctor_tells_a_folder_without_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (found,) = doctor._repository()
    assert (found.state, found.seen) == ("missing", "none here, or no git")
    subprocess.run(["git", "init", "--quiet"], check=True)
    (found,) = doctor._repository()
    assert (found.state, found.seen) == ("ok", "no commit yet")


def test_the_doctor_names_everything_with_its_state(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert cli.main(["doctor", "--json"]) == 0
    found = {row["thing"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"Python", "packages", "kernels", "cores", "GPUs", "data", "disk"} <= set(found)
    assert found["packages"]["state"] == "ok" and "torch " in found["packages"]["seen"]


def test_the_doctor_tries_the_kernels_and_waits_for_no_torch():
    code = "import sys; from pipelines.cli.main import main; main(['doctor', '--json'])"
    code += "; sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {row["thing"]: row for row in json.loads(done.stdout)}
    assert found["kernels"]["seen"].endswith("loaded, tried") or "no C++" in done.stdout
    assert "torch is built" in found["GPUs"]["seen"]


def test_the_doctor_tells_what_run_would_refuse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (found,) = doctor._settings()
    assert (found.state, found.seen) == ("ok", "local, device auto")
    Path("compute.yaml").write_text("wokers: 2\n")
    (found,) = doctor._settings()
    assert found.state == "missing" and "unknown key 'wokers'" in found.seen
    Path("compute.yaml").unlink()
    Path("compute.yaml").mkdir()
    (found,) = doctor._settings()
    assert found.state == "missing" and "compute.yaml" in found.seen
    monkeypatch.setattr(os, "access", lambda *_: False)
    (found,) = doctor._disk()
    assert (found.state, found.seen) == ("missing", "this folder cannot be written")


@pytest.mark.parametrize("folder", ["", "imagenet16"])
def test_the_doctor_looks_for_imagenet16_where_its_loader_does(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("SAFS_DATA", str(tmp_path))
    place = tmp_path / folder
    place.mkdir(exist_ok=True)
    (found,) = doctor._data()
    assert found.state == "optional" and found.seen.endswith(f"in {tmp_path}: nothing")
    for name in (*batches.NAMES["train"], "val_data.npz"):
        (place / name).touch()
    (found,) = doctor._data()
    assert found.state == "ok" and found.seen.endswith(f"in {tmp_path}: imagenet16")


def kernels_of(derivative):
    """What stands for compiled kernels whose every operator is the square."""

    def evaluate(code, own, x, count, f, d, unread):
        for i in range(count.value):
            f[i], d[i] = x[i] ** 2, derivative(x[i])

    return SimpleNamespace(safs_operator=evaluate)


def test_an_operator_that_computes_something_else_is_named():
    sources = ROOT / "safs/kernels/src"
    assert doctor._wrong_operators(kernels_of(lambda x: 2 * x), sources) == []
    assert {"Relu", "Swish"} < set(doctor._wrong_operators(kernels_of(lambda x: x), sources))


def test_gpus_that_torch_does_not_see_are_told_apart_from_none(monkeypatch):
    import torch

    monkeypatch.setattr(doctor, "visible_gpus", lambda: 2)
    monkeypatch.setattr(doctor, "_alone", lambda path: SimpleNamespace(cuda="13.0"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    _, found = doctor._devices()
    assert found.state == "optional" and found.mend
    assert found.seen == "2 here, none that torch sees; torch is built for CUDA 13.0"
    monkeypatch.setattr(doctor, "visible_gpus", lambda: 0)
    _, found = doctor._devices()
    assert (found.seen, found.mend) == ("none here; torch is built for CUDA 13.0", "")


def test_a_missing_package_and_a_full_disk_are_told_how_to_mend(monkeypatch, capsys):
    present = importlib.util.find_spec
    monkeypatch.setattr(
        doctor.importlib.util, "find_spec", lambda name: None if name == "smac" else present(name)
    )
    monkeypatch.setattr(doctor, "SPACE_GIB", 10**9)
    assert cli.main(["doctor", "--json"]) == 1
    found = {row["thing"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["packages"]["state"] == "missing" and "smac" in found["packages"]["seen"]
    assert found["packages"]["mend"] == "pip install 'safs-bench[run]'"
    assert found["disk"]["state"] == "missing" and "make room" in found["disk"]["mend"]
