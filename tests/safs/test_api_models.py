"""The public API on the models that people have: adopted whole, or refused with the true reason."""

import json
import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune
from torch.utils.data import TensorDataset

import safs
from safs import sealed, slots
from safs.api import adopt
from safs.errors import SafsError

LEAST = safs.Budget(moves=0, search_epochs=1, trials=1, tune_epochs=1)
RECIPE = safs.Recipe(lr=0.05, momentum=0.9, batch_size=12)
pytestmark = pytest.mark.filterwarnings("ignore:stage 2 is repeatable:UserWarning")


def images(count=24, shape=(3, 6, 6), seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=rng), torch.arange(count) % 3


def nested(x):
    return torch.nested.nested_tensor([*x], layout=torch.jagged)


def shifted():
    """Two batches that have as many inputs as labels only together."""
    x, y = images()
    return [(x[:12], y[:11]), (x[12:], y[11:])]


def plain(**layers):
    torch.manual_seed(0)
    first = layers.get("first", nn.Conv2d(3, 8, 3))
    return nn.Sequential(
        first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), layers.get("last", nn.Linear(8, 3))
    )


def tune(model, **changes):
    asked = {"train": images(), "validation": images(12, seed=1), "ratio": 0.5}
    return safs.search_and_tune(model, **(asked | {"budget": LEAST, "recipe": RECIPE} | changes))


def holding(name, value):
    """A model with batch norm, one number of which is ``value``."""
    model = plain()
    model.insert(1, nn.BatchNorm2d(8))
    model.state_dict()[name].view(-1)[0] = value
    return model


class Net(nn.Module):
    """A convolution, what a test is about, and a linear layer."""

    def __init__(self, function, **parts):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x, scale=None):
        if scale is not None:
            x = x * scale
        return self.function(self, x)


def pooled(net, x):
    return net.head(functional.relu(net.conv(x)).mean((2, 3)))


# -- the caller's data --


def test_a_model_that_changes_its_input_in_place_gets_copies():
    model = Net(lambda net, x: pooled(net, x.sub_(0.5).div_(0.25)))
    (x, y), (xv, yv) = images(), images(12, seed=1)
    before = x.clone(), xv.clone()
    result = tune(model, train=(x, y), validation=(xv, yv))
    assert torch.equal(x, before[0]) and torch.equal(xv, before[1])
    reached = float((result.module(xv).argmax(1) == yv).float().mean())
    assert result.report["validation"]["tuned"] == pytest.approx(reached)


def test_a_data_set_of_single_images_and_arrays_with_negative_strides_are_read():
    (x, y), (xv, yv) = images(), images(12, seed=1)
    expected = tune(plain()).report
    sets = {
        "train": TensorDataset(x, y),
        "validation": [(a, int(b)) for a, b in zip(xv, yv, strict=True)],
    }
    assert tune(plain(), **sets).report == expected
    flipped = x.numpy()[:, ::-1].copy()[:, ::-1], y.numpy()
    assert flipped[0].strides[1] < 0
    assert tune(plain(), train=flipped).report == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": [images(), images(shape=(3, 7, 7))]}, "train: inputs of several shapes"),
        ({"train": [(*images(), 1)]}, r"train: expected \(x, y\)"),
        ({"train": 3}, "train: got a int"),
        ({"train": (images()[0].to_sparse(), images()[1])}, "train: .* a torch.sparse_coo tensor"),
        ({"train": (images()[0], images()[1].to_sparse())}, "train: .* a torch.sparse_coo tensor"),
        ({"train": (images()[0].to_mkldnn(), images()[1])}, "train: .* a torch._mkldnn tensor"),
        ({"train": (nested(images()[0]), images()[1])}, "train: .* a nested tensor"),
        ({"train": (images()[0].to("meta"), images()[1])}, "train: .* a meta tensor"),
        ({"validation": (images()[0], images()[1].to("meta"))}, "validation: .* a meta tensor"),
        ({"train": (images()[0].cfloat(), images()[1])}, "inputs are torch.complex64"),
        ({"train": (images()[0], images()[1].cfloat())}, "labels are torch.complex64"),
        ({"train": (images()[0].double() * 1e300, images()[1])}, "input is not finite in float32"),
        ({"train": (np.ma.masked_less(images()[0].numpy(), 0), images()[1])}, "a masked array"),
        ({"train": shifted()}, r"labels are torch.int64 \[11\], expected integer classes \[12\]"),
        ({"train": [images(), (images()[0], images()[1][:, None])]}, r"int64 \[24, 1\]"),
        ({"ratio": {"0": 0.5}}, r"pruning ratio \{'0': 0.5\}: expected a number"),
        ({"ratio": torch.tensor(0.5)}, "pruning ratio tensor"),
        ({"ratio": True}, "pruning ratio True"),
        ({"ratio": "0.5"}, "pruning ratio '0.5'"),
        ({"ratio": float("nan")}, "pruning ratio nan"),
        ({"backend": "dens"}, "unknown backend 'dens'; did you mean 'dense'"),
        ({"scope": "gobal"}, "did you mean 'global'"),
        ({"default": "rely"}, "did you mean 'relu'"),
        ({"operators": "relu"}, "operators: got 'relu'"),
        ({"seed": -1}, "seed: got -1"),
        ({"budget": {"moves": 1}}, "expected Budget"),
        (
            {"mask": {"0": torch.full((8, 3, 3, 3), np.nan)}},
            "given mask: 0 holds nan; expected 0",
        ),
        ({"mask": [1]}, r"mask: got \[1\], expected tensors by layer name, a module or a file"),
        ({"mask": torch.ones(3)}, r"mask: got tensor\(.*, expected tensors by layer name"),
        ({"mask": {0: torch.ones(8, 3, 3, 3)}}, "mask: got 0 as the name of a layer"),
        ({"mask": {"0": torch.ones(8, 3, 3, 3, device="meta")}}, "mask: 0 is on the device meta"),
        ({"mask": plain().to("meta")}, "mask: 0.weight is on the device meta"),
        ({"method": "given"}, "mask: method 'given' needs one, expected tensors by layer name"),
        ({"operators": 3}, "operators: got 3, expected names"),
        ({"operators": (name for name in ("relu", "elu"))}, "operators: got .*, expected names"),
        ({"mask": {"0": torch.zeros(8, 3, 3, 3), "4": torch.zeros(3, 8)}}, "no weight survives"),
    ],
)
def test_bad_arguments_end_in_one_line(changes, message):
    with pytest.raises(SafsError, match=message) as caught:
        tune(plain(), **changes)
    assert "\n" not in str(caught.value)


def test_the_callers_default_dtype_and_gradient_mode_change_nothing():
    expected = tune(plain()).report
    model, parts = plain(), {"train": images(), "validation": images(12, seed=1)}
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert tune(model, **parts).report == expected
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


# -- every weight --


class Padded(nn.Conv2d):
    def forward(self, x):
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1)), self.weight, self.bias)


class Standardised(nn.Conv2d):
    def forward(self, x):
        return functional.conv2d(x, self.weight - self.weight.mean(), self.bias)


def attention(net, x):
    tokens = net.conv(x).flatten(2).transpose(1, 2)
    mixed, _ = net.attend(tokens, tokens, tokens, need_weights=False)
    return net.head(functional.relu(net.steps(mixed)[0]).mean(1))


def measured(result, names):
    state = result.module.state_dict()
    zeros = sum(int((state[name] == 0).sum()) for name in names)
    return zeros / sum(state[name].numel() for name in names)


@pytest.mark.parametrize(
    "model",
    [
        plain(first=Padded(3, 8, 3)),
        plain(first=Standardised(3, 8, 3)),
        plain(first=nn.ConvTranspose2d(3, 8, 3)),
        Net(attention, attend=nn.MultiheadAttention(8, 2, batch_first=True), steps=nn.GRU(8, 8)),
        Net(lambda n, x: pooled(n, x @ n.own), own=nn.Parameter(torch.randn(6, 6))),
    ],
    ids=["subclass", "standardised", "transposed", "attention and recurrent", "parameter"],
)
def test_the_sparsity_told_is_that_of_every_weight(model):
    result = tune(model, ratio=0.75)
    weights = [n for n, p in model.named_parameters() if p.dim() > 1]
    told = result.report["pruning"]
    assert told["sparsity"] == pytest.approx(measured(result, weights), abs=1e-9)
    named = set(told["layers"]) | set(told["dense"])
    assert named == {name.removesuffix(".weight") for name in weights}
    assert set(result.mask) == set(told["layers"])


def test_a_weight_that_others_are_made_of_is_left_dense_by_name(caplog):
    with caplog.at_level(logging.WARNING, "safs"):
        told = tune(plain(first=Standardised(3, 8, 3))).report["pruning"]
    assert told["dense"]["0"].weights == 216 and told["layers"]["4"]["kept"] == 12
    assert any("left dense: 0: its zeros do not stay" in line for line in caplog.messages)


@pytest.mark.parametrize("name", ["conv.weight", "attend.in_proj_weight", "steps.weight_hh_l0"])
def test_the_zeros_of_a_network_that_is_sparse_already_stay(name):
    parts = {"attend": nn.MultiheadAttention(8, 2, batch_first=True), "steps": nn.LSTM(8, 8)}
    model = Net(attention, conv=nn.ConvTranspose2d(3, 8, 3), **parts)
    module, _, parameter = name.rpartition(".")
    torch_prune.random_unstructured(model.get_submodule(module), parameter, amount=0.5)
    zeros = getattr(model.get_submodule(module), parameter) == 0
    result = tune(model, ratio=None)
    assert torch.equal(result.module.state_dict()[name] == 0, zeros)


def test_zeros_that_would_not_stay_are_refused_by_name():
    model = plain(first=Standardised(3, 8, 3))
    with torch.no_grad():
        model[0].weight[0] = 0
        model[4].weight[0] = 0
    with pytest.raises(SafsError, match="the zeros of '0' would not stay"):
        tune(model, ratio=None)
    normed = plain()
    normed.insert(1, nn.BatchNorm2d(8))
    torch_prune.random_unstructured(normed[1], "weight", amount=0.5)
    with pytest.raises(SafsError, match=r"prune acts on '1\.weight'"):
        tune(normed, ratio=None)


# -- every activation --


class Excite(nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8), nn.Sigmoid())

    def forward(self, x):
        scores = self.scores(x.mean((2, 3))).view(x.size(0), 8, 1, 1)
        return x * scores.expand_as(x)


def test_a_gate_behind_a_reshape_is_no_slot_and_is_told(caplog):
    model = nn.Sequential(plain()[:2], Excite(), *plain()[2:])
    with caplog.at_level(logging.WARNING, "safs"):
        report = tune(model).report
    assert report["default"] == ["relu", "relu"]
    assert ["Sigmoid() gates" in why for why in report["left_out"].values()] == [True]
    assert any(line.startswith("no slot:") for line in caplog.messages)


def test_functions_are_slots_like_modules():
    def forward(net, x):
        x = torch.selu(net.conv(x))
        x = functional.threshold(x, 0.0, 0.0).clamp(min=0)
        return net.head(functional.leaky_relu_(x).mean((2, 3)))

    model, x = Net(forward), images()[0]
    with pytest.raises(SafsError, match=r"selu \(selu\), leaky_relu_ \(leaky_relu_\)"):
        adopt.adopt(model, x)
    network = adopt.adopt(model, x, default="elu")
    found = [slot.operator for slot in slots.slots(network).values()]
    assert found == ["elu", "relu", "relu", "elu"]


def test_an_activation_may_have_parameters_of_its_own():
    slope = nn.Parameter(torch.tensor([0.25]))
    model = Net(lambda net, x: net.head(functional.prelu(net.conv(x), net.slope).mean((2, 3))),
                slope=slope)  # fmt: skip
    network, x = adopt.adopt(model, images()[0]), images()[0]
    assert [slot.operator for slot in slots.slots(network).values()] == ["prelu"]
    assert torch.allclose(network(x), model(x), atol=1e-6)
    slope.data.fill_(0.5)
    assert adopt.adopt(model, x, default="relu") is not None


def test_a_default_does_not_switch_off_the_comparison():
    def forward(net, x):
        x = net.conv(x)
        functional.selu_(x.view(-1, 16))
        return net.head(x.mean((2, 3)))

    with pytest.raises(SafsError, match="computes something else"):
        adopt.adopt(Net(forward), images()[0], default="relu")


def test_activations_of_torchs_own_layers_are_named():
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.Flatten(2), nn.Linear(36, 8), encoder, *plain()[1:])
    model[4] = nn.Flatten()
    del model[5]
    model[-1] = nn.Linear(24, 3)
    adopted = adopt.take(model, images()[0])
    assert adopted.left == {"_2": "relu is called inside TransformerEncoderLayer"}
    assert "2.self_attn.in_proj_weight" in adopted.network.meta["weights"]


# -- what torch.fx freezes, or cannot trace --


def test_modes_of_functions_and_of_stochastic_depth_are_kept():
    from torchvision.ops import StochasticDepth

    def forward(net, x):
        x = functional.dropout(functional.relu(net.conv(x)), training=net.training)
        return net.head(net.drop(x).mean((2, 3)))

    model, x = Net(forward, drop=StochasticDepth(0.5, "row")), images(200)[0]
    network = adopt.adopt(model, x)
    assert torch.allclose(network.eval()(x), model.eval()(x), atol=1e-6)
    share = float((network.train()(x) == model.head.bias).all(1).float().mean())
    assert 0.3 < share < 0.7, "half of the images lose their features in training"


def test_chance_in_evaluation_is_refused_as_such():
    noisy = Net(lambda net, x: pooled(net, x + np.random.default_rng().random()))
    with pytest.raises(SafsError, match="random in evaluation: two passes of it differ"):
        adopt.adopt(noisy, images()[0])
    model = Net(
        lambda net, x: net.head(functional.dropout(functional.relu(net.conv(x)).mean((2, 3))))
    )
    with pytest.raises(SafsError, match="random in evaluation: dropout"):
        adopt.adopt(model, images()[0])


def test_modules_are_replaced_where_there_is_no_graph(tmp_path):
    def forward(net, x):
        x = net.act(net.conv(x)) if float(x.abs().sum()) > 0 else net.conv(x)
        return net.head(x.mean((2, 3)))

    def make():
        return Net(forward, act=nn.SiLU(), spare=nn.Linear(4, 4))

    result = tune(make())
    assert result.report["default"] == ["swish"]
    assert list(result.report["pruning"]["dense"]) == ["spare"]
    result.save(tmp_path)
    x = images()[0]
    assert torch.equal(safs.load(tmp_path, make())(x), result.module(x))
    called = Net(lambda net, x: pooled(net, x) if float(x.sum()) < np.inf else x)
    with pytest.raises(SafsError, match=r"cannot trace Net.*only modules become slots.*relu"):
        adopt.adopt(called, images()[0])


def test_a_sequence_with_a_hook_of_its_own_keeps_it():
    model, x = plain(), images()[0]
    model.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    network = adopt.adopt(model, x)
    assert [slot.operator for slot in slots.slots(network).values()] == ["relu"]
    assert torch.equal(network(x), model(x))


def test_constants_and_optional_arguments_keep_their_values():
    mean = [0.4, 0.5, 0.6]
    model = Net(lambda net, x: pooled(net, x - torch.tensor(mean).view(1, 3, 1, 1)))
    x = images()[0]
    assert torch.allclose(adopt.adopt(model, x)(x), model(x), atol=1e-6)


def modal(net, x):
    """Asks for the mode as functions do, and uses a part of its own."""
    x = functional.dropout(functional.relu(net.conv(x)), training=net.training)
    return net.head(net.get_submodule(net.part)(x).mean((2, 3)))


def branching(net, x):
    x = net.act(net.conv(x)) if float(x.abs().sum()) > 0 else net.conv(x)
    return net.head((getattr(net, net.part) * x).mean((2, 3)))


@pytest.mark.parametrize(
    ("forward", "name", "part"),
    [
        *((modal, name, nn.BatchNorm2d(8)) for name in ("slots", "mode", "meta", "graph", "code")),
        *((branching, name, nn.Parameter(torch.ones(1))) for name in ("slots", "meta")),
        *((branching, name, 2.0) for name in ("slots", "meta")),
    ],
)
def test_a_part_whose_name_the_network_with_slots_needs_is_to_be_renamed(forward, name, part):
    own = {name: part, "act": nn.SiLU()} if forward is branching else {name: part}
    with pytest.raises(SafsError, match=rf"^Net\.{name}: .* rename it"):
        tune(Net(forward, part=name, **own))


@pytest.mark.parametrize(("forward", "name"), [(pooled, "slots"), (branching, "mode")])
def test_such_a_name_is_free_where_nothing_is_in_the_way(forward, name):
    assert tune(Net(forward, act=nn.SiLU(), part=name, **{name: 2.0})).report["default"]


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_wrappers_are_taken_off(wrap):
    assert isinstance(adopt.adopt(wrap(plain()), images()[0]), torch.fx.GraphModule)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Net(lambda net, x: (pooled(net, x), x)), "returns a tuple in evaluation"),
        (lambda: Net(lambda net, x: net.conv(x).relu()), r"returns \[2, 8, 4, 4\] in evaluation"),
        (lambda: Net(lambda net, x: (pooled(net, x),) if net.training else pooled(net, x)),
         "returns a tuple in training"),
        (lambda: plain(last=torch.nn.utils.weight_norm(nn.Linear(8, 3))), "layer '4' is computed"),
        (lambda: plain(last=parametrizations.orthogonal(nn.Linear(8, 3))), "is computed"),
        (lambda: plain(last=nn.LazyLinear(3)), "has lazy layers"),
        (lambda: torch.jit.script(nn.Identity()), "give the original module"),
        (lambda: {"state": 1}, "got a dict, expected a torch.nn.Module"),
        (lambda: holding("5.weight", np.nan), "returns nan in evaluation.*; 5.weight holds nan"),
        (lambda: holding("5.bias", np.inf), "returns inf in evaluation.*; 5.bias holds inf"),
        (lambda: holding("1.running_mean", np.nan), "1.running_mean holds nan"),
        (lambda: Net(lambda net, x: pooled(net, x) / 0), "returns -?inf in .* finite logits$"),
        (lambda: plain().to("meta"), "0.weight is on the device meta"),
        (lambda: plain(last=nn.Linear(8, 3, device="meta")), "4.weight is on the device meta"),
        (lambda: Net(lambda net, x: pooled(net, x)[:1]), r"returns \[1, 3\] for 2 inputs"),
        (lambda: Net(lambda net, x: pooled(net, x)[:, :0]), r"returns \[2, 0\] in evaluation"),
        (lambda: Net(lambda net, x: pooled(net, x).long()), "returns torch.int64 in evaluation"),
        (lambda: Net(lambda net, x: pooled(net, x).to_sparse()), "returns torch.sparse_coo"),
        (lambda: Net(lambda net, x: pooled(net, x).detach()), "logits without a gradient"),
        (lambda: nn.Sequential(*plain()[:4], nn.GroupNorm(8, 8), nn.Linear(8, 3)),
         r"take inputs of the shape \[1, 3, 6, 6\]"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_models_that_cannot_be_taken_end_in_one_line(make, message):
    model = make()
    with pytest.raises(SafsError, match=message) as caught:
        tune(model)
    assert "\n" not in str(caught.value)


def torn(net, x):
    """One input loses its dimension."""
    return net.head(functional.relu(net.conv(x)).mean((2, 3)).squeeze())


def frozen(value):
    return nn.Parameter(torch.full((8,), value), requires_grad=False)


def normed(net, x):
    x = functional.relu(net.conv(x)).mean((2, 3))
    return net.head(functional.batch_norm(x, net.mean, net.var, training=net.training))


@pytest.mark.parametrize(("count", "batch_size"), [(25, 12), (24, 1)])
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(*plain()[:4], nn.BatchNorm1d(8), nn.Linear(8, 3)),
        lambda: nn.Sequential(*plain()[:3], nn.BatchNorm2d(8), *plain()[3:]),
        lambda: Net(torn),
        lambda: Net(normed, mean=frozen(0.0), var=frozen(1.0)),
    ],
    ids=["of vectors", "of maps of one value", "squeezed", "function"],
)
def test_a_batch_of_one_that_the_model_cannot_train_on_is_refused(make, count, batch_size):
    recipe = safs.Recipe(lr=0.05, momentum=0.9, batch_size=batch_size)
    with pytest.raises(SafsError, match=f"batches of {batch_size} leave one of {count} inputs"):
        tune(make(), train=images(count), recipe=recipe)


@pytest.mark.parametrize(("count", "batch_size"), [(25, 12), (4, 1)])
def test_batch_norm_over_maps_trains_on_one_image(count, batch_size):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), *plain()[1:])
    recipe = safs.Recipe(lr=0.05, momentum=0.9, batch_size=batch_size)
    assert tune(model, train=images(count), recipe=recipe).report["data"]["train"] == count


def test_images_of_another_axis_order_are_named_by_their_shape():
    x, y = images()
    moved = x.permute(0, 2, 3, 1), y
    with pytest.raises(SafsError, match=r"does not take inputs of the shape \[2, 6, 6, 3\]"):
        tune(plain(), train=moved, validation=moved)


def test_torchvisions_networks_with_stochastic_depth():
    import torchvision

    net = torchvision.models.efficientnet_b0(weights=None, num_classes=3)
    adopted = adopt.take(net, torch.randn(2, 3, 32, 32))
    assert len(slots.slots(adopted.network)) == 49 and len(adopted.left) == 16
    assert not adopted.dense


# -- saved results --


@pytest.fixture(scope="module")
def saved():
    return tune(plain())


def test_damaged_and_older_files_are_named(tmp_path):
    result = tune(plain())
    report, weights = tmp_path / "report.json", tmp_path / "model.safetensors"

    def fails(message):
        with pytest.raises(SafsError, match=message) as caught:
            safs.load(tmp_path, plain())
        assert "\n" not in str(caught.value)
        result.save(tmp_path)

    result.save(tmp_path)
    content = report.read_text()
    for text in (content[:100], "", "[" * 100_000, "[]"):
        report.write_text(text)
        fails(r"report\.json: (not JSON|got a list)")
    for change, message in (
        ({"schema": 2}, "of another version"),
        ({"seed": 1}, "its content does not fit its digest"),
        ({"digest": None}, "its content does not fit its digest"),
    ):
        report.write_text(json.dumps(json.loads(content) | change))
        fails(rf"report\.json: {message}")
    weights.write_bytes(weights.read_bytes()[:-4])
    fails(r"model\.safetensors: damaged")
    assert not safs.load(tmp_path, plain()).training
    with pytest.raises(SafsError, match=r"report\.json: cannot be written"):
        result.save(report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slots": []}, r"report\.json: slots: got \[\]; expected at least 1"),
        ({"slots": [{"name": "_1"}]}, r"report\.json: missing key 'slots\.0\.operator'"),
        ({"slots": [{"name": 1, "operator": "relu"}]}, r"slots\.0\.name: got 1"),
        ({"slots": [{"name": "_1", "operator": "rleu"}]}, "unknown operator 'rleu'; did you mean"),
        ({"data": {"shape": [-3]}}, r"inputs of the shape \[-3\], which no tensor has"),
        ({"data": {"shape": [10**30]}}, r"inputs of the shape \[10+\], which no tensor has"),
        ({"weights": b"none"}, r"model\.safetensors: not safetensors"),
    ],
)
def test_what_was_edited_and_sealed_again_ends_in_one_line(saved, tmp_path, change, message):
    saved.save(tmp_path)
    report, weights = tmp_path / "report.json", tmp_path / "model.safetensors"
    content = json.loads(report.read_text())
    if "weights" in change:
        weights.write_bytes(change["weights"])
        change = {"weights": sealed.file_digest(weights)}
    if "data" in change:
        change = {"data": content["data"] | change["data"]}
    sealed.write(report, content | change)
    with pytest.raises(SafsError, match=message) as caught:
        safs.load(tmp_path, plain())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", [None, 3])
def test_a_folder_is_a_path(saved, folder):
    for use in (saved.save, lambda place: safs.load(place, plain())):
        with pytest.raises(SafsError, match=r"folder: got .*, expected a path"):
            use(folder)
