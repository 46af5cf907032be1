"""Whole networks drawn at random train on the kernels as in torch, or are not taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kernels_reference import assert_same_gradients, network, random_mask
from random_networks import draw
from torch import Tensor, nn

import safs
from safs import kernels
from safs.kernels.misread import misread

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
    with pytest.raises(AssertionError):
        assert_same_gradients(made, random_mask(made, 0.5), SHAPE)


@pytest.mark.parametrize("total", [two_maps, a_map_and_its_activation])
def test_other_sums_are_taken_and_right(total):
    made = network(Summing(total), SHAPE)
    assert not kernels.why_not(made, SHAPE, ()) and not misread(made, SHAPE)
    assert_same_gradients(made, random_mask(made, 0.5), SHAPE)


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
