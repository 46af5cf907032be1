"""Whole trainings, sparse beside dense: optimisers, batches, augmentation, resuming, speed."""

from __future__ import annotations

import copy
import io
import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from kernels_reference import (
    CLASSES,
    FACTOR,
    ORDER,
    PLAIN,
    Start,
    assert_trains_as_torch,
    exact,
    excess,
    images,
    network,
    random_mask,
    sparse_epochs,
)
from torch import nn

from safs import kernels, masks, slots
from safs.api.inputs import Inputs
from safs.backends.device import bit_identity
from safs.datasets import Augmentation
from safs.kernels import binding, plans
from safs.kernels import build as kernel_build
from safs.kernels.plan import Plan
from safs.networks import build, prunable
from safs.pruning.prune import prune
from safs.settings import CANDIDATES, OPTIMIZERS
from safs.spec import Recipe
from safs.training.data import Fold
from safs.training.loop import train
from safs.training.start import Pruned

SHAPE = (1, 28, 28)
NONE = Augmentation()


def fold(count: int = 300, shape=SHAPE, augmentation=NONE, seed: int = 0) -> Fold:
    parts = (images(n, shape, seed=s) for n, s in ((count, 2 * seed), (120, 2 * seed + 1)))
    return Fold(*parts, augmentation, CLASSES)


def recipe(optimizer: str, lr: float = 0.01, **options) -> Recipe:
    if optimizer != "fromage":
        options.setdefault("weight_decay", 1e-3)
    if optimizer == "sgd":
        options.setdefault("momentum", 0.9)
    return Recipe(optimizer=optimizer, lr=lr, **options)


CHROMOSOMES = [
    CANDIDATES[:4], CANDIDATES[4:8], CANDIDATES[8:12], ("sigmoid", "relu", "prelu", "falu"),
    ("srelu",) * 4,
]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("chromosome", CHROMOSOMES, ids=lambda c: c[0])
def test_lenet5_trains_as_the_dense_reference(chromosome, optimizer: str) -> None:
    """Two epochs; 136 images in batches of 64 leave a partial one."""
    dense = build("lenet5", SHAPE, CLASSES)
    pruned = Pruned(dense, prune(dense, 0.9))

    def start(seed: int) -> Start:
        data = fold(136, seed=seed)
        made = pruned.network(list(chromosome), data.train, scaled=True, train_own=True)
        return Start(made, pruned.mask, data)

    found = assert_trains_as_torch(start, recipe(optimizer, batch_size=64))
    for name, weight in prunable(found.network).items():
        assert not weight.detach()[~pruned.mask[name]].any()
    data, network = fold().validation, found.network.eval()
    with torch.no_grad():
        logits = network(data.normalised(slice(None)))
        expected = copy.deepcopy(network).double()(exact(fold()).validation.normalised(slice(None)))
    assert excess(torch.from_numpy(found.sparse.logits(data)), logits, expected) <= FACTOR


RELEASED = {"betas": "as_released", "tadam": "as_released"}


@pytest.mark.parametrize("optimizer", ["adam", "tadam"])
@pytest.mark.parametrize("rules", [{"betas": "as_released"}, {"tadam": "as_released"}, RELEASED])
def test_the_released_codes_rules_are_those_of_the_reference(optimizer: str, rules) -> None:
    """Many small batches: TAdam's sum and the second moment have to forget something."""
    made = network(build("lenet5", SHAPE, CLASSES), SHAPE, "swish")
    mask = random_mask(made, 0.1)

    def start(seed: int) -> Start:
        return Start(copy.deepcopy(made), mask, fold(136, seed=seed))

    assert_trains_as_torch(start, recipe(optimizer, 1e-3, batch_size=16, **rules))
    ends = []
    for each in ({}, rules):
        sparse = kernels.compile(copy.deepcopy(made), mask, recipe(optimizer, **each), SHAPE, 16)
        sparse_epochs(sparse, fold(136), range(2), 0.01)
        ends.append(bits(sparse.state()))
    assert (ends[0] == ends[1]) is (optimizer == "adam" and "betas" not in rules)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_that_reach_no_output_decay_as_in_the_reference(optimizer: str) -> None:
    """They have gradient 0 but still count: in weight decay, Fromage's norms, TAdam's dimension."""
    made = network(build("lenet5", SHAPE, CLASSES), SHAPE, "swish")
    mask = random_mask(made, 0.3)
    mask["fc3"][:, 10:] = False  # most of fc2 reaches no output
    mask["fc1"][7] = False
    mask["conv2"][:, 2] = False
    masks.apply(mask, made)
    decay = {} if optimizer == "fromage" else {"weight_decay": 0.1}
    found = assert_trains_as_torch(
        lambda seed: Start(copy.deepcopy(made), mask, fold(96, seed=seed)),
        recipe(optimizer, batch_size=32, **decay),
    )
    assert found.torch.fc2.weight.grad[10:].eq(0).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_deep_networks_start_as_the_dense_reference(name: str, optimizer: str) -> None:
    """A few small steps; later float32 trajectories of networks this deep drift apart."""
    shape = (3, 32, 32) if name == "efficientnet_b0" else (3, 16, 16)
    made = build(name, shape, CLASSES, options={"width": 0.25})
    slots.fill(made, ["swish"] * len(slots.slots(made)), scaled=True)
    mask = random_mask(made, 0.5)
    fresh = copy.deepcopy(dict(made.named_buffers()))

    def start(seed: int) -> Start:
        data = fold(24, shape, Augmentation(pad=2, flip=True), seed)
        return Start(copy.deepcopy(made), mask, data)

    found = assert_trains_as_torch(
        start, recipe(optimizer, 1e-6, batch_size=16), 1, lambda n: n == "loss" or "running" in n
    )
    buffers = zip(found.network.named_buffers(), found.torch.named_buffers(), strict=True)
    for (key, y), (_, x) in buffers:  # others are channels that no output depends on
        assert ((y != fresh[key]) | (y == x)).float().mean() > 0.5


@pytest.mark.parametrize("augmentation", [Augmentation(pad=3), Augmentation(pad=2, flip=True)])
@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 30, 27)])
def test_augmentation_is_that_of_the_reference(augmentation: Augmentation, shape) -> None:
    made = network(build("lenet5", shape, CLASSES), shape, "tanh")
    mask = random_mask(made, 0.2)
    assert_trains_as_torch(
        lambda seed: Start(copy.deepcopy(made), mask, fold(70, shape, augmentation, seed)),
        recipe("sgd", batch_size=32),
    )


@pytest.mark.parametrize("batch", [1, 7, 8, 100, 300, 1000])
def test_any_batch_size(batch: int) -> None:
    made = network(build("lenet5", SHAPE, CLASSES), SHAPE, "gelu")
    mask, how = random_mask(made, 0.1), recipe("adam", 1e-3, batch_size=batch)
    assert_trains_as_torch(
        lambda seed: Start(copy.deepcopy(made), mask, fold(51, seed=seed)), how, epochs=1
    )


def test_images_that_fill_the_last_block_change_nothing_in_batch_norm() -> None:
    """Statistics, running statistics and gradients of batches of 13 in blocks of 32 and of 8."""
    shape = (3, 12, 12)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3),
        nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES),
    )  # fmt: skip
    made = network(model, shape, "swish")
    mask, fresh = random_mask(made, 0.6), copy.deepcopy(dict(made.named_buffers()))
    found = assert_trains_as_torch(
        lambda seed: Start(copy.deepcopy(made), mask, fold(70, shape, seed=seed)),
        recipe("sgd", batch_size=13),
    )
    for name, y in found.network.named_buffers():
        assert (y != fresh[name]).all()


def test_batch_norm_far_from_its_mean() -> None:
    """A pre-activation with a mean of a thousand standard deviations, from the first batch on."""
    shape = (3, 12, 12)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(600, CLASSES)
    )
    made = network(model, shape, "tanh")
    mask = random_mask(made, 0.6)
    data = images(40, shape)
    data = type(data)(data.pixels, data.labels, data.mean - 1000, data.std)
    sparse = kernels.compile(made, mask, PLAIN, shape, 40)
    twin = copy.deepcopy(made).double().train()
    loss = nn.functional.cross_entropy(
        twin((data.pixels.double() / 255 - data.mean.double()) / data.std.double()), data.labels
    )
    sums = sparse.train_epoch(data, np.arange(40), 0.0)
    assert sums.loss / 40 == pytest.approx(float(loss.detach()), rel=2e-2)


def test_a_diverged_training_shows() -> None:
    data, dense = fold(), build("lenet5", SHAPE, CLASSES)
    made = network(dense, SHAPE, "symexp")
    mask = random_mask(made, 0.2)
    sparse = kernels.compile(made, mask, Recipe(lr=1e3), SHAPE, 64)
    sums = sparse_epochs(sparse, data, range(3), 1e3)
    assert not math.isfinite(sums[-1].loss)


@pytest.mark.parametrize("operator", [*CANDIDATES, "relu", "srelu", "prelu", "falu"])
def test_a_nan_weight_makes_the_loss_nan(operator: str) -> None:
    data = fold(64)
    made = network(build("lenet5", SHAPE, CLASSES), SHAPE, operator)
    mask = random_mask(made, 1.0)
    with torch.no_grad():
        made.conv1.weight[3, 0, 2, 2] = math.nan
    sparse = kernels.compile(made, mask, Recipe(lr=0.1), SHAPE, 64)
    assert math.isnan(sparse_epochs(sparse, data, range(1), 0.1)[0].loss)
    assert np.isnan(sparse.logits(data.validation)).all()


def bits(state) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def resnet():
    made = build("resnet18", (3, 16, 16), CLASSES, options={"width": 0.1})
    return made, (3, 16, 16)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("deep", [False, True])
def test_a_resumed_training_ends_bit_for_bit_as_an_uninterrupted_one(optimizer, deep) -> None:
    made, shape = resnet() if deep else (build("lenet5", SHAPE, CLASSES), SHAPE)
    chosen = ["srelu" if deep else "swish", *["falu"] * (len(slots.slots(made)) - 1)]
    made = network(made, shape, chosen)
    mask, data, how = random_mask(made, 0.2), fold(70, shape), recipe(optimizer, batch_size=32)

    def fresh() -> kernels.SparseNetwork:
        return kernels.compile(copy.deepcopy(made), mask, how, shape, 32)

    whole = fresh()
    first = sparse_epochs(whole, data, range(3), 0.01)
    half = fresh()
    sparse_epochs(half, data, range(2), 0.01)
    saved = torch.load(io.BytesIO(bits(half.state())), weights_only=True)
    resumed = fresh()
    resumed.load(saved)
    assert sparse_epochs(resumed, data, range(2, 3), 0.01) == first[2:]
    assert bits(resumed.state()) == bits(whole.state())
    np.testing.assert_array_equal(resumed.logits(data.validation), whole.logits(data.validation))


def test_twice_the_same_is_bit_identical() -> None:
    data = fold()
    made = network(build("lenet5", SHAPE, CLASSES), SHAPE, ["swish", "srs", "elu", "acon"])
    mask = random_mask(made, 0.1)
    ends = []
    for _ in range(2):
        sparse = kernels.compile(made, mask, recipe("tadam"), SHAPE, 64)
        ends.append((sparse_epochs(sparse, data, range(3), 0.01), bits(sparse.state())))
    assert ends[0] == ends[1]


class Counted(Plan):
    made = 0

    def __init__(self, *arguments) -> None:
        Counted.made += 1
        super().__init__(*arguments)


@pytest.fixture
def counted(monkeypatch) -> type[Counted]:
    """How many plans were made; none waits at the beginning."""
    monkeypatch.setattr(binding, "Plan", Counted)
    monkeypatch.setattr(plans, "_waiting", {})
    monkeypatch.setattr(Counted, "made", 0)
    return Counted


def small(name: str):
    """A network, its mask and images, whose last batch is not full."""
    shape, options = (SHAPE, {}) if name == "lenet5" else ((3, 32, 32), {"width": 0.125})
    made = network(build(name, shape, CLASSES, options=options), shape, "relu", scaled=False)
    return made, random_mask(made, 0.2), fold(70, shape)


TENANTS = [
    (["srelu"], {}, recipe("tadam", batch_size=32)),
    (["srelu_released"], {}, recipe("tadam", batch_size=32, **RELEASED)),
    (["swish", "acon"], {"scaled": True}, recipe("adam", batch_size=32)),
    (["tanhsoft1"], {"scaled": True, "train_own": True}, recipe("fromage", batch_size=32)),
    (["relu"], {}, recipe("sgd", batch_size=32)),
]


@pytest.mark.parametrize("name", ["lenet5", "resnet18"])
def test_a_plan_serves_one_training_after_the_other(name: str, counted) -> None:
    plain, mask, data = small(name)

    def trained(operators, options, optimizer) -> list[object]:
        made, places = copy.deepcopy(plain), len(slots.slots(plain))
        slots.fill(made, [operators[i % len(operators)] for i in range(places)], **options)
        with torch.no_grad():
            next(made.parameters()).mul_(len(operators))
        outcome = train(
            made, data, optimizer, 2, ORDER, mask=mask, backend="sparse", validate="every"
        )
        return [outcome.history, *(value.numpy().tobytes() for value in made.state_dict().values())]

    fresh = []
    for tenant in TENANTS:
        plans._waiting.clear()
        fresh.append(trained(*tenant))
    plans._waiting.clear()
    assert [trained(*tenant) for tenant in TENANTS] == fresh
    assert counted.made == len(TENANTS) + 1


def test_a_plan_in_use_and_one_that_diverged_serve_no_other_training(counted) -> None:
    made, mask, data = small("lenet5")
    order = np.arange(len(data.train))
    first, second = (kernels.compile(made, mask, PLAIN, SHAPE, 32) for _ in range(2))
    assert counted.made == 2
    assert math.isfinite(first.train_epoch(data.train, order, 0.1).loss)
    assert not math.isfinite(second.train_epoch(data.train, order, 1e30).loss)
    del first, second
    assert len(plans._waiting) == 1
    with torch.no_grad():
        next(made.parameters()).fill_(math.nan)
        masks.apply(mask, made)
    third = kernels.compile(made, mask, PLAIN, SHAPE, 32)
    assert np.isnan(third.logits(data.train)).any()
    del third
    assert counted.made == 2 and not plans._waiting


def test_the_torch_network_is_left_alone_until_write_back() -> None:
    data = fold(64)
    made = network(build("lenet5", SHAPE, CLASSES), SHAPE, "swish")
    mask = random_mask(made, 0.2)
    before = copy.deepcopy(made.state_dict())
    sparse = kernels.compile(made, mask, recipe("adam"), SHAPE, 64)
    sparse_epochs(sparse, data, range(1), 0.01)
    assert all(torch.equal(before[k], v) for k, v in made.state_dict().items())
    sparse.write_back()
    assert not torch.equal(before["fc1.weight"], made.fc1.weight)


def test_identity_names_what_decides_bits() -> None:
    """Where the kernels train, neither processor nor compiler nor threads do."""
    sparse, dense = (bit_identity(torch.device("cpu"), name) for name in ("sparse", "dense"))
    assert set(sparse) == {"device", "kernels", "numpy", "torch", "torchvision"}
    assert {"processor", "isa", "threads"} <= set(dense) and "kernels" not in dense
    assert set(kernels.built()) == {"compiler", "flags", "source"}


def test_it_is_known_beforehand_whether_the_kernels_can_train() -> None:
    lenet = build("lenet5", (1, 28, 28), 10)
    assert kernels.why_not(lenet, (1, 28, 28), CANDIDATES) == ""
    unknown = kernels.why_not(lenet, (1, 28, 28), [*CANDIDATES, "made_up"])
    assert unknown == "sparse kernels: operator made_up has no kernel"
    assert "no torch.fx graph" in kernels.why_not(torch.nn.Linear(2, 2), (1, 28, 28), ())


def test_without_a_compiler_the_reason_is_one_line(tmp_path) -> None:
    code = (
        "from safs.kernels.build import library, Unsupported\n"
        "try: library()\n"
        "except Unsupported as error: print(error)\n"
    )
    bare = {"PATH": "/nowhere", "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    for extra, expected in (({}, "safs-bench[compiler]"), ({"CXX": "no-such-compiler"}, "$CXX")):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**bare, **extra}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert expected in done.stdout and done.stdout.count("\n") == 1


def test_zig_is_told_the_processor_as_it_spells_it() -> None:
    commands = ("g++",), ("python", "-m", "ziglang", "c++")
    plain, zig = map(kernel_build._flags, commands)
    assert plain == list(kernel_build.FLAGS)
    assert zig == [flag.replace("x86-64-v3", "x86_64_v3") for flag in plain]


def test_a_broken_compiler_names_itself(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernel_build, "FLAGS", (*kernel_build.FLAGS, "-no-such-flag"))
    target = tmp_path / "kernels.so"
    with pytest.raises(kernels.Unsupported, match="fails"):
        kernel_build._compile(target)
    assert not target.exists() and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["relu", "swish"])
def test_sparse_lenet5_is_much_faster_than_dense(operator: str) -> None:
    """Guards vectorisation: at 99% at least 15 times the dense loop, alternating, medians."""
    count = 2560
    data, dense = fold(count), build("lenet5", SHAPE, CLASSES)
    pruned = Pruned(dense, prune(dense, 0.99))
    made = pruned.network([operator] * 4, data.train, scaled=True)
    how = recipe("sgd", 1e-3, batch_size=256)
    sparse = kernels.compile(copy.deepcopy(made), pruned.mask, how, SHAPE, 256)
    seconds: dict[str, list[float]] = {"dense": [], "sparse": []}
    for _ in range(5):
        started = time.process_time()
        train(copy.deepcopy(made), data, how, 1, ORDER, mask=pruned.mask, backend="dense")
        seconds["dense"].append(time.process_time() - started)
        started = time.process_time()
        sparse_epochs(sparse, data, range(4), 1e-3)
        seconds["sparse"].append((time.process_time() - started) / 4)
    assert np.median(seconds["dense"]) > 15 * np.median(seconds["sparse"])


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(pad=2, flip=True)], ids=str)
def test_inputs_that_are_floats_already_train_as_the_bytes_they_were_made_of(augmentation) -> None:
    """A user's own tensors: normalised by their maker, taken as they are."""
    data, shape = fold(75, (3, 32, 32), augmentation), (3, 32, 32)
    none = torch.zeros(0)

    def floats(part):
        return Inputs(part.normalised(slice(None)), part.labels, none, none)

    own = Fold(floats(data.train), floats(data.validation), augmentation, CLASSES)
    outcomes = []
    for used, backend in (
        (data, "sparse"),
        (own, "sparse"),
        (own, "dense"),
        (exact(data), "dense"),
    ):
        made = build("vgg16", shape, CLASSES, options={"width": 0.125})
        mask = prune(made, 0.8)
        masks.apply(mask, made)
        made = made.double() if len(outcomes) == 3 else made
        outcomes.append(
            train(made, used, recipe("sgd", batch_size=25), 1, ORDER, mask=mask, backend=backend)
        )
    assert [o.backend for o in outcomes] == ["sparse", "sparse", "dense", "dense"]
    bytes_, floats_, *reference = (torch.tensor(o.last.train_loss).double() for o in outcomes)
    for found in (bytes_, floats_):
        assert excess(found, *reference, steps=3) <= FACTOR


def test_inputs_that_are_no_images_are_left_to_pytorch() -> None:
    x, y = torch.randn(40, 8), torch.arange(40) % CLASSES
    part = Inputs(x, y, torch.zeros(0), torch.zeros(0))
    layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, CLASSES))
    made = slots.install(layers, torch.zeros(2, 8), "relu")
    data = Fold(part, part, Augmentation(), CLASSES)
    mask = prune(made, 0.5)
    masks.apply(mask, made)
    outcome = train(made, data, recipe("sgd"), 1, ORDER, mask=mask, backend="auto")
    assert outcome.backend == "dense" and "no images" in str(outcome.notice)
