"""Every layer and every fused stage against float64 torch, over shapes, masks and operators."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_reference import (
    CLASSES,
    KNOWN,
    PLAIN,
    assert_same_gradients,
    gradients,
    images,
    network,
    random_mask,
)
from torch import nn

from safs import kernels, masks, slots
from safs.kernels import Unsupported, plan
from safs.networks import build

SHAPE = (3, 10, 12)


def pooled(*layers: nn.Module, channels: int) -> nn.Sequential:
    """Layers, then a global average and a linear layer."""
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)
    )


def flat(*layers: nn.Module, features: int) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, CLASSES))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 6]),
    bias=st.booleans(),
    norm=st.booleans(),
    density=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    size=st.tuples(st.integers(9, 17), st.integers(9, 17)),
    count=st.sampled_from([2, 8, 13, 33]),
    seed=st.integers(0, 1000),
)
def test_convolutions(
    kernel, stride, padding, dilation, groups, bias, norm, density, size, count, seed
) -> None:
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    between = [nn.BatchNorm2d(6)] if norm else []
    model = pooled(
        nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 6, kernel, bias=bias, **options),
        *between, nn.Tanh(), channels=6,
    )  # fmt: skip
    shape = (3, *size)
    made = network(model, shape, "swish", seed=seed)
    mask = random_mask(made, density, seed)
    mask[next(reversed(mask))][:] = True
    tolerance = 1e-4 if norm and count == 2 else 3e-5  # norms of two images amplify rounding
    assert_same_gradients(made, mask, shape, count=count, batch=count, tolerance=tolerance)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("operator", KNOWN)
def test_fused_stages(operator: str, norm: bool, pool: bool, scaled: bool) -> None:
    layers = [nn.Conv2d(3, 8, 3, padding=1)]
    layers += [nn.BatchNorm2d(8)] if norm else []
    layers += [nn.ReLU()] + ([nn.MaxPool2d(2)] if pool else [])
    features = 8 * 10 * 12 // (4 if pool else 1)
    made = network(flat(*layers, features=features), SHAPE, operator, scaled=scaled)
    assert_same_gradients(made, random_mask(made, 0.3), SHAPE)


@pytest.mark.parametrize("alpha, beta", [(-0.7, 1.2), (0.8, -1.1), (0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("operator", ["relu", "swish", "tanh", "elu", "hardswish", "srs", "symexp"])
def test_alpha_and_beta_of_any_sign(operator: str, alpha: float, beta: float) -> None:
    """Negative ones turn the maximum around; 0 divides nothing."""
    model = flat(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), features=8 * 4 * 5)
    made = network(model, SHAPE, operator)
    for name, parameter in made.named_parameters():
        if name.endswith("alpha"):
            parameter.data.fill_(alpha)
        if name.endswith("beta"):
            parameter.data.fill_(beta)
    assert_same_gradients(made, random_mask(made, 0.3), SHAPE)


@pytest.mark.parametrize(
    "operator, values",
    [
        ("srs", (1.0, 9.0)), ("srs", (-4.0, 3.0)), ("srs", (2.0, 5.0)), ("srs", (2.0, -1.0)),
        ("falu", (2.7, 0.5)), ("falu", (-0.3, 11.0)), ("falu", (1.0, 1.0)),
    ],
)  # fmt: skip
def test_own_parameters_at_and_beyond_their_bounds(operator: str, values) -> None:
    """Held inside, with the gradient that safs.operators.base gives them there."""
    model = flat(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), features=8 * 4 * 5)
    made = network(model, SHAPE, operator)
    (slot,) = slots.slots(made).values()
    for parameter, value in zip(slot.own.values(), values, strict=True):
        parameter.data.fill_(value)
    mask = random_mask(made, 0.3)
    assert_same_gradients(made, mask, SHAPE, count=24, batch=24, tolerance=3e-5)


class Residual(nn.Module):
    """Two residual blocks, the second with a strided projection, as in ResNet."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.a, self.b = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.c, self.d = nn.Conv2d(6, 9, 3, 2, 1), nn.Conv2d(9, 9, 3, padding=1)
        self.short = nn.Conv2d(6, 9, 1, 2)
        sizes = {"a": 6, "b": 6, "c": 9, "d": 9, "short": 9}
        self.norms = nn.ModuleDict(
            {k: nn.BatchNorm2d(n) if norm else nn.Identity() for k, n in sizes.items()}
        )
        self.act = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d((2, 3))
        self.head = nn.Linear(54, CLASSES)

    def forward(self, x):
        x = self.act(self.stem(x))
        y = self.norms["b"](self.b(self.act(self.norms["a"](self.a(x)))))
        x = self.act(x + y)
        y = self.norms["d"](self.d(self.act(self.norms["c"](self.c(x)))))
        y += self.norms["short"](self.short(x))
        return self.head(torch.flatten(self.pool(self.act(y)), 1))


@pytest.mark.parametrize("density", [0.05, 0.4, 1.0])
@pytest.mark.parametrize("norm", [False, True])
def test_residual_blocks(norm: bool, density: float) -> None:
    made = network(Residual(norm), SHAPE, "gelu")
    mask = random_mask(made, density)
    assert_same_gradients(made, mask, SHAPE, tolerance=3e-5)


class Excited(nn.Module):
    """Depthwise convolution, squeeze-and-excitation and a residual, as in EfficientNet."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 12, 1, bias=False), nn.BatchNorm2d(12), nn.SiLU())
        self.deep = nn.Sequential(
            nn.Conv2d(12, 12, 5, 2, 2, groups=12, bias=False), nn.BatchNorm2d(12), nn.SiLU()
        )
        self.squeeze, self.excite = nn.Conv2d(12, 3, 1), nn.Conv2d(3, 12, 1)
        self.act, self.gate, self.average = nn.SiLU(), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1)
        self.project = nn.Sequential(nn.Conv2d(12, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        x = self.deep(self.expand(x))
        scale = self.gate(self.excite(self.act(self.squeeze(self.average(x)))))
        y = self.project(x * scale) + x
        return self.head(self.average(y).flatten(1))


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_squeeze_and_excitation(density: float) -> None:
    made = network(Excited(), SHAPE, "swish")
    assert_same_gradients(made, random_mask(made, density), SHAPE, tolerance=3e-5)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, 1), nn.MaxPool2d(3), nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2), nn.AdaptiveAvgPool2d((3, 5)), nn.MaxPool2d((2, 3)),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("norm", [False, True])
def test_other_pooling(pool: nn.Module, norm: bool) -> None:
    between = [nn.BatchNorm2d(6)] if norm else []
    model = pooled(
        nn.Conv2d(3, 6, 3), *between, nn.ReLU(), pool, nn.Conv2d(6, 6, 2), nn.ReLU(), channels=6
    )
    made = network(model, SHAPE, "swish")
    assert_same_gradients(made, random_mask(made, 0.5), SHAPE)


def test_odd_maps_before_a_2x2_maximum() -> None:
    for norm in (False, True):
        between = [nn.BatchNorm2d(6)] if norm else []
        layers = [nn.Conv2d(3, 6, 3), *between, nn.ReLU(), nn.MaxPool2d(2)]
        made = network(flat(*layers, features=6 * 3 * 5), (3, 9, 12), "tanh")
        assert_same_gradients(made, random_mask(made, 0.5), (3, 9, 12))


def test_a_map_with_two_readers_and_one_without_a_convolution_between() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.act, self.head = nn.ReLU(), nn.Linear(4 * 120, CLASSES)

        def forward(self, x):
            x = self.act(self.one(x))
            x = self.act(x) + self.two(x) + x
            return self.head(self.act(x).flatten(1))

    for operator in ("swish", "prelu"):
        made = network(Twice(), SHAPE, operator)
        assert_same_gradients(made, random_mask(made, 0.3), SHAPE)


def test_channels_of_no_use_and_channels_that_nothing_feeds() -> None:
    """No way in: a constant. No way out: gradient 0, and weight decay still acts (optimisers)."""
    for norm in (False, True):
        norms = [nn.BatchNorm2d(6) if norm else nn.Identity() for _ in range(2)]
        model = pooled(
            nn.Conv2d(3, 6, 3), norms[0], nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3),
            norms[1], nn.ReLU(), channels=6,
        )  # fmt: skip
        for operator in ("swish", "srelu", "falu", "srs"):
            made = network(model, SHAPE, operator)
            mask = random_mask(made, 0.6)
            first, second, last = mask.values()
            first[[1, 2]] = False  # nothing feeds 1 and 2
            second[:, [2, 3]] = False  # nothing reads 2 and 3
            second[4] = False
            last[:, 5] = False
            masks.apply(mask, made)
            assert_same_gradients(made, mask, SHAPE)


@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
def test_lenet5(density: float) -> None:
    made = network(build("lenet5", (1, 28, 28), CLASSES), (1, 28, 28), "swish")
    assert_same_gradients(made, random_mask(made, density), (1, 28, 28), count=40, batch=40)


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "efficientnet_b0"])
def test_the_large_networks(name: str) -> None:
    """Median over parameters: deep float32 networks are ill-conditioned in a few of them."""
    shape, count = (3, 32, 32), 16
    options = {"width": 0.25}
    made = build(name, shape, CLASSES, options=options)
    slots.fill(made, ["swish"] * len(slots.slots(made)), scaled=True)
    mask = random_mask(made, 0.6)
    data = images(count, shape)
    loss, expected = gradients(made, mask, data)
    sparse = kernels.compile(made, mask, PLAIN, shape, count)
    sums = sparse.train_epoch(data, np.arange(count), 0.0)
    assert abs(sums.loss / count - loss) < 3e-5 * loss
    found = sparse.gradients()
    errors = [
        float((found[n] - g).norm() / g.norm()) for n, g in expected.items() if g.norm() > 1e-6
    ]
    assert np.median(errors) < 1e-4
    assert np.quantile(errors, 0.95) < 1e-2


class Stranger(nn.Module):
    def forward(self, x):
        return x.cumsum(1)


@pytest.mark.parametrize(
    "model, reason",
    [
        (pooled(nn.Conv2d(3, 4, 3, padding_mode="circular"), nn.ReLU(), channels=4), "padding"),
        (pooled(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(0.5), channels=4), "drops at random"),
        (pooled(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.LayerNorm(10), channels=4), "LayerNorm"),
        (pooled(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), channels=4), "follow"),
        (pooled(nn.Conv2d(3, 4, 3), nn.ReLU(), Stranger(), channels=4), "cumsum"),
        (nn.Sequential(nn.Flatten(), nn.Linear(360, 5), nn.ReLU()), "does not end"),
    ],
)
def test_what_is_not_known_says_so_in_one_line(model: nn.Module, reason: str) -> None:
    made = network(model, (3, 10, 12))
    mask = random_mask(made, 0.5)
    with pytest.raises(Unsupported, match=reason) as caught:
        kernels.compile(made, mask, PLAIN, (3, 10, 12), 8)
    assert "\n" not in str(caught.value)


def test_an_operator_without_a_kernel_is_named(monkeypatch) -> None:
    monkeypatch.setattr(plan, "CODES", ("identity", "relu"))
    made = network(pooled(nn.Conv2d(3, 4, 3), nn.ReLU(), channels=4), SHAPE, "swish")
    with pytest.raises(Unsupported, match="operator swish has no kernel"):
        kernels.compile(made, random_mask(made, 0.5), PLAIN, SHAPE, 8)


def test_double_precision_is_refused() -> None:
    made = network(pooled(nn.Conv2d(3, 4, 3), nn.ReLU(), channels=4), SHAPE).double()
    with pytest.raises(Unsupported, match="float64"):
        kernels.compile(made, random_mask(made, 0.5), PLAIN, SHAPE, 8)


def test_names_of_layers_do_not_matter() -> None:
    layers = OrderedDict(x=nn.Conv2d(3, 4, 3), y=nn.ReLU(), z=nn.Flatten())
    model = nn.Sequential(OrderedDict(deep=nn.Sequential(layers), out=nn.Linear(320, CLASSES)))
    made = network(model, SHAPE)
    assert_same_gradients(made, random_mask(made, 0.5), SHAPE)
