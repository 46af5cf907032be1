"""Networks that the kernels take and would train wrongly, or fail on.

The fingerprint of the kernels' code stands in every published record, so a mend inside of them
would make all of these void. What is known to be wrong there is kept from them here instead, by
whoever chooses the kernels for a network, until they change for a reason of their own.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

from torch import fx, nn

from safs.kernels import graph
from safs.kernels.build import Unsupported
from safs.kernels.graph import Gate, LayerList, Pooling, Shape, Stage, Value

_IN_PLACE = ("add_", operator.iadd, operator.imul)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def misread(network: nn.Module, shape: Shape) -> str:
    """Why the kernels would get a network wrong; empty where they do not, or do not take it.

    Args:
        network: an installed network.
        shape: ``(channels, height, width)`` of its images.
    """
    if not isinstance(network, fx.GraphModule):
        return ""
    try:
        layers = graph.read(network, shape)
    except Unsupported:
        return ""
    except (AttributeError, IndexError, KeyError, TypeError):
        return "sparse kernels: the network is written as they cannot read it"
    for found in (*_maps(layers), *_nodes(network), *_modules(network)):
        return f"sparse kernels: {found}"
    return ""


def altered(module: nn.Module) -> bool:
    """Whether a module does something else than its class: by hooks, or a forward of its own."""
    return "forward" in vars(module) or any(getattr(module, hooks) for hooks in _HOOKS)


def _maps(layers: LayerList) -> Iterator[str]:
    """Half of a gradient is lost, addresses are wrong, or the head's gradient is overwritten."""
    headed = False
    for layer in layers.layers:
        headed = headed or layer is layers.head
        read: list[Value | None] = []
        match layer:
            case Stage():
                read = [layer.z, layer.residual]
                if any(layer.residual is own for own in (layer.z, layer.y) if own is not None):
                    yield "a feature map is added to itself"
                if layer.norm and headed:
                    yield f"{layer.norm[0]} is computed after the logits"
            case Gate():
                read = [layer.x, layer.s]
            case Pooling():
                read = [layer.x]
        if any(value is not None and value.base is not None for value in read):
            yield "a flattened map goes elsewhere than into a linear layer"


def _nodes(network: fx.GraphModule) -> Iterator[str]:
    """What is done in place is lost where the map is read under its old name."""
    for node in network.graph.nodes:
        if node.target in _IN_PLACE and (len(node.args[0].users) > 1 or not node.users):
            yield f"{node.name} changes a map in place that is read elsewhere"


def _modules(network: fx.GraphModule) -> Iterator[str]:
    """Hooks and patched methods are not called, and parameters go by one name."""
    named = dict(network.named_parameters())
    for node in network.graph.nodes:
        if node.op != "call_module":
            continue
        module = network.get_submodule(node.target)
        if altered(module):
            yield f"{node.target} has hooks or a forward of its own"
        for name, parameter in module._parameters.items():
            if parameter is not None and f"{node.target}.{name}" not in named:
                yield f"{node.target}.{name} is a parameter of another layer too"
        norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if norm and (module.bias is None) != (module.weight is None):
            yield f"{node.target} has only one of weight and bias"
