"""Networks that the kernels take and would train wrongly.

The fingerprint of the kernels' code stands in every published record, so a mend inside of them
would make all of these void. What is known to be wrong there is kept from them here instead, by
whoever chooses the kernels for a network, until they change for a reason of their own.
"""

from __future__ import annotations

from torch import fx, nn

from safs.kernels import graph
from safs.kernels.build import Unsupported
from safs.kernels.graph import Shape, Stage, Value


def misread(network: nn.Module, shape: Shape) -> str:
    """Why the kernels would train a network wrongly; empty where they do not, or do not take it.

    They lose half of the gradient of a feature map that is added to itself.

    Args:
        network: an installed network.
        shape: ``(channels, height, width)`` of its images.
    """
    if not isinstance(network, fx.GraphModule):
        return ""
    try:
        layers = graph.read(network, shape).layers
    except Unsupported:
        return ""
    sums = (layer for layer in layers if isinstance(layer, Stage) and layer.residual is not None)
    if any(_map(stage.residual) in (_map(stage.z), _map(stage.y)) for stage in sums):
        return "sparse kernels: a feature map is added to itself"
    return ""


def _map(value: Value | None) -> Value | None:
    """The feature map itself, of one that is flattened."""
    return value if value is None or value.base is None else value.base
