"""What has to hold on a CUDA device: a simulated one, and where there is one a real one.

`pytest -m cuda` selects the real one. Simulated networks are narrow, as the CPU computes them.
"""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from counting import survivors
from simulated.cuda import installed
from simulated.launches import NARROW

from safs import masks
from safs.backends.device import bit_identity, peak_memory, pick, prepare, reset_peak
from safs.datasets import DATASETS
from safs.networks import build, prunable
from safs.pruning.prune import prune
from safs.settings import OPTIMIZERS
from safs.spec import Acceleration, Recipe
from safs.training import evaluation
from safs.training.data import BatchOrder, Fold, Images, load_fold
from safs.training.loop import train

REAL = pytest.param(
    "real",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
    ],
)
ORDER = BatchOrder(1, 0, "final")
RECIPE = Recipe(lr=0.05, momentum=0.9, batch_size=64)
IMAGES = {"simulated": 70, "real": 1300}
NETWORKS = {
    "lenet5": ((1, 28, 28), 10),
    "vgg16": ((3, 32, 32), 10),
    "resnet18": ((3, 32, 32), 10),
    "efficientnet_b0": ((3, 16, 16), 1000),
}


@pytest.fixture(scope="module", params=["simulated", REAL])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def device(kind):
    with installed() if kind == "simulated" else nullcontext():
        chosen = pick("cuda")
        prepare(chosen)
        yield chosen


only_real = pytest.mark.parametrize("kind", [REAL], indirect=True, scope="module")


def lenet(device, ratio=0.9):
    network = build("lenet5", (1, 28, 28), 10)
    mask = prune(network, ratio)
    masks.apply(mask, network)
    return network.to(device), mask


@pytest.fixture(scope="module")
def digits(kind):
    """A fold by device; its last batch is a partial one."""
    few = slice(0, IMAGES[kind])

    def load(place):
        fold = load_fold("mnist5k", 0, 1, place)
        part = fold.train
        images = Images(part.pixels[few], part.labels[few], part.mean, part.std)
        return Fold(images, fold.validation, fold.augmentation, fold.classes)

    return load


def noise(device, shape, classes, count):
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (count, *shape), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, classes, count))
    centre = torch.full((shape[0], 1, 1), 0.5)
    images = Images(*(part.to(device) for part in (pixels, labels, centre, centre)))
    return Fold(images, images, DATASETS["generated_imagenet16"].augmentation, classes)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_a_masked_step(kind, device, name):
    shape, classes = NETWORKS[name]
    options, batch, ratio = ({}, 64, 0.9) if kind == "real" else (NARROW[name], 8, 0.5)
    network = build(name, shape, classes, options=options)
    mask = prune(network, ratio)
    masks.apply(mask, network)
    reset_peak(device)
    recipe = Recipe(lr=0.01, momentum=0.9, weight_decay=5e-4, batch_size=batch)
    fold = noise(device, shape, classes, 3 * batch // 2)
    outcome = train(network.to(device), fold, recipe, 1, ORDER, mask=mask, backend="auto")
    assert outcome.failure is None and outcome.backend == "dense"
    assert survivors(network) == {layer: int(k.sum()) for layer, k in mask.items()}
    memory = peak_memory(device)
    weights = sum(4 * w.numel() for w in prunable(network).values())
    assert memory["of"] == "device" and memory["bytes"] > weights


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_twice_the_same_is_bit_identical(device, digits, optimizer):
    recipe = Recipe(optimizer=optimizer, lr=0.01, batch_size=64)
    runs = []
    for _ in range(2):
        network, mask = lenet(device)
        outcome = train(network, digits(device), recipe, 2, ORDER, mask=mask)
        runs.append((outcome.history, copy.deepcopy(network.state_dict())))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(runs[0][1][name], value) for name, value in runs[1][1].items())


def test_the_device_agrees_with_the_cpu(device, digits):
    """Same images, same order, same start; only the arithmetic differs."""
    outcomes = []
    for place in (device, torch.device("cpu")):
        network, mask = lenet(place)
        outcomes.append(train(network, digits(place), RECIPE, 3, ORDER, mask=mask))
    ours, reference = ([entry.train_loss for entry in o.history] for o in outcomes)
    assert ours == pytest.approx(reference, rel=1e-3)


def test_a_resumed_training_ends_bit_for_bit(device, digits):
    states = []
    network, mask = lenet(device)
    whole = train(
        network, digits(device), RECIPE, 4, ORDER, mask=mask,
        on_epoch=lambda snapshot: states.append(copy.deepcopy(snapshot.state())),
    )  # fmt: skip
    again, mask = lenet(device)
    resumed = train(again, digits(device), RECIPE, 4, ORDER, mask=mask, resume=states[1])
    assert resumed.history == whole.history
    weights = network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in again.state_dict().items())


@pytest.mark.parametrize(
    "options", [{"tf32": True}, {"bf16": True}, {"channels_last": True}], ids=str
)
def test_faster_arithmetic_learns_as_well(device, digits, options):
    learns_as_well(device, digits, options)


@only_real
@pytest.mark.parametrize("options", [{"compile": "on"}, {"compile": "cuda_graphs"}], ids=str)
def test_compiled_steps_learn_as_well(device, digits, options):
    learns_as_well(device, digits, options)


def learns_as_well(device, digits, options):
    network, mask = lenet(device)
    plain = train(network, digits(device), RECIPE, 3, ORDER, mask=mask)
    network, mask = lenet(device)
    how = Acceleration(**options)
    faster = train(network, digits(device), RECIPE, 3, ORDER, mask=mask, acceleration=how)
    assert faster.failure is None
    assert faster.last.train_loss == pytest.approx(plain.last.train_loss, rel=0.05)
    assert survivors(network) == {name: int(k.sum()) for name, k in mask.items()}


def test_test_images_are_scored_on_the_device(device):
    network, _ = lenet(device)
    result = evaluation.test(network, "mnist5k", device)
    reference = evaluation.test(network.cpu(), "mnist5k", torch.device("cpu"))
    assert abs(result.top1 - reference.top1) <= 0.002


def test_what_decides_the_bits_names_the_device(device):
    identity = bit_identity(device, "dense")
    assert identity["device"] == "cuda" and identity["processor"]
