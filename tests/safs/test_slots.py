"""Slots are found in any traceable network, also where one activation module serves twice."""

import pytest
import torch
import torchvision
from torch import nn

from safs import slots
from safs.errors import SafsError
from safs.networks import build
from safs.operators import OPERATORS

SHAPE = (1, 28, 28)


def test_lenet5_has_four_named_slots_and_the_papers_parameters():
    network = build("lenet5", SHAPE, 10)
    assert list(slots.slots(network)) == ["conv1_act", "conv2_act", "fc1_act", "fc2_act"]
    assert [slot.channels for slot in slots.slots(network).values()] == [6, 16, 120, 84]
    assert sum(p.numel() for p in network.parameters()) == 44_426


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (torchvision.models.vgg16_bn, 15),
        (torchvision.models.resnet18, 17),
        (torchvision.models.efficientnet_b0, 49),
    ],
)
def test_torchvision_networks_need_no_fork(make, count):
    """17 of ResNet-18 from 9 shared modules; EfficientNet's gates are no slots."""
    torch.manual_seed(0)
    model = make(weights=None, num_classes=10).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = model(images)
    kind = type(next(m for m in model.modules() if isinstance(m, nn.ReLU | nn.SiLU)))
    default = {nn.ReLU: "relu", nn.SiLU: "swish"}[kind]
    network = slots.install(model, images, default)
    assert len(slots.slots(network)) == count
    assert torch.allclose(network.eval()(images), expected, atol=1e-5)


def test_functional_calls_and_methods_become_slots():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = torch.relu(self.a(x))
            x = nn.functional.gelu(self.b(x)).tanh()
            return x * torch.sigmoid(x)

    network = slots.install(Net(), torch.zeros(2, 4), "relu")
    assert len(slots.slots(network)) == 3


def test_a_sigmoid_is_a_slot_only_where_it_does_not_gate():
    chain = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2))
    assert len(slots.slots(slots.install(chain, torch.zeros(2, 4), "sigmoid"))) == 1


def test_what_cannot_be_traced_or_has_no_activation_says_so():
    class Branches(nn.Module):
        def forward(self, x):
            return torch.relu(x) if x.sum() > 0 else x

    with pytest.raises(SafsError, match="cannot trace Branches"):
        slots.install(Branches(), torch.zeros(2, 4), "relu")
    with pytest.raises(SafsError, match="no activation to replace"):
        slots.install(nn.Linear(4, 4), torch.zeros(2, 4), "relu")


def test_scaling_is_alpha_f_of_beta_x_and_starts_at_one():
    slot = slots.Slot("tanh", channels=3)
    x = torch.randn(5, 3)
    plain = slot(x)
    slot.fill("tanh", scaled=True)
    assert torch.equal(slot(x), plain)
    with torch.no_grad():
        slot.alpha.fill_(2.0)
        slot.beta.fill_(-0.5)
    assert torch.allclose(slot(x), 2 * torch.tanh(-0.5 * x))
    assert slot.describe() == {"operator": "tanh", "alpha": 2.0, "beta": -0.5, "own": {}}


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_runs_in_every_slot_and_learns_only_what_it_should(name):
    network = build("lenet5", SHAPE, 10)
    slots.fill(network, [name] * 4, scaled=True)
    network(torch.randn(3, *SHAPE)).sum().backward()
    entry = OPERATORS[name]
    learned = slots.activation_parameters(network)
    per_slot = [6, 16, 120, 84] if entry.per_channel else [1] * 4
    own = len(entry.own) * sum(per_slot) if entry.trains else 0
    assert sum(p.numel() for p in learned) == own + (8 if entry.scaled else 0)
    assert all(p.grad is not None for p in learned)


def test_a_chromosome_of_the_wrong_length_or_name_is_refused():
    network = build("lenet5", SHAPE, 10)
    with pytest.raises(SafsError, match="3 operators for 4 slots"):
        slots.fill(network, ["relu"] * 3)
    with pytest.raises(SafsError, match="did you mean 'swish'"):
        slots.fill(network, ["swihs"] * 4)
