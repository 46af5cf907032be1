"""Networks, one file each; importing this package registers them all."""

from safs.networks import efficientnet, lenet5, resnet, vgg
from safs.networks.base import NETWORKS, Network, build, network, prunable

__all__ = [
    "NETWORKS",
    "Network",
    "build",
    "efficientnet",
    "lenet5",
    "network",
    "prunable",
    "resnet",
    "vgg",
]
