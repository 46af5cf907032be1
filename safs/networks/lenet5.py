"""LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition")."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from safs.networks.base import network


@network("lenet5", label="LeNet-5")
def lenet5(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Two 5x5 convolutions (6, 16) without padding, max pooling, 120-84-classes; four slots.

    44,426 parameters on 28x28 images with ten classes.
    """
    channels, height, width = shape
    flat = 16 * (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5),
            conv1_act=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            conv2_act=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(flat, 120),
            fc1_act=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            fc2_act=nn.ReLU(),
            fc3=nn.Linear(84, classes),
        )
    )
