"""VGG-16, ResNet-18 and EfficientNet-B0: counts, slots, and agreement with torchvision."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from safs import slots
from safs.errors import SafsError
from safs.networks import NETWORKS, build, prunable
from safs.networks.efficientnet import RowDrop, efficientnet_b0
from safs.networks.resnet import resnet18
from safs.networks.vgg import vgg16
from safs.pruning.connectivity import connectivity

# name, images, classes, parameters, slots, prunable layers
COUNTS = [
    ("lenet5", (1, 28, 28), 10, 44_426, 4, 5),
    ("vgg16", (3, 32, 32), 10, 14_728_266, 13, 14),
    ("vgg11", (3, 32, 32), 10, 9_231_114, 8, 9),
    ("resnet18", (3, 32, 32), 10, 11_173_962, 17, 21),
    ("resnet18", (3, 16, 16), 1000, 11_681_832, 17, 21),
    ("efficientnet_b0", (3, 16, 16), 1000, 5_288_548, 49, 82),
]
NAMES = ["vgg16", "vgg11", "resnet18", "efficientnet_b0"]
SIZE = {"vgg16": 32, "vgg11": 32, "resnet18": 16, "efficientnet_b0": 16}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def small(name, **options):
    shape = (3, SIZE[name], SIZE[name])
    return build(name, shape, 5, options={"width": 0.125, **options}), shape


@pytest.mark.parametrize(("name", "shape", "classes", "parameters", "places", "layers"), COUNTS)
def test_counts(name, shape, classes, parameters, places, layers):
    network = build(name, shape, classes)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(slots.slots(network)) == places
    assert len(prunable(network)) == layers


@pytest.mark.parametrize("name", NAMES)
def test_width_scales_the_channels_and_leaves_the_layout(name):
    network, shape = small(name)
    whole = build(name, shape, 5)
    assert list(slots.slots(network)) == list(slots.slots(whole))
    assert list(prunable(network)) == list(prunable(whole))
    sizes = [sum(p.numel() for p in net.parameters()) for net in (network, whole)]
    assert sizes[0] < sizes[1] / 10


@pytest.mark.parametrize("name", NAMES)
def test_batch_norm_follows_the_mode_after_tracing(name):
    network, shape = small(name)
    images = torch.randn(8, *shape) + 3
    first = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    before = network.eval()(images)
    assert torch.equal(network(images), before) and not first.running_mean.any()
    trained = network.train()(images)
    assert first.running_mean.any()
    assert not torch.allclose(trained, before)
    assert not torch.allclose(network.eval()(images), before)


@pytest.mark.parametrize("name", NAMES)
def test_without_dropout_the_training_forward_is_deterministic(name):
    network, shape = small(name)
    images = torch.randn(4, *shape)
    assert torch.equal(network.train()(images), network.train()(images))


@pytest.mark.parametrize("name", NAMES)
def test_connectivity_works_and_a_full_mask_connects_everything(name):
    network, shape = small(name)
    everything = {
        layer: torch.ones_like(w, dtype=torch.bool) for layer, w in prunable(network).items()
    }
    labels = np.arange(5)
    whole = connectivity(network, everything, shape, labels)
    assert whole.connected == (0, 1, 2, 3, 4) and whole.cap == 1
    last = list(prunable(network))[-1]
    everything[last][3] = False
    assert connectivity(network, everything, shape, labels).connected == (0, 1, 2, 4)
    everything[next(iter(everything))][:] = False
    assert connectivity(network, everything, shape, labels).connected == ()


def test_a_gate_passes_also_where_its_own_weights_are_pruned():
    """A squeeze-and-excitation without weights multiplies by one half: it disconnects nothing."""
    network, shape = small("efficientnet_b0")
    mask = {
        layer: torch.full_like(w, "squeeze" not in layer, dtype=torch.bool)
        for layer, w in prunable(network).items()
    }
    assert len(connectivity(network, mask, shape, np.arange(5)).connected) == 5


def test_defaults_are_relu_and_swish():
    defaults = {name: NETWORKS[name].default for name in NAMES}
    assert defaults.pop("efficientnet_b0") == "swish" and set(defaults.values()) == {"relu"}


def same_values(ours, theirs):
    """Load our parameters and buffers into torchvision's network, by order."""
    values = ours.state_dict().values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    return theirs


@pytest.mark.parametrize("training", [True, False])
def test_efficientnet_is_torchvisions_with_names(training):
    shape = (3, 64, 64)
    ours = build("efficientnet_b0", shape, 10).train(training)
    theirs = torchvision.models.efficientnet_b0(
        num_classes=10, dropout=0.0, stochastic_depth_prob=0.0
    )
    theirs = same_values(ours, theirs).train(training)
    images = torch.randn(4, *shape)
    assert torch.allclose(ours(images), theirs(images), atol=1e-5)


def test_efficientnet_starts_as_torchvisions_does():
    torch.manual_seed(3)
    ours = efficientnet_b0((3, 16, 16), 7)
    torch.manual_seed(3)
    theirs = torchvision.models.efficientnet_b0(num_classes=7)
    for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, other)


def test_resnet_is_torchvisions_with_a_small_stem():
    ours = build("resnet18", (3, 32, 32), 10)
    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(ours.eval()(images), theirs.eval()(images), atol=1e-5)


def test_resnet_can_take_the_released_codes_shortcuts():
    network, _ = small("resnet18", shortcut_activation=True)
    places = list(slots.slots(network))
    assert len(places) == 17 and sum("shortcut" in name for name in places) == 8
    standard, _ = small("resnet18")
    assert {n: p.shape for n, p in network.named_parameters()} == {
        n: p.shape for n, p in standard.named_parameters()
    }
    block = resnet18((3, 8, 8), 2, width=0.125, shortcut_activation=True)[3][0]
    x = torch.randn(2, 8, 8, 8)
    inside = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    assert torch.allclose(block(x), inside + torch.relu(x), atol=1e-6)


def test_vgg_is_torchvisions_without_the_hidden_linear_layers():
    ours = build("vgg16", (3, 32, 32), 10).eval()
    theirs = torchvision.models.vgg16_bn(init_weights=False).features.eval()
    values = list(ours.state_dict().items())[:-2]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), (v for _, v in values), strict=True)))
    images = torch.randn(2, 3, 32, 32)
    expected = ours.get_submodule("classifier")(theirs(images).flatten(1))
    assert torch.allclose(ours(images), expected, atol=1e-5)


def test_vgg_and_resnet_start_with_torchvisions_variances():
    for model in (vgg16((3, 32, 32), 10), resnet18((3, 32, 32), 10)):
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                fan_out = layer.out_channels * layer.kernel_size[0] ** 2
                assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
                assert layer.bias is None or not layer.bias.any()
    head = vgg16((3, 32, 32), 10).classifier
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.1) and not head.bias.any()


def test_vgg_convolutions_have_biases():
    weights = prunable(build("vgg16", (3, 32, 32), 10))
    names = dict(build("vgg16", (3, 32, 32), 10).named_parameters())
    assert all(f"{name}.bias" in names for name in weights)


def test_dropout_and_stochastic_depth_follow_the_mode_after_tracing():
    for option in ({"dropout": 0.5}, {"stochastic_depth": 0.5}):
        network, shape = small("efficientnet_b0", **option)
        images = torch.randn(8, *shape)
        quiet = network.eval()(images)
        assert torch.equal(network(images), quiet)
        assert not torch.equal(network.train()(images), network(images))
        assert len(slots.slots(network)) == 49


def test_row_drop_drops_whole_images_and_keeps_the_mean():
    drop = RowDrop(0.25)
    x = torch.ones(4000, 2, 3, 3)
    rows = drop(x).flatten(1)
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    assert set(rows[:, 0].tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert rows.mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(x), x)


def test_stochastic_depth_grows_as_in_torchvision():
    ours = efficientnet_b0((3, 16, 16), 2, stochastic_depth=0.2)
    theirs = torchvision.models.efficientnet_b0(num_classes=2, stochastic_depth_prob=0.2)
    rates = [m.drop.p if isinstance(m.drop, nn.Dropout3d) else 0.0
             for m in ours.modules() if isinstance(m, RowDrop)]  # fmt: skip
    expected = [m.p for m in theirs.modules() if isinstance(m, torchvision.ops.StochasticDepth)]
    assert rates == expected and rates[0] == 0


def test_images_that_a_network_cannot_take_are_refused():
    with pytest.raises(SafsError, match="32x32 pixels or more, got 16x16"):
        build("vgg16", (3, 16, 16), 10)
    with pytest.raises(SafsError, match="3 channels, got 1"):
        build("efficientnet_b0", (1, 16, 16), 10)
