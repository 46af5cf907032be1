"""The contract of every registered network: slots, prunable layers, initialisation."""

import math
from contextlib import suppress
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from safs import slots
from safs.datasets import DATASETS
from safs.errors import SafsError
from safs.networks import NETWORKS, build, network, prunable
from safs.pruning.connectivity import connectivity

CLASSES = 5
# The images of the data sets, the largest first.
SHAPES = sorted({entry.shape for entry in DATASETS.values()}, key=math.prod, reverse=True)

every_network = pytest.mark.parametrize("name", NETWORKS)


@cache
def taken(name):
    """The largest of the data sets' images that a network does not refuse."""
    for shape in SHAPES:
        with suppress(SafsError):
            NETWORKS[name].make(shape, CLASSES)
            return shape
    pytest.fail(f"{name} takes the images of no data set")


def fresh(name, **key):
    return build(name, taken(name), CLASSES, **key)


def weights(name, **key):
    return nn.utils.parameters_to_vector(fresh(name, **key).parameters())


@every_network
def test_every_network_is_traced_and_its_slots_hold_its_default(name):
    built = fresh(name)
    assert {slot.operator for slot in slots.slots(built).values()} == {NETWORKS[name].default}
    assert built(torch.zeros(3, *taken(name))).shape == (3, CLASSES)


@every_network
def test_a_gradient_reaches_every_slot_and_weight(name):
    torch.manual_seed(0)
    built = fresh(name)
    slots.fill(built, ["swish"] * len(slots.slots(built)), scaled=True)
    built(torch.randn(8, *taken(name))).square().sum().backward()
    for place, slot in slots.slots(built).items():
        assert slot.alpha.grad != 0 and slot.beta.grad != 0, place
    for layer, weight in prunable(built).items():
        assert weight.grad.abs().sum() > 0, layer


@every_network
def test_every_class_hangs_on_prunable_layers(name):
    built, labels = fresh(name), np.arange(CLASSES)
    for keep, connected in ((True, tuple(labels)), (False, ())):
        mask = {n: torch.full_like(w, keep, dtype=torch.bool) for n, w in prunable(built).items()}
        assert connectivity(built, mask, taken(name), labels).connected == connected


@every_network
def test_a_replicate_has_its_own_initialisation(name):
    one = weights(name, root=1, replicate=2)
    assert torch.equal(one, weights(name, root=1, replicate=2))
    assert not torch.equal(one, weights(name, root=1, replicate=3))
    assert not torch.equal(one, weights(name, root=2, replicate=2))


@every_network
def test_building_draws_nothing_from_the_global_generator(name):
    taken(name)  # which draws
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fresh(name)
    assert torch.equal(torch.rand(3), expected)


def test_a_network_is_one_decorated_function():
    @network("made_up", label="Made up", default="tanh")
    def made_up(shape, classes, width=3):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(4, width), nn.Tanh(), nn.Linear(width, classes)
        )

    try:
        built = build("made_up", (1, 2, 2), 2, options={"width": 7})
        assert [slot.operator for slot in slots.slots(built).values()] == ["tanh"]
        assert {name: tuple(w.shape) for name, w in prunable(built).items()} == {
            "1": (7, 4),
            "3": (2, 7),
        }
    finally:
        NETWORKS.remove("made_up")


def test_an_unknown_network_names_the_nearest():
    with pytest.raises(SafsError, match="unknown network 'lenet'; did you mean 'lenet5'"):
        build("lenet", (1, 28, 28), 10)
