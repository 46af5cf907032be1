"""Networks, one file each; importing this package registers them all."""

from safs.networks import lenet5
from safs.networks.base import NETWORKS, Network, build, network, prunable

__all__ = ["NETWORKS", "Network", "build", "lenet5", "network", "prunable"]
