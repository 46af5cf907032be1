"""What a stage depends on, and that dvc.yaml lists it."""

from pathlib import Path

import pytest
import yaml

from pipelines.__main__ import PER_CELL, PER_PAIR, PER_PROFILE
from pipelines.engine import sources

ROOT = sources.ROOT
STAGES = (*PER_PAIR, *PER_CELL, *PER_PROFILE)
# Parameters reach a stage through DVC's `params`, so the file that types them is no dependency.
TYPING = {ROOT / "pipelines/config.py"}
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def _stage(name):
    return GRAPH[name].get("do", GRAPH[name])


def _reached(stage):
    """Project files a stage imports, not looking through the typing of parameters."""
    seen, waiting = set(), [ROOT / f"pipelines/stages/{stage}.py"]
    while waiting:
        file = waiting.pop()
        if file not in seen and file not in TYPING:
            seen.add(file)
            waiting.extend(sources.imports(file))
    return {file for file in seen if file.stat().st_size and file.name != "__init__.py"}


def test_every_profile_has_the_same_graph():
    copies = sorted((ROOT / "pipelines/profiles").glob("*/dvc.yaml"))
    assert len(copies) == len(list((ROOT / "pipelines/profiles").iterdir())) > 3
    for copy in copies:
        assert copy.read_text() == (ROOT / "dvc.yaml").read_text(), f"{copy}: run make graph"
        assert not copy.is_symlink(), "DVC follows no links in older commits"


def test_the_graph_has_every_stage():
    assert set(GRAPH) == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_every_import_of_a_stage_is_a_dependency(stage):
    """DVC does not follow imports: a stage must list what it uses, or stale results pass."""
    listed = [ROOT / dep for dep in _stage(stage)["deps"] if "$" not in dep]
    missing = {
        file.relative_to(ROOT).as_posix()
        for file in _reached(stage)
        if not any(file == dep or dep in file.parents for dep in listed)
    }
    assert not missing


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_depends_on_what_it_never_imports(stage):
    presets = set((ROOT / "pipelines/presets").iterdir())  # read by the parameters' loader
    reached = _reached(stage) | presets
    data = ("$", "results/")
    for dep in (ROOT / d for d in _stage(stage)["deps"] if not any(mark in d for mark in data)):
        assert any(file == dep or dep in file.parents for file in reached), dep


def test_training_stages_persist_and_small_results_are_in_git():
    for name in STAGES:
        for out in _stage(name)["outs"]:
            ((path, options),) = out.items()
            if path.startswith("runs/"):
                assert options == {"persist": True}
            else:
                assert options == {"cache": False}


def _package(path, body, files):
    path.mkdir(parents=True)
    for name, text in {**files, "__init__.py": body}.items():
        (path / name).write_text(text)


def test_a_docstring_or_comment_changes_no_fingerprint(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    file = tmp_path / "a.py"

    def fingerprint(text):
        file.write_text(text)
        sources.fingerprint.cache_clear()
        return sources.fingerprint(frozenset({file}))

    plain = fingerprint("def f(x):\n    return x\n")
    documented = fingerprint('"""Doc."""\n\n\ndef f(x):  # why\n    """Doc."""\n    return x\n')
    assert documented == plain
    assert fingerprint("def f(x):\n    return x + 0\n") != plain


def test_training_code_counts_the_kernels(monkeypatch):
    seen = set()
    monkeypatch.setattr(sources, "fingerprint", seen.update)
    sources.training_code.__wrapped__("lenet5", "mnist5k")
    kernels = ROOT / "safs/kernels/src"
    assert {kernels / "program.cpp", kernels / "weights.h"} <= seen


def test_training_code_counts_the_network_and_data_set_in_use_only():
    code = sources.training_code("lenet5", "mnist5k")
    assert code != sources.training_code("lenet5", "generated_digits")
    with pytest.raises(LookupError, match="no file in networks/ registers the network 'nothing'"):
        sources.training_code("nothing", "mnist5k")


def test_training_code_follows_what_a_network_or_data_set_imports(monkeypatch):
    seen = []
    monkeypatch.setattr(sources, "fingerprint", seen.append)
    for dataset in ("mnist5k", "cifar10"):
        sources.training_code.__wrapped__("lenet5", dataset)
    small, downloaded = (
        {file.relative_to(ROOT / "safs").as_posix() for file in files} for files in seen
    )
    assert downloaded - small == {
        "datasets/cifar10.py", "datasets/source.py", "datasets/unpickle.py",
    }  # fmt: skip
    assert {"networks/lenet5.py", "networks/base.py", "training.py"} <= small
    assert not {"networks/resnet.py", "networks/__init__.py"} & small


@pytest.mark.parametrize("module", ["data", "evaluation", "predictors"])
def test_another_network_or_data_set_touches_no_work(module):
    """Neither fold files, nor test scores, nor what is screened by predictors."""
    found = sources.closure(ROOT / f"safs/{module}.py")
    inside = {file for file in found if file.parent.name in ("networks", "datasets")}
    assert inside and {file.name for file in inside} == {"base.py"}


@pytest.mark.parametrize("package", ["safs", "bench"])
def test_arrows_point_one_way(package):
    """safs <- pipelines -> bench: neither of the two imports the other, nor the pipeline."""
    others = {"safs", "bench", "pipelines"} - {package}
    for file in (ROOT / package).rglob("*.py"):
        if "benchmarks" in file.parts:
            continue
        for found in sources.imports(file):
            assert found.relative_to(ROOT).parts[0] not in others, (file, found)


def test_the_stage_modules_exist():
    for stage in STAGES:
        assert Path(ROOT / f"pipelines/stages/{stage}.py").exists()
