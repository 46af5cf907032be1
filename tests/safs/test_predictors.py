"""Zero-cost predictors: a contract for everything registered, and each score by hand."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from safs import masks, slots
from safs.errors import UnknownName
from safs.networks import build, prunable
from safs.pruning.prune import prune
from safs.search.predictors import PREDICTORS, score

every_predictor = pytest.mark.parametrize("name", PREDICTORS)
SHAPE = (1, 28, 28)


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(3)
    return torch.randn(16, *SHAPE), torch.arange(16) % 10


def pruned(name="lenet5", ratio=0.9):
    network = build(name, SHAPE if name == "lenet5" else (3, 32, 32), 10)
    masks.apply(prune(network, ratio), network)
    return network


def two_layers():
    """``x -> 3 units -> 2 classes`` without biases, one weight pruned."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Tanh(), nn.Linear(3, 2, bias=False))
    network = slots.install(body, torch.zeros(2, 4), "tanh")
    prunable(network)["0"].data[1, 2] = 0
    return network, torch.randn(8, 4), torch.arange(8) % 2


def by_hand(network, images, labels):
    """Weight and gradient of each surviving weight, one vector each."""
    weights = list(prunable(network).values())
    found = torch.autograd.grad(functional.cross_entropy(network(images), labels), weights)
    w, g = (torch.cat([part.flatten() for part in parts]) for parts in (weights, found))
    return w[w != 0].detach(), g[w != 0]


@every_predictor
def test_scores_are_finite_repeatable_and_leave_the_network_alone(name, batch):
    network = pruned()
    before = copy.deepcopy(network.state_dict())
    first = score([name], network, *batch)
    assert math.isfinite(first[name])
    assert first == score([name], network, *batch) == score([name], copy.deepcopy(network), *batch)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@every_predictor
def test_scores_do_not_depend_on_the_predictors_before(name, batch):
    network = pruned()
    assert score([*PREDICTORS], network, *batch)[name] == score([name], network, *batch)[name]


@every_predictor
def test_scores_of_a_network_with_batch_norm_and_shared_activations(name):
    torch.manual_seed(1)
    network = pruned("resnet18")
    assert math.isfinite(score([name], network, torch.randn(8, 3, 32, 32), torch.arange(8))[name])


@every_predictor
def test_operators_are_told_apart(name, batch):
    network = pruned()
    found = []
    for operator in ("relu", "tanh"):
        slots.fill(network, (operator,) * 4)
        found.append(score([name], network, *batch)[name])
    assert found[0] != found[1]


def test_a_network_that_gives_no_number_is_the_worst(batch):
    network = pruned()
    network.get_submodule("fc3").bias.data[0] = float("nan")
    scores = score(["flow", "snip", "loss"], network, *batch)
    assert set(scores.values()) == {-math.inf}


def test_an_unknown_predictor_is_named(batch):
    with pytest.raises(UnknownName, match="snip"):
        score(["snap"], pruned(), *batch)


def test_flow_and_snip_by_hand():
    network, images, labels = two_layers()
    w, g = by_hand(network, images, labels)
    assert len(w) == 4 * 3 + 3 * 2 - 1
    found = score(["flow", "snip"], network, images, labels)
    assert found["flow"] == pytest.approx(float(g.square().sum()), rel=1e-5)
    assert found["snip"] == pytest.approx(float((w * g).abs().sum()), rel=1e-5)


def test_zico_by_hand():
    network, images, labels = two_layers()
    first = 11  # surviving weights of the first layer
    parts = zip(images.chunk(4), labels.chunk(4), strict=True)
    gradients = torch.stack([by_hand(network, *part)[1].abs() for part in parts])
    ratio = gradients.mean(0) / gradients.std(0, correction=0)
    expected = math.log(ratio[:first].sum()) + math.log(ratio[first:].sum())
    assert score(["zico"], network, images, labels)["zico"] == pytest.approx(expected, rel=1e-4)


def test_zico_leaves_out_a_layer_whose_gradients_do_not_vary():
    network, images, labels = two_layers()
    whole = score(["zico"], network, images, labels)["zico"]
    *_, last = prunable(network).values()
    last.data.fill_(1e-30)  # nothing reaches the first layer's gradient
    without = score(["zico"], network, images, labels)["zico"]
    parts = zip(images.chunk(4), labels.chunk(4), strict=True)
    gradients = torch.stack([by_hand(network, *part)[1].abs() for part in parts])
    spread = gradients.std(0, correction=0)
    assert (spread[:11] < 1e-20).all() and math.isfinite(whole)
    ratio = gradients.mean(0)[11:] / spread[11:]
    assert without == pytest.approx(math.log(ratio.sum()), rel=1e-4)


def test_naswot_by_hand():
    network, images, labels = two_layers()
    with torch.no_grad():
        code = (network.get_submodule("0")(images) > 0).double()
    kernel = torch.tensor([[float((a == b).double().mean()) for a in code] for b in code])
    expected = torch.logdet(kernel.double() + 1e-6 * torch.eye(8, dtype=torch.float64))
    found = score(["naswot"], network, images, labels)["naswot"]
    assert found == pytest.approx(float(expected), rel=1e-3)


def test_loss_is_the_control():
    network, images, labels = two_layers()
    expected = functional.cross_entropy(network(images), labels).item()
    assert score(["loss"], network, images, labels)["loss"] == pytest.approx(-expected)


@every_predictor
def test_gradients_beyond_all_bounds_are_the_worst_and_no_error(name):
    """Their squares are infinite, as Symexp's become in some chromosomes."""
    network, images, labels = two_layers()
    prunable(network.double())["0"].data.mul_(1e-200)
    told = score([name], network, images.double() * 1e200, labels)[name]
    assert told == -math.inf or math.isfinite(told)
    assert (told == -math.inf) == (name in ("flow", "zico"))
