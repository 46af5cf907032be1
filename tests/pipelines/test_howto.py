"""The page on adding things: its blocks run, and what they register works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.config import pair
from pipelines.config.study import load
from pipelines.storage import sources
from safs.operators import OPERATORS

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/HOWTO.md").read_text(), re.S)

USE = """
import torch
from safs.datasets import DATASETS
from safs.networks import build
from safs.operators import OPERATORS
from safs.search import run
from safs.search.predictors import score

x = torch.linspace(-3, 3, 7)
assert OPERATORS["softsign"].function(x).abs().max() < 1

arrays = stripes.load("train", None)
assert "stripes" in DATASETS and arrays.images.shape == (60, 1, 8, 8)
net = two_layers((1, 8, 8), 2)
assert net(torch.from_numpy(arrays.images).float()).shape == (60, 2)

scores = PRUNERS["smallest"](net)
assert len(scores) == 2 and all((score <= 0).all() for score in scores.values())

search = SEARCHES["greedy"](slots=3, operators=["a", "b", "c"], budget=60, seed=1)
for _ in range(61):
    chromosome = search.ask()
    search.tell(chromosome, chromosome.count("a"))
assert search.best[2] == 0
batch = torch.randn(8, 1, 28, 28), torch.arange(8)
ranked = score(["outputs"], build("lenet5", (1, 28, 28), 10), *batch)
assert ranked["outputs"] > 0
print("all work")
"""


def test_the_blocks_run_and_what_they_register_works():
    """In a process of its own: the registries of this one stay as they are."""
    assert len(BLOCKS) == 6
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*BLOCKS, USE])],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    assert done.stdout.strip() == "all work", done.stderr


@pytest.mark.parametrize(("package", "block"), [("networks", 1), ("datasets", 2), ("search", 4)])
def test_a_block_works_as_a_file_of_its_package(tmp_path, package, block):
    """Imported by the package's first line, before the rest of the package is there."""
    shutil.copytree(ROOT / "safs", tmp_path / "safs", ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path / "safs" / package
    (folder / "added.py").write_text(BLOCKS[block])
    init = folder / "__init__.py"
    init.write_text(f"from safs.{package} import added\n{init.read_text()}")
    subprocess.run([sys.executable, "-c", f"import safs.{package}"], cwd=tmp_path, check=True)


def test_a_network_that_its_package_does_not_import_is_named(another_tree):
    folder = another_tree / "safs/networks"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(BLOCKS[1])
    (folder / "__init__.py").touch()
    with pytest.raises(ValueError, match=r"is in mine\.py, which networks/__init__\.py must"):
        pair._registered("network", "network", "two_layers")
    (folder / "__init__.py").write_text("from safs.networks import mine\n")
    sources.forget()
    pair._registered("network", "network", "two_layers")


def test_the_pair_and_the_profile_are_valid(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/HOWTO.md").read_text(), re.S)
    places = ("pipelines/pairs/lenet5_cifar10.yaml", "pipelines/profiles/mine/params.yaml")
    *files, confirmed = blocks
    for place, block in zip(places, files, strict=True):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text(block)
    study = load(Path(places[1]), tmp_path)
    assert not study.profile.preregistered.contrasts
    (tmp_path / places[1]).write_text(files[1] + confirmed)
    said = load(Path(places[1]), tmp_path).profile.preregistered
    assert said.ratio == 0.95 and said.margins == {"safs-srelu_hpo": 1.0}
    assert study.profile.params_file == places[1]
    assert study.pairs["lenet5_cifar10"].search.evaluations == 21


@pytest.mark.parametrize("name", OPERATORS)
def test_a_drawn_operator_is_the_trained_one(name):
    """Every operator has a label and a formula in numpy, which agrees with the one in torch."""
    import torch

    x = np.linspace(-6, 6, 97)
    entry = OPERATORS[name]
    own = {key: torch.tensor(value, dtype=torch.float64) for key, value in entry.own.items()}
    trained = 1.5 * entry.function(0.7 * torch.from_numpy(x), **own).numpy()
    assert entry.label and entry.curve(x, 1.5, 0.7) == pytest.approx(trained, rel=1e-9, abs=1e-12)
