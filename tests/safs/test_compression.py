"""Parameters and multiply-accumulates against numbers worked out by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from safs import slots
from safs.errors import SafsError
from safs.networks import build, prunable
from safs.pruning.compression import account
from safs.pruning.prune import prune


def install(*layers, shape):
    return slots.install(nn.Sequential(*layers), torch.zeros(2, *shape), "relu")


def full(network):
    return {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable(network).items()}


def macs(layer, shape, **options):
    """Dense multiply-accumulates of one layer between an activation and nothing."""
    network = install(nn.ReLU(), layer, shape=shape)
    return account(network, full(network), shape, **options).macs


def test_lenet5_by_hand():
    network = build("lenet5", (1, 28, 28), 10)
    result = account(network, prune(network, 0.99), (1, 28, 28))
    assert [layer.macs for layer in result.layers] == [
        24 * 24 * 6 * 25,
        8 * 8 * 16 * 6 * 25,
        256 * 120,
        120 * 84,
        84 * 10,
    ]
    assert [layer.kept for layer in result.layers] == [2, 24, 307, 101, 8]
    assert result.parameters == 44_426
    assert result.nonzero == 2 + 24 + 307 + 101 + 8 + (6 + 16 + 120 + 84 + 10)
    assert result.sparse_macs == 2 * 576 + 24 * 64 + 307 + 101 + 8
    assert result.ratio == 44_426 / 678
    assert result.speedup == 281_640 / 3_104


def test_a_depthwise_layer_has_one_input_channel_per_filter():
    """EfficientNet's stage 2: 96 channels, 3x3, stride 2, padding 1, from 8x8 to 4x4."""
    layer = nn.Conv2d(96, 96, 3, stride=2, padding=1, groups=96, bias=False)
    assert macs(layer, (96, 8, 8)) == 96 * 9 * 16
    # Along an axis the taps of the four windows start at -1, 1, 3, 5: only the first leaves the
    # image, and only with its first tap. 3 + 4 + 4 = 11 of 12 uses are inside.
    assert macs(layer, (96, 8, 8), count_padding=False) == 96 * 11 * 11


def test_on_one_pixel_only_the_middle_tap_meets_the_image():
    layer = nn.Conv2d(1152, 1152, 5, padding=2, groups=1152, bias=False)
    assert macs(layer, (1152, 1, 1)) == 1152 * 25
    assert macs(layer, (1152, 1, 1), count_padding=False) == 1152
    network = install(nn.ReLU(), layer, shape=(1152, 1, 1))
    mask = full(network)
    mask["1"][:, :, 2, 2] = False
    kept = account(network, mask, (1152, 1, 1)).sparse_macs
    assert kept == 1152 * 24
    assert account(network, mask, (1152, 1, 1), count_padding=False).sparse_macs == 0


def test_groups_strides_and_dilation():
    assert macs(nn.Conv2d(8, 4, 3, groups=2), (8, 5, 5)) == 4 * 4 * 9 * 9
    assert macs(nn.Conv2d(1, 2, 3, stride=2), (1, 7, 7)) == 2 * 9 * 9
    assert macs(nn.Conv2d(1, 2, 3, dilation=2), (1, 7, 7)) == 2 * 9 * 9
    assert macs(nn.Conv2d(1, 1, 3, padding="same"), (1, 3, 3)) == 9 * 9
    assert macs(nn.Conv2d(1, 1, 3, padding="same"), (1, 3, 3), count_padding=False) == 7 * 7


def test_a_linear_layer_counts_every_position_it_is_applied_to():
    assert macs(nn.Linear(7, 3), (4, 5, 7)) == 4 * 5 * 7 * 3


def test_a_layer_that_is_used_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(torch.relu(self.layer(x.flatten(1))))

    network = slots.install(Twice(), torch.zeros(2, 1, 2, 2), "relu")
    assert account(network, full(network), (1, 2, 2)).macs == 2 * 16


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 7),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
)
def test_taps_inside_the_image_are_those_that_a_convolution_multiplies(
    size, kernel, stride, padding, dilation, groups
):
    """With ones everywhere, the sum of a convolution's output is the number of inner products."""
    if size + 2 * padding < dilation * (kernel - 1) + 1:
        return
    layer = nn.Conv2d(4, 2, kernel, stride, padding, dilation, groups, bias=False)
    network = install(nn.ReLU(), layer, shape=(4, size, size))
    mask = {"1": torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5}
    counted = account(network, mask, (4, size, size), count_padding=False)
    with torch.no_grad():
        layer.weight.copy_(mask["1"].float())
        expected = layer(torch.ones(1, 4, size, size)).sum()
        layer.weight.fill_(1)
        dense = layer(torch.ones(1, 4, size, size)).sum()
    assert (counted.sparse_macs, counted.macs) == (int(expected), int(dense))


def test_what_activations_cost():
    network = build("lenet5", (1, 28, 28), 10)
    mask = prune(network, 0.99)

    def cost(operator, scaled=False):
        slots.fill(network, [operator] * 4, scaled=scaled)
        return account(network, mask, (1, 28, 28))

    assert cost("relu").activation == 0
    assert cost("swish", scaled=True).activation == 2 * 4
    assert cost("srelu").activation == 4 * (6 + 16 + 120 + 84)
    assert cost("acon").activation == 0  # its own parameters are not learned
    assert cost("srelu").ratio == 44_426 / (678 + 904)
    assert {cost(name).parameters for name in ("relu", "srelu", "acon")} == {44_426}


@pytest.mark.parametrize(
    ("name", "shape", "classes", "expected"),
    [
        # Tan and Le, Table 2, print 0.39B for EfficientNet-B0 at 224x224.
        ("efficientnet_b0", (3, 224, 224), 1000, 385_814_752),
        ("efficientnet_b0", (3, 16, 16), 1000, 5_792_752),
        ("resnet18", (3, 32, 32), 10, 555_422_720),
        ("vgg16", (3, 32, 32), 10, 313_201_664),
    ],
)
def test_the_papers_networks(name, shape, classes, expected):
    network = build(name, shape, classes)
    result = account(network, full(network), shape)
    assert result.macs == result.sparse_macs == expected
    assert result.ratio == result.speedup == 1


def test_efficientnets_depthwise_layers_at_16_pixels_by_hand():
    """Channels, kernel and side after each first depthwise layer of the seven stages."""
    network = build("efficientnet_b0", (3, 16, 16), 1000)
    found = {
        layer.name: layer.macs for layer in account(network, full(network), (3, 16, 16)).layers
    }
    for stage, (channels, kernel, side) in enumerate(
        [(32, 3, 8), (96, 3, 4), (144, 5, 2), (240, 3, 1), (480, 5, 1), (672, 5, 1), (1152, 3, 1)],
        start=1,
    ):
        name = f"stage{stage}.0.block.depthwise.conv"
        assert found[name] == channels * kernel**2 * side**2


def test_counting_leaves_the_network_as_it_is():
    network = build("lenet5", (1, 28, 28), 10).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    account(network, prune(network, 0.9), (1, 28, 28))
    assert network.training and not any(m._forward_hooks for m in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_mask_that_does_not_fit_is_refused():
    network = build("lenet5", (1, 28, 28), 10)
    with pytest.raises(SafsError, match="mask for layers"):
        account(network, {}, (1, 28, 28))
