"""One pass tells activations from gates, weights from other parameters, and chance."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from safs import slots
from safs.watch import watch

X = torch.randn(2, 4, 3, 3)


class Net(nn.Module):
    """A function of two feature maps, of their pooled channels, and of a parameter."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.own = nn.Parameter(torch.randn(4, 4))
        self.function = function

    def forward(self, x):
        a, b = self.a(x), self.b(x)
        return self.function(self, a, b, b.mean((2, 3)))


def gates(function):
    seen, _ = watch(Net(function).eval(), X)
    return {call.name: call.gates for call in seen.calls}


GATES = {
    "times": lambda net, a, b, s: a * torch.sigmoid(b),
    "view": lambda net, a, b, s: a * s.sigmoid().view(2, 4, 1, 1).expand_as(a),
    "index": lambda net, a, b, s: a * torch.sigmoid(s)[:, :, None, None],
    "unsqueeze": lambda net, a, b, s: functional.hardsigmoid(s).unsqueeze(-1).unsqueeze(-1) * a,
    "permute": lambda net, a, b, s: a.permute(0, 2, 3, 1) * s.sigmoid()[:, None, None],
    "scaled": lambda net, a, b, s: a.mul_(2 * torch.sigmoid(b) - 1),
    "one minus": lambda net, a, b, s: (1 - torch.sigmoid(b)) * a,
    "lerp": lambda net, a, b, s: torch.lerp(a, b, torch.sigmoid(b)),
    "einsum": lambda net, a, b, s: torch.einsum("nchw,nc->nchw", a, s.sigmoid()),
    "matmul": lambda net, a, b, s: torch.tanh(b) @ a,
    "tanh": lambda net, a, b, s: a * torch.tanh(b),
    "by hand": lambda net, a, b, s: a * functional.relu6(b + 3) / 6,
    "sum of two": lambda net, a, b, s: a * (torch.sigmoid(b) + torch.sigmoid(2 * b)),
    "swish": lambda net, a, b, s: a * torch.sigmoid(a),
}  # fmt: skip


@pytest.mark.parametrize("name", GATES)
def test_what_multiplies_another_map_gates_however_it_is_reshaped(name):
    assert set(gates(GATES[name]).values()) == {True}


def test_what_is_multiplied_or_goes_on_to_a_layer_does_not_gate():
    assert gates(lambda net, a, b, s: torch.tanh(a) * torch.sigmoid(b)) == {
        "tanh": False, "sigmoid": True,
    }  # fmt: skip
    assert gates(lambda net, a, b, s: net.b(torch.sigmoid(a)) * b) == {"sigmoid": False}
    assert gates(lambda net, a, b, s: a + torch.tanh(b)) == {"tanh": False}

    def excited(net, a, b, s):
        a = functional.relu6(a)
        return a * functional.hardsigmoid(net.b(a))

    assert gates(excited) == {"relu6": False, "hardsigmoid": True}


def test_an_activation_that_only_shapes_a_gate_is_part_of_it():
    mish = gates(lambda net, a, b, s: a * torch.tanh(functional.softplus(a)))
    assert mish == {"softplus": True, "tanh": True}


FUNCTIONS = [
    torch.selu, torch.relu_, functional.leaky_relu_, functional.elu_, functional.hardtanh,
    lambda x: functional.threshold(x, 0, 0), lambda x: x.clamp(min=0), lambda x: x.relu(),
    lambda x: torch.clamp_(x, 0, 6), functional.rrelu, nn.Mish(), nn.Softshrink(),
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_form_of_an_activation_is_seen(function):
    seen, _ = watch(Net(lambda net, a, b, s: function(a)).eval(), X)
    assert len(seen.calls) == 1


def test_a_clamp_for_safety_is_none():
    assert gates(lambda net, a, b, s: a.clamp(min=1e-6).clamp(-1e4, 1e4)) == {}


def test_activations_inside_torchs_own_layers_are_seen():
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    seen, _ = watch(layer, torch.randn(2, 3, 4))
    assert [(call.name, call.alone) for call in seen.calls] == [("relu", False)]
    seen, _ = watch(nn.LSTM(4, 5), torch.randn(2, 3, 4))
    assert [call.name for call in seen.calls] == ["lstm"]
    assert seen.weights == {"weight_ih_l0": True, "weight_hh_l0": True}


def test_a_parameter_is_a_weight_where_a_product_takes_it():
    seen, _ = watch(Net(lambda net, a, b, s: torch.relu(s @ net.own.t())).eval(), X)
    assert seen.weights == {"a.weight": True, "b.weight": True, "own": True}
    seen, _ = watch(Net(lambda net, a, b, s: torch.relu(s @ (net.own - 1))).eval(), X)
    assert seen.weights["own"] is False
    seen, _ = watch(Net(lambda net, a, b, s: torch.relu(s + net.own[0])).eval(), X)
    assert "own" not in seen.weights


def test_chance_is_named():
    seen, _ = watch(Net(lambda net, a, b, s: functional.dropout(a)).eval(), X)
    assert seen.random == ("", "dropout")
    seen, _ = watch(Net(lambda net, a, b, s: functional.dropout(a, training=False)).eval(), X)
    assert seen.random is None


def test_a_shared_module_without_a_graph_is_one_slot():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
            self.act = nn.ReLU()

        def forward(self, x):
            for layer in self.layers:
                x = self.act(layer(x)) if bool(x.isfinite().all()) else x
            return x

    model, x = Twice(), torch.randn(5, 4)
    expected = model(x)
    found = slots.find_modules(model, x)
    slots.put(model, found.sites, "relu")
    assert list(slots.slots(model)) == ["act"] and torch.equal(model(x), expected)
    slots.fill(model, ["tanh"], scaled=True)
    assert "slots.act.alpha" in model.state_dict() and len(model.state_dict()) == 6
    assert not torch.equal(model(x), expected)
