"""What a plan says before anything runs, without the data sets."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from bench.labs import cards
from pipelines.acceptance import run
from pipelines.cli.plan import beside_table3, on_cards, rows, view, warnings
from pipelines.config.pair import Prune, load_pair
from pipelines.config.study import load
from pipelines.dvc.plan import steps, training_images
from pipelines.engine.spending import run_epochs, spending
from pipelines.storage.layout import trained_in
from pipelines.tasks import pruning, timing
from safs.errors import SafsError
from safs.settings import Protocol
from safs.spec import Acceleration, Recipe
from safs.training.data import load_fold

ROOT = Path(__file__).parents[2]
PLAIN = Acceleration()


@pytest.mark.parametrize(
    ("dataset", "images"),
    [
        ("mnist", 50_000),
        ("cifar10", 33_334),
        ("imagenet16", 1_229_921),
        ("fashion_mnist_rgb16", 5_000),
        ("fashion_mnist_rgb32", 5_000),
    ],
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
    assert run_epochs(pair, "srelu_layer") == 100
    assert run_epochs(pair, "srelu_layer_hpo") == 20 * 80 + 100


def test_finals_count_as_often_as_they_are_trained():
    """Five finals of 100 epochs; a selected trial that stands for them has its own 80."""
    pair = load_pair("lenet5_mnist", (), ROOT)
    five, selected = Protocol(finals=5), Protocol(finals=5, reported="selected")
    assert spending(pair, "safs", five)["final"] == [(5, 100)]
    assert spending(pair, "safs", selected)["final"] == [(1, 80)]
    assert spending(pair, "safs_fast", selected)["final"] == [(5, 100)]
    assert spending(pair, "vanilla", selected)["final"] == [(5, 100)]
    assert spending(pair, "dense", five)["final"] == [(1, 100)]


def test_srelu_per_layer_is_trained_beside_srelu():
    assert trained_in("srelu_layer") == trained_in("srelu") == "baselines"
    assert trained_in("srelu_layer_hpo") == trained_in("srelu_hpo") == "tune"


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
    assert cells["lenet5_mnist99%"] == ["3.38 / 0.1 (34x)", "6.4 / 0.16 (40x)"]
    assert cells["resnet18_imagenet1699%"][-1] == "-", "Table 3 lacks this pair"


def test_hours_of_a_card_come_from_its_file(tmp_path):
    study = load(Path("pipelines/profiles/smoke/params.yaml"))
    (told,) = on_cards(study, tmp_path)
    assert told.startswith("GPU hours: none has been measured")
    speed = {"pair": "lenet5_generated", "option": "plain", "images": 100, "seconds": 36.0}
    card = {"name": "A Card", "driver": "1", "cuda": "1", "cudnn": "1", "torch": "1",
            "bytes": 1, "mig": False, "mps": False}  # fmt: skip
    content = {"card": card, "seconds": 1.0, "checks": [], "side_by_side": [],
               "speeds": [speed, speed | {"option": "tf32", "seconds": 1.0}]}  # fmt: skip
    (tmp_path / "a-card.json").write_text(cards.render(content))
    epochs = sum(step.epochs for step in steps(study) if step.pair == "lenet5_generated")
    hours = epochs * training_images("generated_digits") * 0.36 / 3600
    (told,) = on_cards(study, tmp_path)
    assert told.startswith(f"GPU hours on A Card: lenet5_generated {hours:,.1f}, ")
    assert "vgg16_generated not measured" in told


def test_a_plan_warns_of_cells_in_which_classes_are_cut_off():
    """EfficientNet-B0 at the paper's .99 connects none of 1,000 classes, at .90 all of them."""
    pair = load_pair("efficientnetb0_imagenet16", (), ROOT)
    key = pair.network, pair.dataset.name, (0.90, 0.99), pair.prune, 2023
    found = pruning.connected(*key)
    assert found == {0.90: (1000, 1000), 0.99: (0, 1000)}
    (line,) = warnings({("a", ratio): reach for ratio, reach in found.items()})
    assert line.startswith("a 99%: 0 of 1,000 classes are connected to the input")
    assert line.endswith("every arm is at chance, 0.1 %")
    (line,) = warnings({("b", 0.99): (6, 10)})
    assert line.startswith("b 99%: 6 of 10") and line.endswith("accuracy is at most about 70 %")


@pytest.mark.parametrize("method", ["snip", "given"])
def test_a_mask_from_images_or_a_file_is_not_foretold(method):
    settings = Prune(method=method, given="mask.safetensors" if method == "given" else None)
    pair = load_pair("lenet5_mnist5k", (), ROOT)
    assert pruning.connected(pair.network, "mnist5k", (0.99,), settings, 1) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_its_check_is_one_line():
    with pytest.raises(SafsError, match="check-gpu: torch sees no CUDA device here"):
        run.prepared()


def test_a_plan_has_hours_without_workers_and_a_title_as_it_stands():
    """``SAFS_WORKERS=0`` trains in the stage itself; a title is no markup."""
    study = load(Path("params.yaml"), ROOT)
    titled = study.profile.model_copy(update={"title": "[pilot] of mine [/pilot]"})
    study = study.model_copy(update={"profile": titled})
    seconds = {
        (name, ratio): 1.0 for name in study.pairs for ratio in (None, *study.profile.ratios(name))
    }
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(view(study, seconds, 0))
    assert "[pilot] of mine [/pilot]" in console.export_text()
    alone, two = (sum(r["hours"] for r in rows(study, seconds, n)) for n in (0, 2))
    assert alone == pytest.approx(2 * two)
