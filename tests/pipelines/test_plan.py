"""What a plan says before anything runs, without the data sets."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from pipelines.cli.plan import beside_table3
from pipelines.config.pair import load_pair
from pipelines.config.study import load
from pipelines.plan import run_epochs, training_images
from pipelines.tasks import timing
from safs.spec import Acceleration, Recipe
from safs.training.data import load_fold

ROOT = Path(__file__).parents[2]
PLAIN = Acceleration()


@pytest.mark.parametrize(
    ("dataset", "images"), [("mnist", 50_000), ("cifar10", 33_334), ("imagenet16", 1_229_921)]
)
def test_a_fold_of_a_data_set_that_is_not_here(dataset, images):
    assert training_images(dataset) == images


def test_a_fold_of_a_data_set_that_is_here():
    assert training_images("mnist5k") == len(load_fold("mnist5k", 0, 1, torch.device("cpu")).train)


def test_epochs_of_one_replicate_by_hand():
    pair = load_pair("lenet5_mnist", (), ROOT)
    assert run_epochs(pair, "vanilla") == 100
    assert run_epochs(pair, "safs") == 21 * 80 + 20 * 80 + 100
    assert run_epochs(pair, "stage1_only") == 21 * 80 + 100
    assert run_epochs(pair, "default_hpo_total") == 41 * 80 + 100
    assert run_epochs(pair, "best_single_hpo") == 13 * 80 + 20 * 80 + 100


def test_an_epoch_is_timed_without_data_and_at_any_rate(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFS_DATA", str(tmp_path))
    pair = load_pair("lenet5_mnist", (), ROOT)
    for recipe in (pair.recipe, Recipe(lr=1e6)):
        times = [
            timing.epoch_seconds(pair.network, "mnist", recipe, ratio, backend, PLAIN, 50_000)
            for ratio, backend in ((None, "dense"), (0.99, "auto"))
        ]
        assert times[0] > 3 * times[1] > 0
    assert list(tmp_path.iterdir()) == []


def test_hours_stand_beside_table_3(monkeypatch):
    study = load(Path("pipelines/profiles/paper/params.yaml"), ROOT)
    seconds = {
        (name, ratio): 36.0 if ratio is None else 3.6
        for name in study.pairs
        for ratio in (None, *study.profile.ratios(name))
    }
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(beside_table3(study, seconds))
    rows = [line.split("│")[1:-1] for line in console.export_text().splitlines() if "│" in line]
    cells = {row[0].strip() + row[1].strip(): [cell.strip() for cell in row[2:]] for row in rows}
    assert cells["lenet5_mnist0.99"] == ["3.38 / 0.1 (34x)", "6.4 / 0.16 (40x)"]
    assert cells["resnet18_imagenet160.99"][-1] == "-", "Table 3 lacks this pair"
