"""Whole networks drawn at random train on the kernels as in torch, or are not taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kernels_reference import assert_same_gradients, network, random_mask
from random_networks import draw
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

import safs
from safs import kernels, slots
from safs.kernels.misread import misread
from safs.training import evaluation, scores
from safs.training.data import Images

FEW, MANY, EACH = 8, 160, 25
"""Blocks of seeds in ``make test`` and in ``make test-slow``, and seeds of a block."""


@pytest.mark.parametrize(
    "block",
    [pytest.param(n, marks=[pytest.mark.slow] if n >= FEW else []) for n in range(MANY)],
)
def test_random_networks_have_the_gradients_of_float64(block):
    taken = 0
    for seed in range(EACH * block, EACH * (block + 1)):
        drawn = draw(seed)
        if drawn is None or kernels.why_not(*drawn, ()) or misread(*drawn):
            continue
        made, shape = drawn
        taken += 1
        mask = random_mask(made, (0.05, 0.3, 0.7, 1.0)[seed % 4], seed)
        count = (40, 37, 9, 5, 16)[seed % 5]
        try:
            assert_same_gradients(made, mask, shape, count=count, batch=count, tolerance=3e-3)
        except AssertionError as error:
            raise AssertionError(f"network {seed}: {error}\n{made.graph}") from None
    assert taken > EACH / 3


class Summing(nn.Module):
    """A convolution, a sum that is drawn from it, and a head."""

    def __init__(self, total: Callable[[Summing, Tensor], Tensor]) -> None:
        super().__init__()
        self.total = total
        self.first, self.second = (nn.Conv2d(2, 3, 3, padding=1) for _ in range(2))
        self.relu, self.other, self.same = nn.ReLU(), nn.ReLU(), nn.Identity()
        self.mean, self.largest = nn.AdaptiveAvgPool2d(1), nn.MaxPool2d(3, 2, 1)
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mean(self.total(self, x)).flatten(1))


def doubled(m: Summing, x: Tensor) -> Tensor:
    y = m.relu(m.first(x))
    return y + y


def doubled_before_its_activation(m: Summing, x: Tensor) -> Tensor:
    z = m.first(x)
    return m.relu(z + z)


def added_to_what_is_the_same(m: Summing, x: Tensor) -> Tensor:
    z = m.first(x)
    return m.relu(z + m.same(z))


def added_to_the_largest_of_one(m: Summing, x: Tensor) -> Tensor:
    y = m.mean(m.relu(m.first(x)))
    return m.largest(y) + y


def doubled_in_place(m: Summing, x: Tensor) -> Tensor:
    y = m.relu(m.first(x)).flatten(2).unflatten(2, (8, 8))
    y += y
    return y


def two_maps(m: Summing, x: Tensor) -> Tensor:
    return m.relu(m.first(x)) + m.other(m.second(x))


def a_map_and_its_activation(m: Summing, x: Tensor) -> Tensor:
    z = m.first(x)
    return z + m.relu(z)


OWN = [
    doubled, doubled_before_its_activation, added_to_what_is_the_same, added_to_the_largest_of_one,
]  # fmt: skip
SHAPE = (2, 8, 8)


@pytest.mark.parametrize("total", OWN)
def test_a_map_added_to_itself_is_known_to_train_wrongly(total):
    """The day that the kernels get it right, this fails, and nothing needs to be misread."""
    made = network(Summing(total), SHAPE)
    assert misread(made, SHAPE) == "sparse kernels: a feature map is added to itself"
    with pytest.raises(AssertionError, match=r"first\.weight"):
        assert_same_gradients(made, random_mask(made, 0.5), SHAPE)


@pytest.mark.parametrize("total", [two_maps, a_map_and_its_activation])
def test_other_sums_are_taken_and_right(total):
    made = network(Summing(total), SHAPE)
    assert not kernels.why_not(made, SHAPE, ()) and not misread(made, SHAPE)
    assert_same_gradients(made, random_mask(made, 0.5), SHAPE)


class Block(nn.Module):
    """Two convolutions, the second with batch norm, and a head; a function says how they go on."""

    def __init__(self, steps: Callable[[Block, Tensor], Tensor]) -> None:
        super().__init__()
        self.steps = steps
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.relu, self.other = nn.BatchNorm2d(4), nn.ReLU(), nn.ReLU()
        self.mean, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.wide, self.narrow, self.back = nn.Linear(256, 5), nn.Linear(256, 6), nn.Linear(6, 256)
        self.head, self.aside = nn.Linear(4, 5), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(self, x)


def activation_of_a_flat_map(m: Block, x: Tensor) -> Tensor:
    return m.wide(m.relu(m.flat(m.first(x))))


def sum_of_flat_maps(m: Block, x: Tensor) -> Tensor:
    f = m.flat(m.relu(m.first(x)))
    return m.wide(f + m.back(m.other(m.narrow(f))))


def product_of_flat_maps(m: Block, x: Tensor) -> Tensor:
    f = m.flat(m.relu(m.first(x)))
    return m.wide(f * f)


def shortcut_in_place(m: Block, x: Tensor) -> Tensor:
    y = m.relu(m.first(x))
    out = m.norm(m.second(y))
    out.add_(y)
    return m.head(m.mean(m.other(out)).flatten(1))


def a_head_that_is_not_returned(m: Block, x: Tensor) -> Tensor:
    f = m.relu(m.first(x))
    out = m.head(m.mean(f).flatten(1))
    m.aside(m.mean(m.other(m.norm(m.second(f)))).flatten(1))
    return out


def by_keyword(m: Block, x: Tensor) -> Tensor:
    return m.head(torch.flatten(input=m.mean(m.relu(m.first(x))), start_dim=1))


def plain(m: Block, x: Tensor) -> Tensor:
    return m.head(m.mean(m.relu(m.norm(m.second(m.other(m.first(x)))))).flatten(1))


def hooked(block: Block) -> None:
    block.second.register_forward_hook(lambda module, inputs, output: 3 * output)


def sharing(block: Block) -> None:
    block.norm.bias = block.second.bias


def without_bias(block: Block) -> None:
    block.norm.bias = None


MISREAD = [
    (activation_of_a_flat_map, None, "a flattened map goes elsewhere than into a linear layer"),
    (sum_of_flat_maps, None, "a flattened map goes elsewhere than into a linear layer"),
    (product_of_flat_maps, None, "a flattened map goes elsewhere than into a linear layer"),
    (shortcut_in_place, None, "add_ changes a map in place that is read elsewhere"),
    (a_head_that_is_not_returned, None, "norm is computed after the logits"),
    (by_keyword, None, "the network is written as they cannot read it"),
    (plain, hooked, "second has hooks or a forward of its own"),
    (plain, sharing, "norm.bias is a parameter of another layer too"),
    (plain, without_bias, "norm has only one of weight and bias"),
]


@pytest.mark.parametrize(("steps", "change", "why"), MISREAD)
def test_what_else_they_get_wrong_is_kept_from_them(steps, change, why):
    """Also from scores, for which they are asked first whatever trains."""
    torch.manual_seed(0)
    block, x = Block(steps), torch.randn(40, *SHAPE)
    if change:
        change(block)
    block.eval()
    adopted = safs.adopt.take(block, x[:2])
    assert adopted.misread == f"sparse kernels: {why}"
    assert "for_pytorch" in kernels.why_not(adopted.network, SHAPE, ())
    with torch.no_grad():
        assert torch.allclose(adopted.network.eval()(x), block(x), atol=1e-6)
    images = Images(x, torch.zeros(40, dtype=torch.int64), torch.zeros(1), torch.ones(1))
    found, expected = (f(adopted.network, images) for f in (evaluation.score, scores.by_torch))
    assert (found.top1, found.loss) == (expected.top1, expected.loss)


def test_the_same_without_the_fault_is_left_to_them():
    adopted = safs.adopt.take(Block(plain), torch.randn(2, *SHAPE))
    assert adopted.misread == "" == kernels.why_not(adopted.network, SHAPE, ())


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_torchvisions_shortcuts_are_no_reason_to_leave_the_kernels(block):
    """A Sequential of convolution and norm calls no activation, and is looked into all the same."""
    torch.manual_seed(0)
    model, shape = ResNet(block, [1, 1, 1, 1], num_classes=5, width_per_group=64), (3, 32, 32)
    made = safs.adopt.take(model, torch.randn(2, *shape)).network
    assert kernels.why_not(made, shape, ()) == "" == misread(made, shape)
    slots.fill(made, ["swish"] * len(slots.slots(made)))
    mask = random_mask(made, 0.1)
    assert_same_gradients(made, mask, shape, count=12, batch=12, tolerance=3e-3)


def test_a_chain_with_a_hook_stays_whole():
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)
    model.layer2[0].downsample.register_forward_hook(lambda module, inputs, output: output)
    made = safs.adopt.take(model, torch.randn(2, 3, 32, 32)).network
    assert "layer2.0.downsample is a Sequential" in kernels.why_not(made, (3, 32, 32), ())


def test_a_forward_of_its_own_is_found():
    block = Block(plain)
    made = network(block, SHAPE)
    assert misread(made, SHAPE) == ""
    made.get_submodule("second").forward = lambda x: x
    assert misread(made, SHAPE) == "sparse kernels: second has hooks or a forward of its own"


def test_what_the_kernels_do_not_take_is_not_misread():
    assert misread(nn.Linear(2, 2), SHAPE) == ""
    assert misread(network(Summing(doubled_in_place), SHAPE), SHAPE) == ""


def backends(total, place="cpu"):
    """Who trained the candidates of the public call."""
    torch.manual_seed(0)
    x, y = torch.randn(48, *SHAPE), torch.randint(0, 5, (48,))
    recipe = safs.Recipe(lr=0.01, momentum=0.9, batch_size=16)
    budget = safs.Budget(moves=1, search_epochs=1, trials=1, tune_epochs=1)
    result = safs.search_and_tune(
        Summing(total).to(place), (x[:32], y[:32]), (x[32:], y[32:]), ratio=0.5, recipe=recipe,
        budget=budget, operators=("elu", "tanh"),
    )  # fmt: skip
    return {row.backend for row in result.report.search.evaluations}


def test_the_public_call_leaves_such_a_network_to_pytorch(caplog):
    assert backends(two_maps) == {"sparse"}
    assert backends(doubled) == {"dense"}
    assert "sparse kernels: a feature map is added to itself; trained densely" in caplog.messages


@pytest.mark.filterwarnings("ignore:CUDA is in use already:UserWarning")
def test_on_a_gpu_nothing_is_said_of_the_kernels(simulated, caplog):
    assert backends(doubled, simulated.device) == {"dense"}
    assert not [told for told in caplog.messages if "sparse kernels" in told]
