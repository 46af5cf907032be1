"""What a stage depends on, and that dvc.yaml lists it."""

import pytest
import yaml

from pipelines.dvc import dependencies
from pipelines.stages import STAGES
from pipelines.storage import sources
from safs.errors import SafsError

ROOT = sources.ROOT
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def _stage(name):
    return GRAPH[name].get("do", GRAPH[name])


def test_every_profile_has_the_same_graph():
    copies = sorted((ROOT / "pipelines/profiles").glob("*/dvc.yaml"))
    assert len(copies) == len(list((ROOT / "pipelines/profiles").iterdir())) > 3
    for copy in copies:
        assert copy.read_text() == (ROOT / "dvc.yaml").read_text(), f"{copy}: run make graph"
        assert not copy.is_symlink(), "DVC follows no links in older commits"


def test_the_graph_has_every_stage():
    assert set(GRAPH) == set(STAGES)


def test_the_graph_is_the_written_one():
    text = (ROOT / "dvc.yaml").read_text()
    assert dependencies.written(text) == text, "run make graph"


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_depends_on_what_it_imports_and_no_more(stage):
    """DVC does not follow imports: a stage must list what it uses, or stale results pass.

    The files that type parameters are none: these reach a stage through DVC's ``params``.
    """
    listed = [ROOT / d for d in _stage(stage)["deps"] if not d.startswith(("runs/", "results/"))]
    reached, waiting = set(), [ROOT / f"pipelines/stages/{stage}.py"]
    while waiting:
        file = waiting.pop()
        if file not in reached and ROOT / "pipelines/config" not in file.parents:
            reached.add(file)
            waiting += sources.imports(file)
    for file in reached:
        covered = any(file == dep or dep in file.parents for dep in listed)
        assert covered or not dependencies.has_code(file), file
    read = {path for file in reached for path in dependencies.read_by(file)}
    assert all(path in listed or path.parent in listed for path in read)
    for dep in listed:
        used = any(file == dep or dep in file.parents for file in reached | read)
        assert used or dep in (ROOT / "pipelines/presets", ROOT / "pipelines/pairs"), dep


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_sees_a_changed_pair(stage):
    """By the keys of its own pair, or by the files of all where it reads all."""
    told = _stage(stage)
    keyed = any("pipelines/pairs/" in file for part in told["params"] for file in part)
    assert keyed != ("pipelines/pairs" in told["deps"])


def test_a_new_profile_gets_the_graph(tmp_path):
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    for folder in ("profiles/mine", "template"):
        (tmp_path / "pipelines" / folder).mkdir(parents=True)
    dependencies.main(tmp_path)
    copy = tmp_path / "pipelines/profiles/mine/dvc.yaml"
    assert copy.read_text() == (tmp_path / "dvc.yaml").read_text()
    made = tmp_path / dependencies.TEMPLATE / "params.yaml"
    assert made.read_text() == (ROOT / dependencies.TEMPLATE / "params.yaml").read_text()


def test_a_project_depends_on_no_source_file():
    graph = yaml.safe_load(dependencies.of_project((ROOT / "dvc.yaml").read_text()))
    for stage in graph["stages"].values():
        deps = stage.get("do", stage)["deps"]
        code = {dep for dep in deps if not dep.startswith(("runs/", "results/"))}
        assert code - {"pipelines/pairs"} == {"pipelines/presets", dependencies.CODE}


def test_a_stage_follows_imports_inside_functions_but_not_those_for_types():
    assert {"safs/backends", "safs/kernels"} <= set(dependencies.of("pretrain"))
    assert not {"safs/search", "safs/pruning", "safs/method"} & set(dependencies.of("pretrain"))
    assert "safs/pruning" in dependencies.of("prune")
    assert not any(dep.startswith(("safs/api", "bench")) for dep in dependencies.of("search"))


def test_stages_that_print_depend_on_templates_and_published_numbers():
    assert "bench/report" in dependencies.of("report"), "its templates and styles are there"
    for stage in ("tables", "compare", "report"):
        assert "bench/paper.yaml" in dependencies.of(stage)
        assert {"bench/tables", "bench/tables/__init__.py"} & set(dependencies.of(stage))


def test_training_stages_persist_and_small_results_are_in_git():
    for name in STAGES:
        for out in _stage(name)["outs"]:
            ((path, options),) = out.items()
            if path.startswith("runs/"):
                assert options == {"persist": True}
            elif path.endswith("/records"):
                assert options == {"cache": False, "persist": True}
            else:
                assert options == {"cache": False}


def test_a_docstring_or_comment_changes_no_fingerprint(another_tree):
    file = another_tree / "a.py"

    def fingerprint(text):
        file.write_text(text)
        sources.forget()
        return sources.fingerprint(frozenset({file}))

    plain = fingerprint("def f(x):\n    return x\n")
    documented = fingerprint('"""Doc."""\n\n\ndef f(x):  # why\n    """Doc."""\n    return x\n')
    assert documented == plain
    assert fingerprint("def f(x):\n    return x + 0\n") != plain


CODE = ("lenet5", "mnist5k", ("relu", "srs"), "sgd", "constant")


def _files(*starts, entries=()):
    starts = frozenset(ROOT / start for start in starts)
    found = sources.parts(starts, frozenset(sources.Registered(*entry) for entry in entries))
    return {f"{p.file.relative_to(ROOT)} {p.definition}".strip() for p in found}


def test_training_code_counts_the_kernels(monkeypatch):
    assert {"safs/kernels/src/program.cpp", "safs/kernels/src/weights.h"} <= set(sources.KERNELS)
    before = sources.training_code(*CODE)
    monkeypatch.setattr(sources, "KERNELS", sources.KERNELS[1:])
    assert sources.training_code(*CODE) != before


@pytest.mark.parametrize(
    ("place", "other"),
    [(0, "vgg16"), (1, "generated_digits"), (2, ("relu",)), (3, "adam"), (4, "cosine")],
)
def test_training_code_counts_the_entries_in_use_only(place, other):
    changed = (*CODE[:place], other, *CODE[place + 1 :])
    assert sources.training_code(*changed) != sources.training_code(*CODE)


def test_an_unknown_name_is_refused():
    with pytest.raises(SafsError, match="unknown network 'lenet'; did you mean 'lenet5'"):
        sources.training_code("lenet", *CODE[1:])


def test_a_dense_training_has_the_networks_own_operator():
    names = ("efficientnet_b0", "generated_imagenet16")
    dense = sources.training_code(*names, (), "sgd", "constant")
    assert dense == sources.training_code(*names, ("swish",), "sgd", "constant")


def test_training_code_follows_what_a_network_or_data_set_imports():
    small, downloaded = (
        _files("safs/training/loop.py", entries=[("network", "lenet5"), ("dataset", name)])
        for name in ("mnist5k", "cifar10")
    )
    assert {
        "safs/datasets/batches.py", "safs/datasets/cifar10.py", "safs/datasets/cifar10.py cifar10",
        "safs/datasets/source.py",
        "safs/datasets/unpickle.py",
    } == downloaded - small  # fmt: skip
    assert "safs/networks/lenet5.py lenet5" in small
    assert not any(name.startswith("safs/networks/resnet") for name in small)


@pytest.mark.parametrize("module", ["training/data", "training/evaluation", "search/predictors"])
def test_another_network_or_data_set_touches_no_work(module):
    """Neither fold files, nor test scores, nor what is screened by predictors."""
    found = {part.file for part in sources.parts(frozenset({ROOT / f"safs/{module}.py"}))}
    inside = {file for file in found if file.parent.name in ("networks", "datasets")}
    assert inside and {file.name for file in inside} == {"base.py"}


def test_masks_do_not_depend_on_how_they_are_made():
    loop = _files("safs/training/loop.py", "safs/training/start.py")
    assert "safs/masks.py" in loop and not any(name.startswith("safs/pruning") for name in loop)


def test_a_registered_definition_brings_those_that_it_calls():
    alone = _files(entries=[("operator", "relu")])
    layer = _files(entries=[("operator", "srelu_layer")])
    assert "safs/operators/others.py srelu" in layer - alone


def test_the_method_knows_neither_protocol_nor_pipelines():
    for file in (ROOT / "safs").rglob("*.py"):
        for found in sources.imports(file):
            assert found.relative_to(ROOT).parts[0] == "safs", (file, found)
