"""The second opinion, ``examples/safs_in_one_file.py``, against the suite: same start, same end."""

from __future__ import annotations

import ast
import copy
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from safs import kernels, search, seeds
from safs.datasets import load_part, partition
from safs.datasets.base import stratified_holdout
from safs.networks import build
from safs.operators import OPERATORS
from safs.pruning.prune import prune
from safs.search import tuning_space
from safs.search.lahc import LateAcceptance
from safs.settings import CANDIDATES, SCHEDULES
from safs.spec import Recipe
from safs.training import loop, schedules
from safs.training.data import BatchOrder, Fold, Images, load_fold
from safs.training.evaluation import score
from safs.training.start import Pruned

FILE = Path(__file__).parents[2] / "examples" / "safs_in_one_file.py"
ROOT, REPLICATE, IMAGES = 0, 0, 300  # a batch and a part of one
TOLERANCE = 1e-3
BUDGET = {"dense": 2, "search": 2, "tune": 2, "final": 2}
ADAM = Recipe(optimizer="adam", lr=0.003)
RELU, MIXED, OTHERS = (
    ["relu"] * 4,
    ["srs", "symlog", "gelu", "srs"],
    ["tanh", "acon", "elu", "swish"],
)


@pytest.fixture(scope="module")
def one() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("safs_in_one_file", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def given(one: ModuleType, fold: Fold, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the suite leaves to chance, as the file that the example reads."""
    labels = one.mnist5k()[1].numpy()
    held_out = stratified_holdout(labels, 100, 0)
    rest = np.flatnonzero(~held_out)
    held = partition(labels[rest], 5, ROOT) == REPLICATE
    network = build("lenet5", (1, 28, 28), 10, root=ROOT, replicate=REPLICATE)
    tune = np.random.SeedSequence(seeds.integer(ROOT, "tune", REPLICATE)).generate_state(1)[0]
    chance = {
        "train": few(rest[~held]),
        "validation": rest[held],
        "test": np.flatnonzero(held_out),
        "seeds": np.array([seeds.integer(ROOT, "search", REPLICATE), tune]),
        **{name: weight.numpy() for name, weight in network.state_dict().items()},
        **{phase: orders(fold, phase, epochs) for phase, epochs in BUDGET.items()},
    }
    path = tmp_path_factory.mktemp("one_file") / "given.npz"
    np.savez(path, **chance)
    return path


@pytest.fixture(scope="module")
def fold() -> Fold:
    """The suite's fold, of which fewer images train."""
    whole = load_fold("mnist5k", REPLICATE, ROOT, torch.device("cpu"))
    kept, train = few(np.arange(len(whole.train))), whole.train
    images = Images(train.pixels[kept], train.labels[kept], train.mean, train.std)
    return Fold(images, whole.validation, whole.augmentation, whole.classes)


@pytest.fixture(scope="module")
def parts(one: ModuleType, given: Path) -> dict[str, Any]:
    """Images and labels of each part as the example picks them by that file."""
    (images, labels), chance = one.mnist5k(), np.load(given)
    chosen = {part: chance[part] for part in ("train", "validation", "test")}
    return {part: (images[index], labels[index]) for part, index in chosen.items()}


@pytest.fixture(scope="module")
def dense(fold: Fold) -> nn.Module:
    """A dense network of the suite, trained for a few epochs."""
    network = build("lenet5", (1, 28, 28), 10, root=ROOT, replicate=REPLICATE)
    loop.train(network, fold, ADAM, 15, BatchOrder(ROOT, REPLICATE, "dense"))
    return network


def few(indices: np.ndarray) -> np.ndarray:
    """Some of the training images of a fold."""
    return indices[np.random.default_rng(0).permutation(3200)[:IMAGES]]


def orders(fold: Fold, phase: Any, epochs: int) -> np.ndarray:
    """The suite's order of the images in each epoch."""
    order = BatchOrder(ROOT, REPLICATE, phase)
    return np.stack([order.draw(fold, epoch).order for epoch in range(epochs)])


def same_weights(one: ModuleType, network: nn.Module) -> nn.Module:
    """The example's network with the weights of one of the suite's with ReLU."""
    theirs: nn.Module = one.LeNet5()
    theirs.load_state_dict(network.state_dict())
    return theirs


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the example has it."""
    return recipe.model_dump(exclude={"batch_size", "restart_epochs"})


def largest_difference(outcome: loop.Outcome, losses: list[float]) -> float:
    assert outcome.failure is None
    suite = [epoch.train_loss for epoch in outcome.history]
    assert len(suite) == len(losses)
    return max(abs(a - b) for a, b in zip(suite, losses, strict=True))


def test_it_is_short_and_imports_nothing_of_the_suite() -> None:
    text = FILE.read_text()
    assert len(text.splitlines()) < 300
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module))
    assert "torch" in names
    assert not {name.split(".")[0] for name in names} & {"safs", "bench", "pipelines"}


def test_both_read_the_same_images(parts: dict[str, Any], fold: Fold) -> None:
    for part, images in (("train", fold.train), ("validation", fold.validation)):
        pixels, labels = parts[part]
        assert torch.equal(pixels, images.normalised(slice(None)))
        assert torch.equal(labels, images.labels)
    test = load_part("mnist5k", "test")
    pixels, labels = parts["test"]
    assert np.array_equal((pixels * 255).round().numpy(), test.images)
    assert np.array_equal(labels.numpy(), test.labels)


def test_what_it_draws_itself_is_stratified_and_the_test_images_are_fixed(one: ModuleType) -> None:
    labels = one.mnist5k()[1].numpy()
    first, second = (one.draw(labels, BUDGET, seed) for seed in (0, 1))
    parts = [first[part] for part in ("train", "validation", "test")]
    assert [np.bincount(labels[part]).tolist() for part in parts] == [
        [320] * 10,
        [80] * 10,
        [100] * 10,
    ]
    assert sorted(np.concatenate(parts)) == list(range(5000))
    assert np.array_equal(first["test"], second["test"])
    assert not np.array_equal(first["validation"], second["validation"])
    assert sorted(first["final"][1]) == list(range(3200))


@pytest.mark.parametrize("name", [*CANDIDATES, "relu"])
def test_operators_agree_in_value_and_gradient(one: ModuleType, name: str) -> None:
    entry = OPERATORS[name]
    own = {key: torch.tensor(value) for key, value in entry.own.items()}
    ends = []
    for function in (one.OPERATORS[name], lambda x: entry.function(x, **own)):
        x = torch.cat([torch.linspace(-40, 40, 1601), torch.tensor([0.0, -1e4, 1e4])])
        y = function(x.requires_grad_())
        (slope,) = torch.autograd.grad(y.sum(), x)
        assert bool(y.isfinite().all()) and bool(slope.isfinite().all())
        ends.append((y.detach()[:-2], slope[:-2]))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


def test_candidates_are_the_same(one: ModuleType) -> None:
    assert set(one.CANDIDATES) == set(CANDIDATES) and len(one.CANDIDATES) == 13


@pytest.mark.parametrize("recipe", [ADAM, Recipe(lr=0.1, momentum=0.9)], ids=lambda r: r.optimizer)
def test_dense_training_agrees(
    one: ModuleType, given: Path, parts: dict[str, Any], fold: Fold, recipe: Recipe
) -> None:
    chance, theirs = np.load(given), one.LeNet5()
    theirs.load_state_dict({name: torch.from_numpy(chance[name]) for name in theirs.state_dict()})
    losses = one.train(theirs, {}, parts["train"], as_dict(recipe), orders(fold, "dense", 4))
    ours = build("lenet5", (1, 28, 28), 10, root=ROOT, replicate=REPLICATE)
    outcome = loop.train(ours, fold, recipe, 4, BatchOrder(ROOT, REPLICATE, "dense"))
    assert largest_difference(outcome, losses) < TOLERANCE
    assert losses[-1] < losses[0]
    accuracy = one.accuracy(theirs, parts["validation"])
    assert accuracy == pytest.approx(score(ours, fold.validation).top1, abs=0.005)


@pytest.mark.parametrize("ratio", [0.9, 0.95, 0.99])
def test_masks_are_the_same(one: ModuleType, dense: nn.Module, ratio: float) -> None:
    """As trained, and rounded so that many weights tie."""
    rounded = copy.deepcopy(dense)
    for weight in rounded.parameters():
        weight.data = weight.data.round(decimals=2)
    for network in (dense, rounded):
        ours, theirs = prune(network, ratio), one.prune(same_weights(one, network), ratio)
        assert {f"{name}.weight" for name in ours} == set(theirs)
        assert all(torch.equal(mask, theirs[f"{name}.weight"]) for name, mask in ours.items())


CASES = [
    (0.9, RELU, Recipe(lr=0.1)),
    (0.99, RELU, Recipe(lr=0.1, momentum=0.9, weight_decay=0.1, schedule="linear")),
    (0.9, MIXED, Recipe(lr=0.05, momentum=0.5, weight_decay=0.1, schedule="plateau")),
    (0.99, MIXED, Recipe(optimizer="adam", lr=0.03, weight_decay=0.1, schedule="cosine")),
    (0.99, MIXED, Recipe(optimizer="tadam", lr=0.03, weight_decay=0.1, schedule="step")),
    (0.99, OTHERS, Recipe(optimizer="fromage", lr=0.03, schedule="warm_restarts")),
]
NAMES = [f"{ratio}-{genes[0]}-{recipe.optimizer}" for ratio, genes, recipe in CASES]


@pytest.mark.parametrize(("ratio", "genes", "recipe"), CASES, ids=NAMES)
def test_masked_training_agrees_with_both_backends(
    one: ModuleType,
    parts: dict[str, Any],
    fold: Fold,
    dense: nn.Module,
    ratio: float,
    genes: list[str],
    recipe: Recipe,
) -> None:
    learned, base = genes != RELU, same_weights(one, dense)
    masks = one.prune(base, ratio)
    theirs = one.sparse(base, masks, tuple(genes), learned)
    losses = one.train(theirs, masks, parts["train"], as_dict(recipe), orders(fold, "tune", 5))
    weights = dict(theirs.named_parameters())
    assert all(bool((weights[name][~mask] == 0).all()) for name, mask in masks.items())
    for backend in backends():
        mask = prune(dense, ratio)
        ours = Pruned(dense, mask).network(genes, fold.train, scaled=learned)
        order = BatchOrder(ROOT, REPLICATE, "tune")
        outcome = loop.train(ours, fold, recipe, 5, order, mask=mask, backend=backend)
        difference, ends = largest_difference(outcome, losses), apart(ours, theirs)
        print(f"{backend}: losses {losses[0]:.4f} to {losses[-1]:.4f}, apart by {difference:.1e}; ")
        print(f"parameters by {ends:.1e} of the largest of a layer")
        assert outcome.backend == backend and difference < TOLERANCE and ends < TOLERANCE


def apart(ours: nn.Module, theirs: nn.Module) -> float:
    """The largest difference of a learned parameter, alpha and beta included, over its layer's."""
    learned = [p for p in ours.parameters() if p.requires_grad]
    return max(
        float((a - b).detach().abs().max() / b.detach().abs().max())
        for a, b in zip(learned, theirs.parameters(), strict=True)
    )


def backends() -> Iterator[Any]:
    """Dense, and sparse where this machine has the kernels."""
    yield "dense"
    try:
        kernels.built()
    except kernels.Unsupported:
        return
    yield "sparse"


@pytest.mark.parametrize("epochs", [3, 30])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_agree(one: ModuleType, name: str, epochs: int) -> None:
    losses = np.r_[np.linspace(2, 1, epochs - epochs // 2), np.ones(epochs // 2)].tolist()
    ours = schedules.build(Recipe(lr=0.1, schedule=name), epochs)
    sgd = torch.optim.SGD([torch.zeros(())], lr=0.1)
    theirs = one.SCHEDULES[name](sgd, epochs)
    for loss in losses:
        assert ours.lr == pytest.approx(sgd.param_groups[0]["lr"])
        sgd.step()
        ours.advance(loss)
        theirs.step(*[loss] * (name == "plateau"))


@pytest.mark.parametrize("seed", range(5))
def test_late_acceptance_follows_the_same_rule(one: ModuleType, seed: int) -> None:
    """Made-up energies, some of them equal: the same solution is current before every move."""
    energies = np.random.default_rng(seed).integers(1, 12, size=40).astype(float)
    energies[[7, 20]] = np.inf
    suite = LateAcceptance(4, CANDIDATES, len(energies), seed=seed)
    expected, asked = [], [suite.ask()]
    for energy in energies:
        suite.tell(asked[-1], energy)
        expected.append(suite.current[0])
        asked.append(suite.ask())
    told, met = iter(energies), []

    def neighbour(current: tuple[str, ...]) -> tuple[str, ...]:
        met.append(current)
        return asked[len(met)]

    best = one.lahc(lambda genes: float(next(told)), asked[0], neighbour, len(energies) - 1)
    assert met == expected[:-1]
    assert best == suite.best[1]


STAGE_1 = r"stage 1: training loss (\S+) with (\w+) (\w+) (\w+) (\w+)"
STAGE_2 = r"stage 2: validation accuracy (\S+)% with (\S+) (\w+) (\w+)"


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_the_whole_asks_what_the_suite_would_ask(
    one: ModuleType, given: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """Told what the example found, the suite's searches ask for what it asked for."""
    train, losses = one.train, []
    monkeypatch.setattr(one, "train", lambda *a: losses.append(train(*a)) or losses[-1])
    epochs = ["--epochs-dense", "2", "--epochs", "2", "--ratio", ".9"]
    one.main([*epochs, "--moves", "2", "--trials", "3", "--given", str(given)])
    printed = capsys.readouterr().out
    lahc = search.make("lahc", 4, CANDIDATES, 2, seeds.integer(ROOT, "search", REPLICATE))
    candidates = re.findall(STAGE_1, printed)
    assert len(candidates) == 3
    for (printed_loss, *genes), found in zip(candidates, losses[1:4], strict=True):  # 0 is dense
        assert lahc.ask() == tuple(genes)
        assert printed_loss == f"{found[-1]:.4f}"
        lahc.tell(lahc.ask(), found[-1])
    tuner = tuning_space.Tuner(Recipe(lr=0.1), 3, seeds.integer(ROOT, "tune", REPLICATE))
    trials = re.findall(STAGE_2, printed)
    assert len(trials) == 3
    for accuracy, lr, optimizer, schedule in trials:
        asked = tuner.ask()
        assert (asked.optimizer, asked.schedule) == (optimizer, schedule)
        assert asked.lr == pytest.approx(float(lr))
        tuner.tell(asked, 1 - float(accuracy) / 100)
    names = re.findall(r"^(\w+) +\d+\.\d\d% of the test images$", printed, re.MULTILINE)
    assert names == ["dense", "pruned", "vanilla", "SAFS"]
