"""An operator, a pruner, a network, a data set and a search of one's own, each one decorated
definition in this file: nothing finished is trained again, and a study runs with all of them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from pipelines.config.pair import Pair
from pipelines.config.profile import Studies
from pipelines.config.study import Study, load
from pipelines.stages import (
    activations,
    compare,
    evaluate,
    pretrain,
    prune,
    records,
    report,
    search,
    tables,
    tune,
)
from pipelines.storage import sources
from safs.datasets.base import DATASETS, Arrays, dataset
from safs.errors import SafsError
from safs.networks import prunable
from safs.networks.base import NETWORKS, network
from safs.operators.base import OPERATORS, operator
from safs.pruning.pruners import PRUNERS
from safs.search.base import SEARCHES, Searcher

ROOT = sources.ROOT
PAIR, RATIO = "bars", 0.5


def add_operator():
    @operator("bent", label="Bent line", formula=lambda x: (np.sqrt(x * x + 1) - 1) / 2 + x)
    def bent(x):
        return ((x * x + 1).sqrt() - 1) / 2 + x


def add_pruner():
    @PRUNERS.register("largest_last")
    def largest_last(network):
        return {name: -weight.detach().abs() for name, weight in prunable(network).items()}


def add_network():
    @network("three_layers", label="Three layers")
    def three_layers(shape, classes):
        inputs = int(np.prod(shape))
        return nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, 12), nn.ReLU(),
            nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, classes),
        )  # fmt: skip


def add_dataset():
    @dataset("bars", label="Bars", shape=(1, 6, 6), classes=2, folds=3)
    def bars(part, directory):
        labels = np.tile(np.arange(2), 30 if part == "train" else 10)
        images = np.random.default_rng(len(labels)).integers(0, 90, (len(labels), 1, 6, 6))
        images[labels == 0, :, ::2, :] += 100
        images[labels == 1, :, :, ::2] += 100
        return Arrays(images.astype(np.uint8), labels.astype(np.int64))


def add_search():
    @SEARCHES.register("forgetful")
    class Forgetful(Searcher):
        """Takes whatever comes, and changes one gene of it."""

        def _propose(self):
            genes = list(self.last)
            genes[self.rng.integers(self.slots)] = str(self.rng.choice(self.operators))
            return tuple(genes)

        def _learn(self, chromosome, energy):
            self.last = chromosome
            return True


ADDED = {
    "operator": (add_operator, OPERATORS, "bent"),
    "pruner": (add_pruner, PRUNERS, "largest_last"),
    "network": (add_network, NETWORKS, "three_layers"),
    "dataset": (add_dataset, DATASETS, "bars"),
    "search": (add_search, SEARCHES, "forgetful"),
}


@pytest.fixture
def added():
    """All five are registered, and gone again afterwards."""
    for add, _, _ in ADDED.values():
        add()
    sources.forget()
    yield
    for _, registry, name in ADDED.values():
        registry.remove(name)
    sources.forget()


FINGERPRINTS = """
import json
from pipelines.storage import sources
from pipelines.storage.sources import Registered

found = {}
for kind in sources.KINDS:
    for name in sources.names(kind):
        found[f"{kind} {name}"] = sources.of(entries=[Registered(kind, name)])
for stage in (
    "pruning/prune", "method/stage1", "method/stage2", "method/cheap", "training/loop",
    "training/start", "training/data", "training/evaluation", "pruning/compression",
):
    found[stage] = sources.of(f"safs/{stage}.py")
for name in ("lenet5", "vgg16", "resnet18", "efficientnet_b0"):
    found[f"train {name}"] = sources.training_code(name, "mnist5k", ("srelu",), "sgd", "constant")
"""


def fingerprints():
    """Of every entry and every file that a stage names, computed anew."""
    sources.forget()
    scope: dict = {}
    exec(FINGERPRINTS, scope)
    return scope["found"]


def test_added_entries_move_no_other_fingerprint(request):
    before = fingerprints()
    request.getfixturevalue("added")
    after = fingerprints()
    for kind, (_, _, name) in ADDED.items():
        assert after.pop(f"{kind} {name}") not in before.values()
    assert after == before


def test_what_a_registered_function_does_counts_and_its_label_does_not(tree):
    """Also of one that is registered inside a function, by a decorator taken from its module."""
    file = tree / "own.py"
    codes = {}
    for label, value in (("Own", 1), ("Another", 1), ("Own", 2)):
        file.write_text(
            "from safs.operators import base\ndef add():\n"
            f"    @base.operator('own', label='{label}')\n"
            f"    def own(x):\n        return x + {value}\n"
        )
        codes[label, value] = printed(tree, before="import own; own.add()")["operator own"]
    assert codes["Own", 1] == codes["Another", 1] != codes["Own", 2]


FILES = {
    "operator": "operators/others.py",
    "pruner": "pruning/pruners.py",
    "network": "networks/resnet.py",
    "dataset": "datasets/mnist.py",
    "search": "search/random_search.py",
}
BLOCKS = {
    "operator": '@operator("added", label="Added")\ndef added(x):\n    return x\n',
    "pruner": '@PRUNERS.register("added")\ndef added(network):\n    return {}\n',
    "network": '@network("added", label="Added")\ndef added(shape, classes):\n    return None\n',
    "dataset": '@dataset("added", label="Added", shape=(1, 2, 2), classes=2, folds=2)\n'
    "def added(part, directory):\n    return None\n",
    "search": '@SEARCHES.register("added")\nclass Added(Searcher):\n    pass\n',
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the source."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in ("safs", "bench", "pipelines"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, copy / folder, ignore=skip)
    return copy


def printed(tree: Path, before: str = "") -> dict[str, str]:
    """The fingerprints of a copy, in a process of its own that first runs ``before``."""
    code = f"{before}\n{FINGERPRINTS}\nprint(json.dumps(found))"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_code_added_beside_others_in_their_files_moves_no_fingerprint_of_theirs(tree):
    """All five at once, each at the end of a file that has other entries."""
    before = printed(tree)
    for kind, block in BLOCKS.items():
        file = tree / "safs" / FILES[kind]
        file.write_text(f"{file.read_text()}\n\n{block}")
    after = printed(tree)
    for kind in BLOCKS:
        assert after.pop(f"{kind} added") not in before.values()
    assert after == before


# -- a study of all five --


def study() -> Study:
    """The smoke profile with one pair, made of what this file adds."""
    whole = load(Path("pipelines/profiles/smoke/params.yaml"), ROOT)
    pair = Pair.model_validate(
        {
            "about": {"label": "Three layers / Bars"},
            "network": {"name": "three_layers"},
            "dataset": {"name": "bars"},
            "recipe": {"optimizer": "sgd", "lr": 0.05, "batch_size": 10},
            "pretrain": {"epochs": 3},
            "prune": {"method": "largest_last"},
            "finetune": {"epochs": 2},
            "search": {
                "algorithm": "forgetful", "moves": 6, "epochs": 1, "operators": ["bent", "tanh"],
            },
            "tune": {"trials": 2, "epochs": 1},
        }
    )  # fmt: skip
    cell = whole.profile.cells["lenet5_generated-0.90"]
    profile = whole.profile.model_copy(
        update={
            "arms": ("stage1_only", "safs"),
            "pairs": (PAIR,),
            "cells": {"only": cell.model_copy(update={"pair": PAIR, "ratio": RATIO})},
            "backend": "dense",
            "studies": Studies(activations={"operators": ("bent",), "cells": ("only",)}),
        }
    )
    return Study(profile=profile, pairs={PAIR: pair})


def test_a_study_of_all_five_shows_the_operator_with_label_and_curve(added, tmp_path, monkeypatch):
    monkeypatch.setenv("SAFS_WORKERS", "0")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    of = study()
    pretrain.run(of, PAIR)
    for stage in (prune, search, tune):
        stage.run(of, PAIR, RATIO)
    activations.run(of, PAIR)
    evaluate.run(of, PAIR)
    for stage in (records, tables, compare, report):
        stage.run(of)
    place = tmp_path / "results/smoke"
    runs = (place / "tables/runs.csv").read_text()
    assert "all_bent" in runs and "failed" not in runs
    assert "Bent line" in (place / "figures/activations.svg").read_text()
    assert "Bent line" in (place / "figures/operators.svg").read_text()
    assert "Bent line" in (place / "figures/learned.svg").read_text()
    assert "Bent line" in (place / "report.html").read_text()
    assert "forgetful" in (place / "searches/candidates.csv").read_text()


def test_a_search_that_proposes_no_chromosome_is_named_by_its_stage(added, tmp_path, monkeypatch):
    monkeypatch.setenv("SAFS_WORKERS", "0")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SEARCHES["forgetful"], "_propose", lambda self: list(self.last))
    of = study()
    pretrain.run(of, PAIR)
    prune.run(of, PAIR, RATIO)
    message = r"search 'forgetful' proposes \[.*\]; expected a tuple of 2 names, each one of bent, "
    with pytest.raises(SafsError, match=message):
        search.run(of, PAIR, RATIO)


def test_the_curve_drawn_is_the_formula(added):
    x = np.linspace(-3, 3, 13)
    drawn = OPERATORS["bent"].curve(x, alpha=2.0, beta=0.5)
    assert drawn == pytest.approx(2 * ((np.sqrt(0.25 * x * x + 1) - 1) / 2 + 0.5 * x))


def test_a_pair_that_names_what_is_not_added_is_refused_with_the_nearest(added):
    values = study().pairs[PAIR].model_dump(mode="json")
    values["search"]["operators"] = ["bend", "tanh"]
    with pytest.raises((SafsError, ValueError), match=r"bend.*'bent'"):
        Pair.model_validate(values)
