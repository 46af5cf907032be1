"""ResNet-18 for small images (He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition").

The blocks are torchvision's; the stem is the one that the authors use on CIFAR-10.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from safs.networks.base import network


@network("resnet18", label="ResNet-18")
def resnet18(
    shape: tuple[int, int, int],
    classes: int,
    width: float = 1.0,
    shortcut_activation: bool = False,
) -> nn.Module:
    """A 3x3 stem of stride 1 without pooling, eight basic blocks, 17 slots.

    11,173,962 parameters on colour images with ten classes, whatever their size. Layers have
    torchvision's names and initialisation.

    Args:
        shape: ``(channels, height, width)`` of the images.
        classes: number of outputs.
        width: factor on the number of channels of every convolution.
        shortcut_activation: the released code's blocks, with an activation on every shortcut and
            none after the addition; 17 slots too.
    """
    planes = [max(1, round(p * width)) for p in (64, 128, 256, 512)]
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(shape[0], planes[0], 3, padding=1, bias=False),
        bn1=nn.BatchNorm2d(planes[0]),
        stem_relu=nn.ReLU(),
    )
    before = planes[0]
    for number, size in enumerate(planes, start=1):
        layers[f"layer{number}"] = nn.Sequential(
            _block(before, size, 1 if number == 1 else 2, shortcut_activation),
            _block(size, size, 1, shortcut_activation),
        )
        before = size
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(before, classes)
    model = nn.Sequential(layers)
    model.apply(_initialise)
    return model


def _block(before: int, planes: int, stride: int, shortcut_activation: bool) -> nn.Module:
    """torchvision's basic block, with a projection where shapes change."""
    from torchvision.models.resnet import BasicBlock, conv1x1

    projection = None
    if stride != 1 or before != planes:
        projection = nn.Sequential(conv1x1(before, planes, stride), nn.BatchNorm2d(planes))
    block: nn.Module = BasicBlock(before, planes, stride, projection)
    return ShortcutBlock(block) if shortcut_activation else block


class ShortcutBlock(nn.Module):
    """The layers of a basic block, activated on the shortcut and not after the addition.

    Args:
        block: a torchvision basic block; its layers are taken over, not copied.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.conv1, self.bn1 = block.conv1, block.bn1
        self.relu = nn.ReLU()
        self.conv2, self.bn2 = block.conv2, block.bn2
        self.downsample = block.downsample or nn.Identity()
        self.shortcut_relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return out + self.shortcut_relu(self.downsample(x))


def _initialise(layer: nn.Module) -> None:
    """torchvision's initialisation of ResNet; linear layers and batch norm keep torch's."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
