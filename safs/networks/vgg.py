"""VGG with batch norm for small images.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
configurations A (11 layers) and D (16 layers).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from safs.errors import SafsError
from safs.networks.base import network

_SMALLEST = 32  # pixels; five poolings halve each side


@network("vgg16", label="VGG-16")
def vgg16(shape: tuple[int, int, int], classes: int, width: float = 1.0) -> nn.Module:
    """13 convolutions with biases and batch norm, one linear classifier, 13 slots.

    14,728,266 parameters on 32x32 colour images with ten classes. The two hidden linear layers that
    VGG has for 224x224 images are left out, as is usual at 32x32.

    Args:
        shape: ``(channels, height, width)``, both sides at least 32 pixels.
        classes: number of outputs.
        width: factor on the number of channels of every convolution.

    Raises:
        SafsError: the images are too small.
    """
    return _vgg(shape, classes, width, ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)))


@network("vgg11", label="VGG-11")
def vgg11(shape: tuple[int, int, int], classes: int, width: float = 1.0) -> nn.Module:
    """Eight convolutions and eight slots: what the released code builds in the place of VGG-16.

    9,231,114 parameters on 32x32 colour images with ten classes; arguments as for :func:`vgg16`.
    """
    return _vgg(shape, classes, width, ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2)))


def _vgg(
    shape: tuple[int, int, int], classes: int, width: float, stages: Sequence[tuple[int, int]]
) -> nn.Module:
    """Stages of ``(channels, convolutions)``, each ended by a 2x2 max pooling."""
    channels, height, wide = shape
    if min(height, wide) < _SMALLEST:
        raise SafsError(f"VGG needs images of 32x32 pixels or more, got {height}x{wide}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, (planes, convolutions) in enumerate(stages, start=1):
        planes = max(1, round(planes * width))
        for number in range(1, convolutions + 1):
            name = f"conv{stage}_{number}"
            layers[name] = nn.Conv2d(channels, planes, 3, padding=1)
            layers[f"{name}_bn"] = nn.BatchNorm2d(planes)
            layers[f"{name}_act"] = nn.ReLU()
            channels = planes
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    pixels = (height // _SMALLEST) * (wide // _SMALLEST)
    layers["classifier"] = nn.Linear(channels * pixels, classes)
    model = nn.Sequential(layers)
    model.apply(_initialise)
    return model


def _initialise(layer: nn.Module) -> None:
    """torchvision's initialisation of VGG."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, 0.0, 0.01)
    if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
        nn.init.zeros_(layer.bias)
