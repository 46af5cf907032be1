"""The Fisher spectrum of a pruned network, held against the matrix written out."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from safs import masks, slots
from safs.networks import build, prunable
from safs.operators import OPERATORS
from safs.pruning.prune import prune
from safs.search.spectrum import FLOOR, QUANTILES, spectrum

SHAPE = (1, 28, 28)


def two_layers() -> tuple[nn.Module, torch.Tensor]:
    """``x -> 3 units -> 2 classes`` without biases, two weights pruned."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Tanh(), nn.Linear(3, 2, bias=False))
    network = slots.install(body, torch.zeros(2, 4), "tanh").double()
    prunable(network)["0"].data[1, 2:] = 0
    return network, torch.randn(8, 4, dtype=torch.float64)


def by_hand(network: nn.Module, images: torch.Tensor, name: str) -> torch.Tensor:
    """The Fisher information of a layer's surviving weights, image by image, class by class."""
    weight = prunable(network)[name]
    alive = weight != 0
    total = torch.zeros(int(alive.sum()), int(alive.sum()), dtype=torch.float64)
    for image in images:
        for label in range(2):
            likelihood = network(image[None]).log_softmax(dim=1)[0, label]
            (gradient,) = torch.autograd.grad(likelihood, [weight])
            found = gradient[alive]
            total += likelihood.exp().detach() * torch.outer(found, found) / len(images)
    return total


@pytest.mark.parametrize("count", [8, 2])
def test_it_is_that_of_the_matrix_written_out(count):
    """Also where there are fewer images and classes than weights, and so zeros."""
    network, images = two_layers()
    told = spectrum(network, images[:count])
    assert list(told) == ["0", "2"]
    for name, quantiles in told.items():
        matrix = by_hand(network, images[:count], name)
        values = torch.linalg.eigvalsh(matrix).clamp(min=FLOOR).log10()
        places = [int((k + 0.5) * len(values) / QUANTILES) for k in range(QUANTILES)]
        assert quantiles == pytest.approx(values[places].tolist(), abs=6e-4)


def test_pruned_weights_have_no_part_in_it():
    """Fewer weights, fewer eigenvalues: a layer without any is left out."""
    network, images = two_layers()
    weight = prunable(network)["0"]
    weight.data[1:] = 0
    weight.data[0, 1:] = 0
    (only,) = set(spectrum(network, images)["0"])
    assert only == pytest.approx(math.log10(float(by_hand(network, images, "0"))), abs=6e-4)
    weight.data[:] = 0
    assert list(spectrum(network, images)) == ["2"]


def test_the_network_is_left_as_it_was():
    network, images = two_layers()
    network = network.float().train()
    before = copy.deepcopy(network.state_dict())
    spectrum(network, images.float())
    assert network.training and next(network.parameters()).dtype == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("value", [math.inf, 1e200])
def test_a_gradient_that_is_not_finite_is_told_as_such(value):
    """Or whose square is not."""
    network, images = two_layers()
    prunable(network)["0"].data.zero_().add_(1e-300)
    images[0] = value
    assert spectrum(network, images)["0"] == [math.inf] * QUANTILES


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_one(name):
    network = build("lenet5", SHAPE, 10)
    masks.apply(prune(network, 0.99), network)
    slots.fill(network, (name,) * 4)
    torch.manual_seed(1)
    told = spectrum(network, torch.randn(3, *SHAPE))
    assert set(told) <= set(prunable(network)) and "fc3" in told
    for quantiles in told.values():
        assert len(quantiles) == QUANTILES
        assert quantiles == sorted(quantiles)
        assert all(math.log10(FLOOR) <= value < 3 for value in quantiles)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_batch_norm_sees_its_running_statistics(name):
    """An image's gradient is its own: the spectrum of one does not depend on the others."""
    network = build(name, (3, 16, 16), 4, options={"width": 0.125})
    masks.apply(prune(network, 0.9), network)
    torch.manual_seed(2)
    images = torch.randn(1, 3, 16, 16)
    assert spectrum(network, images) == spectrum(network, images.repeat(2, 1, 1, 1))
