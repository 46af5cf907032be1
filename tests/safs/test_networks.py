"""Initialisation has its own seed stream and leaves torch's global generator alone."""

import pytest
import torch
from torch import nn

from safs import slots
from safs.errors import SafsError
from safs.networks import NETWORKS, build, network, prunable


def weights(**key):
    return build("lenet5", (1, 28, 28), 10, **key).get_parameter("fc1.weight")


def test_a_replicate_has_its_own_initialisation():
    assert torch.equal(weights(root=1, replicate=2), weights(root=1, replicate=2))
    assert not torch.equal(weights(root=1, replicate=2), weights(root=1, replicate=3))
    assert not torch.equal(weights(root=1, replicate=2), weights(root=2, replicate=2))


def test_building_draws_nothing_from_the_global_generator():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    weights()
    assert torch.equal(torch.rand(3), expected)


def test_a_network_is_one_decorated_function():
    @network("made_up", "Made up", default="tanh")
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
