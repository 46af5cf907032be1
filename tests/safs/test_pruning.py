"""Exact k, stable ties, and what a mask leaves connected."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernels_reference import CLASSES, random_mask
from random_networks import draw
from torch import nn

from safs import masks, slots
from safs.errors import SafsError
from safs.networks import build, prunable
from safs.pruning import scopes
from safs.pruning.connectivity import connectivity
from safs.pruning.prune import prune
from safs.pruning.pruners import PRUNERS

SHAPE = (1, 28, 28)


def test_lenet5_keeps_the_protocols_counts():
    mask = prune(build("lenet5", SHAPE, 10), 0.99)
    assert {name: int(keep.sum()) for name, keep in mask.items()} == {
        "conv1": 2,
        "conv2": 24,
        "fc1": 307,
        "fc2": 101,
        "fc3": 8,
    }


@given(st.integers(1, 5000), st.floats(0, 1, exclude_max=True))
def test_kept_is_exact_and_at_least_one(total, ratio):
    k = scopes.kept(total, ratio)
    assert 1 <= k <= total
    assert abs(k - (1 - ratio) * total) <= 0.5 + 1e-9 or k == 1


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan")])
def test_a_ratio_outside_the_interval_is_refused(ratio):
    with pytest.raises(SafsError, match=r"expected a number in \[0, 1\)"):
        scopes.kept(10, ratio)


def test_magnitude_keeps_the_largest_and_ties_go_to_the_earliest():
    layer = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with torch.no_grad():
        layer[0].weight.copy_(torch.tensor([[0.1, -0.9, 0.5], [0.5, 0.5, -0.2]]))
    network = slots.install(layer, torch.zeros(2, 3), "relu")
    mask = prune(network, 0.5)
    assert mask["0"].tolist() == [[False, True, True], [True, False, False]]


def test_a_mask_that_does_not_fit_is_refused():
    network = build("lenet5", SHAPE, 10)
    mask = prune(network, 0.9)
    with pytest.raises(SafsError, match="expected"):
        masks.apply({k: v for k, v in mask.items() if k != "fc1"}, network)
    with pytest.raises(SafsError, match="mask of fc1"):
        masks.apply({**mask, "fc1": mask["fc1"].float()}, network)


def test_a_pruner_is_one_decorated_score_function():
    @PRUNERS.register("last")
    def last(network):
        return {
            name: torch.arange(weight.numel(), dtype=torch.float).view(weight.shape)
            for name, weight in prunable(network).items()
        }

    try:
        mask = prune(build("lenet5", SHAPE, 10), 0.99, "last")
        assert mask["fc3"].flatten()[-8:].all() and int(mask["fc3"].sum()) == 8
    finally:
        PRUNERS.remove("last")


def _chain(*weights):
    """A stack of linear layers with ReLU between them, all weights and biases given by masks."""
    layers = []
    for weight in weights:
        weight = torch.tensor(weight, dtype=torch.float)
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            layer.weight.copy_(-weight)  # negative: connectivity is about structure, not signs
        layers += [layer, nn.ReLU()]
    model = nn.Sequential(nn.Flatten(), *layers[:-1])
    network = slots.install(model, torch.zeros(2, 1, 1, len(weights[0][0])), "relu")
    mask = {name: weight != 0 for name, weight in prunable(network).items()}
    return network, mask


def test_connectivity_follows_paths_by_hand():
    """Unit 1 of the hidden layer is dead, so class 2, which hangs on it alone, is unreachable."""
    network, mask = _chain([[1, 0], [0, 0], [0, 1]], [[1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 0]])
    labels = np.repeat(np.arange(4), [40, 30, 20, 10])
    links = connectivity(network, mask, (1, 1, 2), labels)
    assert links.connected == (0, 1, 3) and links.classes == 4
    assert links.cap == 1.0

    network, mask = _chain([[1, 0], [0, 0]], [[1, 0], [0, 1], [0, 1], [0, 1]])
    links = connectivity(network, mask, (1, 1, 2), labels)
    assert links.connected == (0,)
    assert links.cap == pytest.approx(0.7)


def test_nothing_connected_leaves_one_constant_answer():
    network, mask = _chain([[0, 0]], [[1], [1], [1]])
    links = connectivity(network, mask, (1, 1, 2), np.array([0, 0, 0, 1, 2]))
    assert links.connected == () and links.cap == pytest.approx(0.6)


def test_connectivity_agrees_with_a_gradient_through_the_masked_network():
    """A class is connected exactly if some pixel can move its output."""
    network = build("lenet5", SHAPE, 10, root=3)
    mask = prune(network, 0.99)
    links = connectivity(network, mask, SHAPE, np.arange(10))
    probe = build("lenet5", SHAPE, 10).double()
    with torch.no_grad():
        for name, weight in prunable(probe).items():
            weight.copy_(mask[name].double())
    image = torch.rand(1, *SHAPE, dtype=torch.float64, requires_grad=True)
    output = probe(image)[0]
    moved = [
        bool(torch.autograd.grad(output[c], image, retain_graph=True)[0].any()) for c in range(10)
    ]
    assert [c for c in range(10) if moved[c]] == list(links.connected)
    assert 0 < len(links.connected) < 10


def test_connectivity_leaves_the_network_as_it_was():
    network = build("lenet5", SHAPE, 10)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    connectivity(network, prune(network, 0.9), SHAPE, np.arange(10))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert network(torch.zeros(1, *SHAPE)).dtype == torch.float32


def depending(network, shape):
    """The classes whose logits depend on the input, by gradients in float64."""
    x = torch.randn(4, *shape, dtype=torch.float64, requires_grad=True)
    logits = network.double().eval()(x).sum(0)
    slopes = (
        torch.autograd.grad(logit, x, retain_graph=True, materialize_grads=True)[0]
        for logit in logits
    )
    return tuple(c for c, slope in enumerate(slopes) if bool((slope != 0).any()))


def told_and_depending(seed, density, gates=False):
    """Of a random network, with or without squeeze and excitation; None if it is another."""
    drawn = draw(seed)
    if drawn is None or gates != any(isinstance(m, nn.Sigmoid) for m in drawn[0].modules()):
        return None
    network, shape = drawn
    mask = random_mask(network, density, seed)
    links = connectivity(network, mask, shape, np.arange(CLASSES))
    return links.connected, depending(network, shape)


@pytest.mark.parametrize("density", [0.05, 0.15, 0.3])
def test_a_class_is_connected_where_its_logit_depends_on_the_input(density):
    pairs = [pair for seed in range(60) if (pair := told_and_depending(seed, density))]
    assert all(told == depends for told, depends in pairs)
    assert {0, CLASSES} < {len(told) for told, _ in pairs}


def test_past_a_gate_a_class_may_depend_that_is_told_as_cut_off():
    """A bias that is cut off carries what the gate says of the input; never the other way."""
    pairs = [pair for seed in range(400) if (pair := told_and_depending(seed, 0.2, gates=True))]
    assert all(set(told) <= set(depends) for told, depends in pairs)
    assert 0 < sum(told != depends for told, depends in pairs) < len(pairs) / 20


@pytest.mark.parametrize("ratio", [0.9, 0.99])
def test_no_such_class_is_in_efficientnet(ratio):
    shape, rng = (3, 16, 16), torch.Generator().manual_seed(1)
    network = build("efficientnet_b0", shape, 10)
    mask = prune(network, ratio)
    links = connectivity(network, mask, shape, np.arange(10))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            keep = mask.get(name.removesuffix(".weight"))
            parameter.normal_(0, 1 if keep is None else 3, generator=rng)
            parameter.mul_(1 if keep is None else keep)
    assert (
        links.connected == depending(network, shape) == (tuple(range(10)) if ratio < 0.95 else ())
    )
