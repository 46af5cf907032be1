"""The loop: learning, resuming, pruned weights, failures, gradient flow."""

import copy
import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from counting import survivors
from kernels_reference import Start, assert_learns_as_torch
from torch.nn import functional

from safs import masks, slots
from safs.backends.device import clock
from safs.datasets import Augmentation
from safs.errors import SafsError
from safs.method.stage1 import fitness
from safs.networks import build, prunable
from safs.pruning.prune import prune
from safs.settings import OPTIMIZERS, SCHEDULES
from safs.spec import Recipe
from safs.training.data import BatchOrder, Fold, Images
from safs.training.evaluation import score
from safs.training.loop import train
from safs.training.start import Pruned

SHAPE = (1, 28, 28)
ORDER = BatchOrder(1, 0, "final")


def digits(n, seed):
    from safs.datasets.generated import templates

    arrays = templates("train", SHAPE, 10)
    chosen = np.random.default_rng(seed).permutation(len(arrays.labels))[:n]
    one = torch.ones(1, 1, 1)
    return Images(
        torch.from_numpy(arrays.images[chosen]),
        torch.from_numpy(arrays.labels[chosen]),
        0 * one,
        one,
    )


@pytest.fixture(scope="module")
def fold():
    return Fold(digits(120, 0), digits(60, 1), Augmentation(), 10)


def state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_dense_network_learns(fold):
    network = build("lenet5", SHAPE, 10)
    outcome = train(
        network, fold, Recipe(lr=0.05, momentum=0.9, batch_size=16), 25, ORDER, validate="every"
    )
    assert outcome.failure is None and len(outcome.history) == 25
    assert outcome.last.train_loss < 0.5 < outcome.history[0].train_loss
    assert outcome.last.validation_accuracy > 0.9
    assert fitness(outcome.told(), "training_loss") == outcome.last.train_loss
    assert outcome.last.validation_accuracy == score(network, fold.validation).top1


def test_twice_the_same_is_bit_identical(fold):
    ends = []
    for _ in range(2):
        network = build("lenet5", SHAPE, 10)
        outcome = train(network, fold, Recipe(lr=0.05), 3, ORDER)
        ends.append((state(network), outcome.history))
    assert same(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1]


BACKENDS = ("dense", "sparse")
RECIPES = [
    Recipe(optimizer=name, lr=0.01, batch_size=32, weight_decay=0 if name == "fromage" else 1e-3)
    for name in OPTIMIZERS
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.optimizer)
def test_pruned_weights_stay_exactly_zero_and_the_counts_exact(fold, recipe, backend):
    """With every optimiser, with weight decay, alpha and beta learned; before and after."""
    dense = build("lenet5", SHAPE, 10)
    mask = prune(dense, 0.9)
    pruned = Pruned(dense, mask)
    network = pruned.network(["swish", "srs", "symlog", "acon"], fold.train, scaled=True)
    expected = {name: int(keep.sum()) for name, keep in mask.items()}
    assert survivors(network) == expected
    outcome = train(network, fold, recipe, 3, ORDER, mask=mask, backend=backend)
    assert outcome.failure is None and outcome.backend == backend
    assert survivors(network) == expected
    for name, weight in prunable(network).items():
        assert torch.equal(weight[~mask[name]], torch.zeros_like(weight[~mask[name]]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_pruned_leaves_no_trace_in_any_optimiser(fold, optimizer, backend):
    """Other values under the mask, same training: pruned weights enter no norm, moment, decay."""
    dense = build("lenet5", SHAPE, 10)
    mask = prune(dense, 0.9)
    other = copy.deepcopy(dense)
    with torch.no_grad():
        for name, weight in prunable(other).items():
            weight[~mask[name]] = 1e3
    decay = 0.0 if optimizer == "fromage" else 1e-2
    recipe = Recipe(optimizer=optimizer, lr=0.01, weight_decay=decay, batch_size=32)
    ends = []
    for start in (dense, other):
        network = Pruned(start, mask).network(["relu"] * 4, fold.train)
        train(network, fold, recipe, 2, ORDER, mask=mask, backend=backend)
        ends.append(state(network))
    assert same(*ends)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_training_ends_bit_for_bit(fold, optimizer, schedule, backend):
    recipe = Recipe(optimizer=optimizer, lr=0.01, schedule=schedule, batch_size=64)
    dense = build("lenet5", SHAPE, 10)
    mask = prune(dense, 0.9)
    saved = {}

    def fresh():
        return Pruned(dense, mask).network(
            ["swish", "srelu", "elu", "tanh"], fold.train, scaled=True
        )

    def save(snapshot):
        if snapshot.epoch == 2:
            saved.update(copy.deepcopy(snapshot.state()))

    whole = fresh()
    first = train(whole, fold, recipe, 4, ORDER, mask=mask, backend=backend, on_epoch=save)
    resumed = fresh()
    second = train(resumed, fold, recipe, 4, ORDER, mask=mask, backend=backend, resume=saved)
    assert first.history == second.history
    assert same(state(whole), state(resumed))


def test_a_state_of_other_bits_counts_for_nothing(fold):
    """A checkpoint of torch's, found on another processor: the training begins anew."""
    saved, recipe = [], Recipe(lr=0.05)
    train(build("lenet5", SHAPE, 10), fold, recipe, 3, ORDER, until=1,
          on_epoch=lambda snapshot: saved.append(copy.deepcopy(snapshot.state())))  # fmt: skip
    epochs = []
    for processor in ({}, {"processor": "another"}):
        resume = {**saved[0], "bits": saved[0]["bits"] | processor}
        train(build("lenet5", SHAPE, 10), fold, recipe, 3, ORDER, resume=resume,
              on_epoch=lambda snapshot: epochs.append(snapshot.epoch))  # fmt: skip
    assert epochs == [2, 3, 1, 2, 3]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failure_names_its_epoch_and_step(backend, fold):
    """One batch is no number: its step fails, whatever the backend, and so does its epoch."""
    count = len(fold.train)
    pixels = torch.rand(count, *SHAPE)
    pixels[ORDER.draw(fold, 0).order[70]] = math.nan
    one = torch.ones(1, 1, 1)
    images = Images(pixels, fold.train.labels, 0 * one, one)
    broken = Fold(images, fold.validation, Augmentation(), 10)
    network, recipe = build("lenet5", SHAPE, 10), Recipe(lr=0.01, batch_size=32)
    outcome = train(network, broken, recipe, 2, ORDER, backend=backend)
    assert (outcome.failed_epoch, outcome.failed_step) == (1, 3)
    assert outcome.failure == "training loss became nan in epoch 1, step 3"
    told = outcome.told()
    assert (told.failed_epoch, told.failed_step) == (1, 3)


def test_a_diverged_run_fails_with_its_reason(fold):
    network = build("lenet5", SHAPE, 10)
    slots.fill(network, ["symexp"] * 4)
    outcome = train(network, fold, Recipe(lr=1000.0), 5, ORDER)
    assert outcome.failure is not None and "loss became" in outcome.failure
    assert "epoch" in outcome.failure and len(outcome.history) < 5
    assert fitness(outcome.told(), "training_loss") == math.inf


def test_gradient_flow_of_plain_sgd_is_the_first_order_decrease(fold):
    """With SGD the step is -lr g, so both definitions agree; checked against autograd by hand."""
    network = build("lenet5", SHAPE, 10)
    mask = prune(network, 0.9)
    masks.apply(mask, network)
    images, labels = fold.train.normalised(slice(None)), fold.train.labels
    loss = functional.cross_entropy(network(images), labels)
    parameters = dict(network.named_parameters())
    gradients = dict(
        zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)
    )
    for name, keep in mask.items():
        gradients[f"{name}.weight"] = gradients[f"{name}.weight"] * keep
    squared = sum(float(g.double().square().sum()) for g in gradients.values())
    free = sum(int(k.sum()) for k in mask.values()) + 6 + 16 + 120 + 84 + 10
    outcome = train(network, fold, Recipe(lr=0.01, batch_size=1000), 1, ORDER, mask=mask)
    assert outcome.last.flow == pytest.approx(0.01 * squared, rel=1e-4)
    assert outcome.last.flow_step == pytest.approx(outcome.last.flow, rel=1e-3)
    mean = sum(float(g.abs().sum()) for g in gradients.values()) / free
    assert outcome.last.flow_released == pytest.approx(mean, rel=1e-4)


def test_alpha_and_beta_are_learned_and_never_decayed(fold):
    """Weight decay so strong that a decayed alpha would have moved by a third."""
    dense = build("lenet5", SHAPE, 10)
    mask = prune(dense, 0.5)
    ends = []
    for decay in (0.0, 0.1):
        network = Pruned(dense, mask).network(["tanh"] * 4, fold.train, scaled=True)
        train(network, fold, Recipe(lr=1e-4, weight_decay=decay), 40, ORDER, mask=mask)
        ends.append(torch.stack([slot.alpha.detach() for slot in slots.slots(network).values()]))
    assert (ends[0] != 1).all()
    assert (ends[1] - ends[0]).abs().max() < 1e-4


def test_srelu_starts_with_its_threshold_at_the_90th_percentile(fold):
    dense = build("lenet5", SHAPE, 10)
    mask = prune(dense, 0.5)
    network = Pruned(dense, mask).network(["srelu"] * 4, fold.train)
    masked = copy.deepcopy(dense)
    masks.apply(mask, masked)
    inputs = masked.conv1(fold.train.normalised(slice(None))).detach()
    expected = np.quantile(inputs.transpose(0, 1).flatten(1).numpy(), 0.9, axis=1)
    found = network.slots.conv1_act.own["t_right"].detach().numpy()
    assert np.allclose(found, np.maximum(expected, 1e-3), rtol=1e-2, atol=1e-4)
    assert (found >= 1e-3).all()


def test_srelu_looks_at_images_from_all_over_the_training_part(fold):
    """A data set may lie class by class: its first images are of one class."""
    dense = build("lenet5", SHAPE, 10)
    pruned = Pruned(dense, prune(dense, 0.5))
    times = -(-2000 // len(fold.train))
    dark = Images(
        torch.zeros_like(fold.train.pixels).repeat(times, 1, 1, 1),
        fold.train.labels.repeat(times),
        fold.train.mean,
        fold.train.std,
    )
    dark.pixels[len(dark) // 2 :] = 255
    thresholds = [
        pruned.network(["srelu"] * 4, images).slots.conv1_act.own["t_right"].detach()
        for images in (dark, replace(dark, pixels=dark.pixels.flip(0)))
    ]
    assert torch.equal(*thresholds) and (thresholds[0] > 1e-3).any()


def test_a_mask_that_was_not_applied_is_refused(fold):
    dense = build("lenet5", SHAPE, 10)
    with pytest.raises(SafsError, match="a pruned weight of layer 'conv1' is not 0"):
        train(dense, fold, Recipe(lr=0.1), 1, ORDER, mask=prune(dense, 0.9))


def test_candidates_leave_the_checkpoint_alone(fold):
    dense = build("lenet5", SHAPE, 10)
    before = state(dense)
    pruned = Pruned(dense, prune(dense, 0.9))
    train(pruned.network(["elu"] * 4, fold.train), fold, Recipe(lr=0.1), 1, ORDER, mask=pruned.mask)
    assert same(state(dense), before)


def test_backends_agree_and_auto_takes_the_kernels(fold):
    """Over three epochs, to the rounding of float32."""

    def start(seed):
        dense = build("lenet5", SHAPE, 10, root=seed)
        pruned = Pruned(dense, prune(dense, 0.9))
        genes = ["gelu", "srelu", "symlog", "tanh"]
        return Start(pruned.network(genes, fold.train, scaled=True), pruned.mask, fold)

    sparse, auto = (
        assert_learns_as_torch(start, Recipe(lr=0.05), 3, backend) for backend in ("sparse", "auto")
    )
    assert auto.backend == "sparse" and auto.history == sparse.history


def test_a_diverged_run_fails_on_the_kernels_too(fold):
    dense = build("lenet5", SHAPE, 10)
    pruned = Pruned(dense, prune(dense, 0.5))
    network = pruned.network(["symexp"] * 4, fold.train)
    outcome = train(network, fold, Recipe(lr=1000.0), 5, ORDER, mask=pruned.mask, backend="sparse")
    assert outcome.failure is not None and "loss became" in outcome.failure


def test_without_a_compiler_pytorch_trains_and_a_notice_says_so(fold, monkeypatch):
    from safs.kernels import Unsupported, structures

    def no_compiler():
        raise Unsupported("sparse kernels: no C++ compiler")

    monkeypatch.setattr(structures, "library", no_compiler)
    dense = build("lenet5", SHAPE, 10)
    pruned = Pruned(dense, prune(dense, 0.9))
    network = pruned.network(["relu"] * 4, fold.train)
    outcome = train(network, fold, Recipe(lr=0.05), 1, ORDER, mask=pruned.mask, backend="auto")
    assert outcome.backend == "dense"
    assert outcome.notice == "sparse kernels: no C++ compiler; trained densely"


def test_dense_training_runs_on_the_kernels_too(fold):
    """Weight by weight as torch trains: one epoch from the same start."""
    recipe, trained = Recipe(lr=0.05), {}
    for backend in ("auto", "dense"):
        network = build("lenet5", SHAPE, 10, root=1, replicate=0)
        outcome = train(network, fold, recipe, 1, ORDER, backend=backend)
        trained[outcome.backend] = network.state_dict()
    assert set(trained) == {"sparse", "dense"}
    for name, weight in trained["dense"].items():
        assert torch.allclose(trained["sparse"][name], weight, atol=1e-5), name


def test_a_cpus_clock_stands_still_while_its_thread_waits():
    now, passed = clock(torch.device("cpu")), clock(torch.device("cuda"))
    started, before = now(), passed()
    time.sleep(0.2)
    assert now() - started < 0.1 < 0.2 <= passed() - before
