"""Single layers on the kernels inside networks that torch runs."""

from __future__ import annotations

import copy
import io
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_reference import CLASSES, Start, assert_learns_as_torch, images
from torch import Tensor, nn

import safs
from safs import masks, slots
from safs.backends.mixed import MixedBackend
from safs.datasets import Augmentation
from safs.kernels import Unsupported
from safs.kernels.layer import KernelLayer
from safs.networks import prunable
from safs.pruning.prune import prune
from safs.spec import Recipe
from safs.training.data import BatchOrder, Fold
from safs.training.evaluation import score
from safs.training.loop import Outcome, train

ORDER = BatchOrder(1, 0, "final")
HOW = Recipe(lr=0.02, momentum=0.9, weight_decay=1e-3, batch_size=32)
SHAPE = (3, 12, 12)


# -- one layer --


def masked(module: nn.Module, density: float, seed: int = 0) -> np.ndarray:
    """A random mask, applied to the module's weight."""
    keep = torch.rand(module.weight.shape, generator=torch.Generator().manual_seed(seed)) < density
    with torch.no_grad():
        module.weight.mul_(keep)
    return keep.numpy()


def assert_as_in_float64(module: nn.Module, keep: np.ndarray, x: Tensor, rank: int) -> None:
    """Output and all gradients; those of pruned weights are 0."""
    layer = KernelLayer("layer", module, keep, tuple(x.shape[-rank:]), len(x))
    x = x.clone().requires_grad_()
    z = layer(x)
    twin, x64 = copy.deepcopy(module).double(), x.detach().double().requires_grad_()
    z64 = twin(x64)
    gz = torch.randn(z64.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(z, [x, *module.parameters()], gz)
    expected = list(torch.autograd.grad(z64, [x64, *twin.parameters()], gz.double()))
    expected[1] *= torch.from_numpy(keep)
    assert bool((found[1][~torch.from_numpy(keep)] == 0).all())
    for a, b in zip([z, *found], [z64, *expected], strict=True):
        scale = float(b.detach().abs().max()) if b.numel() else 1.0
        torch.testing.assert_close(a.double(), b, rtol=0, atol=3e-6 * max(scale, 0.1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2, 6]),
    channels=st.sampled_from([(6, 6), (6, 12), (12, 6), (18, 24)]),
    bias=st.booleans(),
    density=st.sampled_from([0.0, 0.02, 0.2, 1.0]),
    size=st.one_of(
        st.tuples(st.integers(7, 17), st.integers(7, 17)), st.sampled_from([(1, 1), (2, 2), (3, 1)])
    ),
    count=st.sampled_from([1, 2, 8, 13, 33]),
    seed=st.integers(0, 1000),
)
def test_convolutions_agree_with_float64(
    kernel, stride, padding, dilation, groups, channels, bias, density, size, count, seed
) -> None:
    torch.manual_seed(seed)
    module = nn.Conv2d(*channels, kernel, stride, padding, dilation, groups, bias)
    x = torch.randn(count, channels[0], *size)
    span = [d * (k - 1) - 2 * p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    keep = masked(module, density, seed)
    if any(s >= n for s, n in zip(span, size, strict=True)):
        with pytest.raises(Unsupported, match="smaller than its kernel"):
            KernelLayer("layer", module, keep, tuple(x.shape[1:]), count)
        return
    assert_as_in_float64(module, keep, x, rank=3)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    features=st.tuples(st.integers(1, 70), st.integers(1, 40)),
    bias=st.booleans(),
    density=st.sampled_from([0.0, 0.03, 0.3, 1.0]),
    batch=st.sampled_from([(), (1,), (7,), (33,), (3, 5), (2, 3, 4)]),
    seed=st.integers(0, 1000),
)
def test_linear_layers_agree_with_float64(features, bias, density, batch, seed) -> None:
    torch.manual_seed(seed)
    module = nn.Linear(*features, bias)
    x = torch.randn(*batch, features[0])
    layer_x = x if batch else x[None]
    assert_as_in_float64(module, masked(module, density, seed), layer_x, rank=1)


def test_empty_rows_and_inputs_in_other_memory_orders() -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(6, 9, 3, padding=1)
    keep = masked(module, 0.3)
    keep[[0, 4, 8]] = False  # channels that nothing is written to
    keep[:, 2] = False  # one that nothing is read from
    with torch.no_grad():
        module.weight.mul_(torch.from_numpy(keep))
    x = torch.randn(5, 6, 9, 8)
    assert_as_in_float64(module, keep, x.contiguous(memory_format=torch.channels_last), rank=3)
    assert_as_in_float64(module, keep, x.transpose(2, 3), rank=3)


def test_weights_are_read_at_every_call_and_pruned_ones_never() -> None:
    module = nn.Linear(20, 10)
    keep = masked(module, 0.5)
    layer, x = KernelLayer("layer", module, keep, (20,), 4), torch.randn(4, 20)
    before = layer(x)
    with torch.no_grad():
        module.weight[~torch.from_numpy(keep)] = 3.0
        torch.testing.assert_close(layer(x), before)
        module.weight.mul_(2 * torch.from_numpy(keep))
    torch.testing.assert_close(layer(x), module(x))


def test_not_a_number_passes_through_its_own_image_only() -> None:
    module = nn.Conv2d(2, 3, 3, padding=1)
    layer = KernelLayer("layer", module, np.ones((3, 2, 3, 3), bool), (2, 8, 8), 5)
    x = torch.randn(5, 2, 8, 8)
    x[3, 1, 4, 4] = torch.nan
    broken = layer(x).isnan()
    assert bool(broken[3].any()) and not bool(broken[[0, 1, 2, 4]].any())


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), (2, 8, 8), "padding of layer"),
        (nn.Conv2d(2, 2, 3, padding="same"), (2, 8, 8), "padding of layer"),
        (nn.Conv2d(2, 2, 3, (1, 2)), (2, 8, 8), "layer has stride"),
        (nn.Conv1d(2, 2, 3), (2, 8), "layer is a Conv1d"),
    ],
)
def test_what_a_single_layer_cannot_be(module, shape, message) -> None:
    with pytest.raises(Unsupported, match=message):
        KernelLayer("layer", module, np.ones(module.weight.shape, bool), shape, 4)


@pytest.mark.slow
def test_at_99_percent_a_convolution_is_several_times_faster_than_torchs() -> None:
    """Guards the point of all this: 7 to 9 times where it was measured, at least 3 anywhere."""
    torch.manual_seed(0)
    module = nn.Conv2d(64, 64, 3, padding=1, bias=False)
    layer = KernelLayer("layer", module, masked(module, 0.01), (64, 32, 32), 16)
    x = torch.randn(16, 64, 32, 32, requires_grad=True)
    gz = torch.randn(16, 64, 32, 32)

    def seconds(forward) -> float:
        started = time.process_time()
        torch.autograd.grad(forward(x), [x, module.weight], gz)
        return time.process_time() - started

    ways = {"kernels": layer, "torch": module}
    spent = {name: [seconds(way) for _ in range(6)][1:] for name, way in ways.items()}
    assert np.median(spent["torch"]) > 3 * np.median(spent["kernels"])


# -- whole networks --


class Branches(nn.Module):
    """Concatenation, dropout, a transposed convolution, LayerNorm: nothing of it has a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.left = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.right = nn.Conv2d(16, 24, 3, stride=2, padding=2, dilation=2)
        self.norm = nn.BatchNorm2d(48)
        self.up = nn.ConvTranspose2d(48, 32, 2, stride=2)
        self.pool = nn.AvgPool2d(5, ceil_mode=True)
        self.tokens = nn.Linear(32, 32)
        self.layer_norm = nn.LayerNorm(32)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(9 * 32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], 1)
        x = self.pool(torch.relu(self.up(self.norm(x))))
        x = self.tokens(x.flatten(2).transpose(1, 2))
        return self.head(self.drop(self.layer_norm(x).flatten(1)))


@pytest.fixture(scope="module")
def fold() -> Fold:
    return Fold(
        images(97, SHAPE), images(40, SHAPE, seed=1), Augmentation(pad=1, flip=True), CLASSES
    )


def made(model: nn.Module, ratio: float, seed: int = 0):
    torch.manual_seed(seed)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    network = slots.install(model, torch.zeros(2, *SHAPE), "relu")
    mask = prune(network, ratio)
    masks.apply(mask, network)
    return network, mask


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_mixed_trains_as_the_dense_reference(fold, optimizer: str) -> None:
    """97 images in batches of 32 leave one over; the dropped activations are the same."""
    network, mask = made(Branches(), 0.9)
    how = HOW if optimizer == "sgd" else Recipe(optimizer=optimizer, lr=2e-3, batch_size=32)
    ends = {}
    for backend in ("dense", "auto", "sparse"):
        twin = copy.deepcopy(network)
        ends[backend] = train(
            twin, fold, how, 2, ORDER, mask=mask, backend=backend, validate="every"
        )
        for name, weight in prunable(twin).items():
            assert not weight.detach()[~mask[name]].any()
        assert not any("forward" in vars(module) for module in twin.modules() if module is not twin)
        outcome = score(twin, fold.validation)
        assert outcome.loss == pytest.approx(ends[backend].last.validation_loss, abs=1e-5)
    assert [end.backend for end in ends.values()] == ["dense", "mixed", "mixed"]
    assert ends["auto"].history == ends["sparse"].history

    def start(seed: int) -> Start:
        return Start(*made(Branches(), 0.9, seed), fold)

    assert assert_learns_as_torch(start, how, 2, "auto").backend == "mixed"


def test_a_resumed_mixed_training_ends_bit_for_bit(fold) -> None:
    network, mask = made(Branches(), 0.95)
    files: list[io.BytesIO] = []

    def save(snapshot) -> None:
        files.append(io.BytesIO())
        torch.save(snapshot.state(), files[-1])

    whole, resumed = copy.deepcopy(network), copy.deepcopy(network)
    first = train(whole, fold, HOW, 3, ORDER, mask=mask, backend="auto", on_epoch=save)
    files[0].seek(0)
    state = torch.load(files[0], weights_only=False)
    second = train(resumed, fold, HOW, 3, ORDER, mask=mask, backend="auto", resume=state)
    assert first.backend == second.backend == "mixed" and first.history == second.history
    after = resumed.state_dict()
    assert list(after) == list(network.state_dict())
    assert all(torch.equal(value, after[name]) for name, value in whole.state_dict().items())


def test_the_notice_says_why_and_how_much(fold) -> None:
    network, mask = made(Branches(), 0.95)
    outcome = train(network, fold, HOW, 1, ORDER, mask=mask)
    assert outcome.backend == "dense" and outcome.notice is None
    outcome = train(network, fold, HOW, 1, ORDER, mask=mask, backend="auto")
    why = "sparse kernels: cat (node cat) is not known"
    assert outcome.notice == f"{why}; 5 of 5 layers run on the kernels"
    mask["left"][:] = True  # too dense
    outcome = train(network, fold, HOW, 1, ORDER, mask=mask, backend="auto")
    assert outcome.notice == f"{why}; 4 of 5 layers run on the kernels, not left"


def test_layers_that_do_not_pay_are_left_to_torch(fold) -> None:
    network, mask = made(Branches(), 0.5)
    outcome = train(network, fold, HOW, 1, ORDER, mask=mask, backend="auto")
    assert outcome.backend == "dense" and str(outcome.notice).endswith("; trained densely")
    network, mask = made(Branches(), 0.95)
    one = HOW.model_copy(update={"batch_size": 1})
    found = MixedBackend(network, fold, one.model_copy(update={"batch_size": 8}), ORDER, mask)
    assert set(found.layers) == set(mask)
    with pytest.raises(Unsupported, match="sparse enough"):  # eight lanes for one image
        MixedBackend(network, fold, one, ORDER, mask)


class Attention(nn.Module):
    """A layer whose weights torch reads itself, and one used twice, on inputs of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.twice = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(torch.relu(self.stem(x))).flatten(2).transpose(1, 2)
        x = (x + self.attention(x, x, x)[0]).mean(1)
        return self.head(self.twice(x[:, :, None, None]).flatten(1))


class Shared(nn.Module):
    """One convolution after itself; nothing else that the kernels would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = nn.Conv2d(3, 16, 4, stride=4), nn.Conv2d(16, 16, 3, padding=1)
        self.first, self.second = nn.ReLU(), nn.ReLU()
        self.pool, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.again(self.first(self.again(self.stem(x)))))
        return self.head(self.flat(self.pool(x)))


def as_dense(model: nn.Module, fold: Fold) -> Outcome:
    """Two epochs on the mixed backend, which are those of PyTorch."""

    def start(seed: int) -> Start:
        return Start(*made(model, 0.9, seed), fold)

    mixed = assert_learns_as_torch(start, HOW, 2, "auto")
    assert mixed.backend == "mixed"
    return mixed


def test_a_layer_used_twice_gets_the_gradients_of_both_uses(fold) -> None:
    assert "again is used twice" in str(as_dense(Shared(), fold).notice)


def test_only_calls_of_layers_are_replaced(fold) -> None:
    outcome = as_dense(Attention(), fold)
    why = "sparse kernels: flatten does not flatten to one dimension"
    extent = "3 of 4 layers run on the kernels, not attention.out_proj"
    assert outcome.notice == f"{why}; {extent}"


def test_a_diverging_run_is_seen(fold) -> None:
    network, mask = made(Branches(), 0.9)
    wild = Recipe(lr=1.0, batch_size=32).model_copy(update={"lr": 1e12})
    outcome = train(network, fold, wild, 3, ORDER, mask=mask, backend="auto")
    assert outcome.backend == "mixed" and "loss became" in str(outcome.failure)


@pytest.mark.filterwarnings("ignore:stage 2 is repeatable:UserWarning")
def test_the_api_reports_that_a_strangers_network_ran_mixed() -> None:
    torch.manual_seed(0)
    parts = [(torch.randn(n, *SHAPE), torch.arange(n) % CLASSES) for n in (48, 30)]
    budget = safs.Budget(moves=1, search_epochs=1, trials=2, tune_epochs=1)
    result = safs.search_and_tune(Branches(), *parts, ratio=0.9, budget=budget)
    rows = [*result.report["search"]["evaluations"], *result.report["tuning"]["trials"]]
    assert {row["backend"] for row in rows} == {"mixed"}
    for name, weight in prunable(result.module).items():
        assert not weight.detach()[~result.mask[name]].any()
