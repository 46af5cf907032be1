"""Every pair file loads, fits its network and data, and holds the paper's recipe and budgets."""

import shutil
from pathlib import Path

import pytest
import yaml

from bench.paper import pairs as published_pairs
from pipelines.config.pair import PAIRS, load_pair, load_preset
from pipelines.config.study import load
from pipelines.storage.sources import training_code
from safs import slots
from safs.datasets import DATASETS
from safs.errors import SafsError
from safs.networks import NETWORKS, build, prunable
from safs.pruning.prune import spared
from safs.search.tuning_space import config_of, space
from safs.settings import CANDIDATES

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / PAIRS).glob("*.yaml"))
PAPER = ["lenet5_mnist", "vgg16_cifar10", "resnet18_cifar10", "resnet18_imagenet16",
         "efficientnetb0_imagenet16"]  # fmt: skip
SLOTS = {"lenet5": 4, "vgg16": 13, "vgg11": 8, "resnet18": 17, "efficientnet_b0": 49}
DENSE = {  # Tables 5-7: lr, momentum, weight decay, schedule, epochs
    "lenet5_mnist": (0.1, 0.0, 0.0, "constant", 100),
    "lenet5_fashion_mnist": (0.1, 0.0, 0.0, "constant", 100),
    "vgg16_cifar10": (0.001, 0.9, 5e-4, "halving", 200),
    "resnet18_cifar10": (0.01, 0.9, 5e-4, "plateau", 200),
    "resnet18_imagenet16": (0.1, 0.9, 5e-4, "warm_restarts", 50),
    "efficientnetb0_imagenet16": (0.01, 0.9, 5e-4, "warm_restarts", 50),
}


def pair(name):
    return load_pair(name, (), ROOT)


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_loads_and_its_parts_fit(name):
    spec = pair(name)
    entry = DATASETS[spec.dataset.name]
    network = build(spec.network.name, entry.shape, entry.classes, options=spec.network.options)
    places = slots.slots(network)
    assert len(places) == SLOTS.get(spec.network.name, len(places))
    assert {slot.operator for slot in places.values()} == {NETWORKS[spec.network.name].default}
    recipe = spec.recipe
    names = (spec.network.name, spec.dataset.name, (), recipe.optimizer, recipe.schedule)
    assert training_code(*names)


@pytest.mark.parametrize("name", NAMES)
def test_the_dense_recipe_is_a_point_of_the_tuning_space(name):
    recipe = pair(name).recipe
    default = dict(space(recipe, seed=0).get_default_configuration())
    assert default == config_of(recipe)


@pytest.mark.parametrize("name", sorted(DENSE))
def test_the_dense_recipe_is_the_papers(name):
    spec = pair(name)
    recipe, epochs = spec.recipe, spec.pretrain.epochs
    found = (recipe.lr, recipe.momentum, recipe.weight_decay, recipe.schedule, epochs)
    assert found == DENSE[name]
    assert (recipe.optimizer, recipe.batch_size) == ("sgd", 256)
    assert recipe.restart_epochs == (12 if recipe.schedule == "warm_restarts" else None)
    assert spec.finetune == spec.pretrain


@pytest.mark.parametrize("name", sorted(DENSE))
def test_search_and_tune_are_those_of_table_4(name):
    spec = pair(name)
    search = spec.search
    assert (search.algorithm, search.history, search.moves, search.epochs) == ("lahc", 3, 20, 80)
    assert (search.fitness, search.start) == ("training_loss", "random")
    assert search.operators == CANDIDATES
    assert (spec.tune.trials, spec.tune.epochs) == (20, 80)
    assert spec.prune.method == "magnitude"


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_is_read_as_released(name):
    preset = load_preset("as_released", ROOT)
    plain, spec = pair(name), load_pair(name, preset.layers(name, ROOT), ROOT)
    assert spec.search.fitness == "best_validation_error" and spec.search.evaluations in (
        22,
        23,
        24,
    )
    assert set(spec.search.operators) - set(CANDIDATES) == {"logsigmoid"}
    assert (spec.tune.objective, spec.tune.schedule_for, spec.finetune.epochs) == (
        "best",
        "sgd",
        200,
    )
    assert (spec.recipe == plain.recipe) is (plain.about.published in (None, "vgg16_cifar10"))
    if name == "efficientnetb0_fashion_mnist_rgb16":  # the released space has no Adam with cosine
        with pytest.raises(SafsError, match="'cosine' with adam, searched for sgd only"):
            space(spec.recipe, seed=0, schedule_for=spec.tune.schedule_for)
    else:
        space(spec.recipe, seed=0, schedule_for=spec.tune.schedule_for)
    entry = DATASETS[spec.dataset.name]
    network = build(spec.network.name, entry.shape, entry.classes, options=spec.network.options)
    if spec.prune.spare:
        assert len(prunable(network)) - len(spared(network, spec.prune.spare)) == 65


def test_the_budget_of_a_profile_wins_over_its_preset():
    preset = load_preset("as_released", ROOT)
    layers = (*preset.layers("lenet5_mnist5k", ROOT), {"finetune": {"epochs": 3}})
    spec = load_pair("lenet5_mnist5k", layers, ROOT)
    assert (spec.finetune.epochs, spec.pretrain.epochs, spec.recipe.optimizer) == (3, 200, "adam")


def test_a_switch_wins_over_the_preset(tmp_path):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["protocol"] = {"preset": "as_released", "srelu": "per_layer", "betas": "published"}
    for folder in ("pipelines/pairs", "pipelines/presets"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    study = load(Path("params.yaml"), tmp_path)
    protocol = study.profile.protocol
    assert (protocol.preset, protocol.srelu, protocol.own_parameters) == (
        "as_released", "per_layer", "both",
    )  # fmt: skip
    assert (protocol.betas, protocol.tadam) == ("published", "as_released")
    for spec in study.pairs.values():
        assert (spec.recipe.betas, spec.recipe.tadam) == ("published", "as_released")


def test_only_the_papers_pairs_on_real_data_are_comparable():
    assert sorted(n for n in NAMES if pair(n).about.comparable) == sorted(PAPER)
    assert sorted(PAPER) == sorted(published_pairs())
    assert all(pair(name).about.published == name for name in PAPER)


@pytest.mark.parametrize("name", PAPER)
def test_the_networks_and_data_sets_are_the_papers(name):
    published = published_pairs()[name]
    spec = pair(name)
    assert NETWORKS[spec.network.name].label == published["network"]
    assert DATASETS[spec.dataset.name].label == published["dataset"]
    assert spec.network.options == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_file_starts_with_a_comment_and_names_every_section(name):
    text = (ROOT / PAIRS / f"{name}.yaml").read_text()
    assert text.startswith("#")
    sections = [name for name in yaml.safe_load(text) if name != "fast"]  # which has defaults
    assert sections == [
        "about", "network", "dataset", "recipe", "pretrain", "prune", "finetune", "search", "tune",
    ]  # fmt: skip
