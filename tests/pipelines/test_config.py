"""Bad parameters: one line each with key, value, what was expected; nothing is written."""

import shutil
from pathlib import Path

import pytest
import yaml

from pipelines.config.profile import profile_file
from pipelines.config.study import load
from safs.errors import SafsError
from safs.settings import CANDIDATES

ROOT = Path(__file__).parents[2]
MNIST5K = "pipelines/profiles/mnist5k/params.yaml"
FILES = [ROOT / "params.yaml", *ROOT.glob("pipelines/profiles/*/params.yaml")]
PROFILES = [str(path.relative_to(ROOT)) for path in FILES]


def followed(file):
    """The keys of a file that the stages of ``dvc.yaml`` depend on; ``${...}`` stands in names."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    params = [p for stage in stages for p in stage.get("do", stage).get("params", ())]
    return sorted({key for entry in params for key in entry.get(file) or ()})


@pytest.fixture
def root(tmp_path):
    """A copy of the parameters; `edit` changes one of its files."""
    shutil.copytree(ROOT / "pipelines/pairs", tmp_path / "pipelines/pairs")
    shutil.copytree(ROOT / "pipelines/profiles", tmp_path / "pipelines/profiles", symlinks=True)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def edit(root, file, change):
    path = root / file
    values = yaml.safe_load(path.read_text())
    change(values)
    path.write_text(yaml.safe_dump(values))


def message(root):
    with pytest.raises(SafsError) as caught:
        load(Path("params.yaml"), root)
    return str(caught.value)


@pytest.mark.parametrize("file", PROFILES)
def test_every_profile_that_ships_is_valid(file):
    study = load(Path(file), ROOT)
    assert study.profile.params_file == file
    assert set(study.pairs) == set(study.profile.pairs)
    assert (ROOT / Path(file).parent / "dvc.yaml").exists()
    assert (ROOT / Path(file).parent / study.profile.root / "dvc.yaml").resolve() == (
        ROOT / "dvc.yaml"
    )


def test_the_mnist5k_profile_has_the_papers_budgets():
    study = load(Path(MNIST5K), ROOT)
    pair = study.pairs["lenet5_mnist5k"]
    assert pair.pretrain.epochs == pair.finetune.epochs == 100
    assert (pair.search.evaluations, pair.search.epochs, pair.search.history) == (21, 80, 3)
    assert (pair.tune.trials, pair.tune.epochs) == (20, 80)
    assert pair.search.operators == CANDIDATES
    assert study.profile.ratios("lenet5_mnist5k") == [0.9, 0.95, 0.98, 0.99]
    assert study.profile.replicates == 10


def test_a_budget_overrides_only_what_it_names(root):
    quick = load(Path("params.yaml"), root).pairs["lenet5_mnist5k"]
    assert quick.search.operators == CANDIDATES and quick.search.history == 3
    assert quick.search.epochs < 80


def test_an_unknown_key_names_the_nearest(root):
    edit(root, "params.yaml", lambda v: v.update(replicats=3))
    text = message(root)
    assert "params.yaml: unknown key 'replicats'; did you mean 'replicates'?" in text
    assert len(text.splitlines()) == 1


def test_an_unknown_key_inside_a_pair(root):
    file = "pipelines/pairs/lenet5_mnist5k.yaml"
    edit(root, file, lambda v: v["recipe"].update(learning_rate=0.1))
    assert "unknown key 'recipe.learning_rate'" in message(root)
    assert "weight_decay" in message(root)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (
            lambda v: v["cells"]["lenet5_mnist5k-0.90"].update(ratio=1.0),
            ["ratio", "1.0", "less than 1"],
        ),
        (lambda v: v["cells"]["lenet5_mnist5k-0.90"].update(ratio=-0.1), ["ratio", "-0.1"]),
        (lambda v: v.update(replicates=0), ["replicates", "0", "greater than or equal to 1"]),
        (lambda v: v.update(arms=["vanila"]), ["arm", "'vanila'", "did you mean 'vanilla'"]),
        (
            lambda v: v.update(pairs=["lenet5_mnist"]),
            ["'lenet5_mnist5k' is not under pairs: lenet5_mnist"],
        ),
        (lambda v: v["budget"].update(serch={}), ["budget section 'serch'", "'search'"]),
        (lambda v: v["budget"]["tune"].update(trials=0), ["tune.trials", "0"]),
        (lambda v: v.pop("seed"), ["missing key 'seed'"]),
    ],
)
def test_values_out_of_range_are_named(root, change, parts):
    edit(root, "params.yaml", change)
    text = message(root)
    assert all(part in text for part in parts), text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (
            lambda v: v["search"]["operators"].append("swihs"),
            ["unknown operator 'swihs'", "'swish'"],
        ),
        (lambda v: v["search"].update(algorithm="lach"), ["search algorithm 'lach'", "'lahc'"]),
        (lambda v: v["network"].update(name="lenet"), ["unknown network 'lenet'", "'lenet5'"]),
        (
            lambda v: v["network"].update(name="vgg16", options={"widht": 0.5}),
            ["unknown option of the network vgg16 'widht'", "did you mean 'width'"],
        ),
        (
            lambda v: v["network"].update(name="vgg16", options={"width": "0.5"}),
            ["network.options.width: got '0.5'; expected float"],
        ),
        (
            lambda v: v["network"].update(name="resnet18", options={"shortcut_activation": "no"}),
            ["network.options.shortcut_activation: got 'no'; expected bool"],
        ),
        (
            lambda v: v["network"].update(name="vgg16", options={"width": True}),
            ["network.options.width: got True; expected float"],
        ),
        (
            lambda v: v.update(prune={"method": "given", "given": "masks/{replicate.x}"}),
            ["'masks/{replicate.x}' takes {replicate} and {ratio} only"],
        ),
        (
            lambda v: v["network"].update(options={"width": 0.5}),
            ["unknown option of the network lenet5 'width'; known: none"],
        ),
        (lambda v: v["dataset"].update(name="mnist5"), ["unknown data set 'mnist5'"]),
        (lambda v: v["prune"].update(method="magnitud"), ["pruning method 'magnitud'"]),
        (lambda v: v["recipe"].update(optimizer="sdg"), ["recipe.optimizer", "'sdg'", "'sgd'"]),
        (
            lambda v: v["recipe"].update(optimizer="adam", momentum=0.9),
            ["momentum is for sgd only"],
        ),
    ],
)
def test_names_and_recipes_of_a_pair_are_checked(root, change, parts):
    edit(root, "pipelines/pairs/lenet5_mnist5k.yaml", change)
    text = message(root)
    assert all(part in text for part in parts), text


def test_a_file_that_is_missing_or_no_yaml_says_so(root):
    with pytest.raises(SafsError, match=r"nowhere\.yaml: no such file"):
        load(Path("nowhere.yaml"), root)
    (root / "params.yaml").write_text("a: [1,\n")
    assert "params.yaml: not YAML" in message(root)


def test_an_unknown_profile_names_the_nearest(root):
    assert profile_file("quick", root) == Path("params.yaml")
    with pytest.raises(SafsError, match="unknown profile 'quik'; did you mean 'quick'"):
        profile_file("quik", root)


def without(key):
    def change(values):
        *sections, name = key.split(".")
        for section in sections:
            values = values[section]
        del values[name]

    return change


@pytest.mark.parametrize("key", followed("${params_file}"))
def test_a_profile_without_a_key_that_dvc_follows_is_refused(root, key):
    """DVC itself says so only once the stages before have run."""
    edit(root, "params.yaml", without(key))
    assert f"params.yaml: missing key '{key}" in message(root)


@pytest.mark.parametrize("study", ["activations", "algorithms", "landscape"])
def test_a_profile_older_than_a_study_runs_without_it(root, study):
    """Whoever copied a profile need not follow every study that is added: no stage names one."""
    edit(root, "params.yaml", without(f"studies.{study}"))
    studies = load(Path("params.yaml"), root).profile.studies
    assert not getattr(studies, study).cells
    assert not [key for key in followed("${params_file}") if key.startswith("studies.")]


@pytest.mark.parametrize("key", followed("pipelines/pairs/${item.pair}.yaml"))
def test_a_pair_without_a_key_that_dvc_follows_is_refused(root, key):
    edit(root, "pipelines/pairs/lenet5_mnist5k.yaml", without(key))
    assert f"missing key '{key}'" in message(root)


def test_a_cell_is_not_named_as_a_pair(root):
    """Stages are told apart by these names."""
    cell = {"lenet5_mnist5k": {"pair": "lenet5_mnist5k", "ratio": 0.97}}
    edit(root, "params.yaml", lambda v: v["cells"].update(cell))
    assert "cells.lenet5_mnist5k is named as a pair; expected lenet5_mnist5k-0.97" in message(root)


def test_a_cell_has_the_ratio_that_its_name_says(root):
    edit(root, "params.yaml", lambda v: v["cells"]["lenet5_mnist5k-0.90"].update(ratio=0.92))
    assert (
        "cells.lenet5_mnist5k-0.90: ratio 0.92 is not the name's; expected lenet5_mnist5k-0.92"
    ) in message(root)


def test_a_missing_key_names_the_one_that_is_meant(root):
    def rename(values):
        values["finetunes"] = values.pop("finetune")

    edit(root, "pipelines/pairs/lenet5_mnist5k.yaml", rename)
    assert "missing key 'finetune' ('finetunes' is another)" in message(root)


def test_a_reading_may_repeat_its_final_trainings_otherwise(root):
    five = {"title": "Five", "pair": "lenet5_mnist5k", "protocol": {"finals": 5}}
    edit(root, "params.yaml", lambda v: v["readings"].update(five=five | {"arms": ["vanilla"]}))
    assert load(Path("params.yaml"), root).readings["five"].profile.protocol.finals == 5
