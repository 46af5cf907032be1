"""EfficientNet-B0 (Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Networks").

The network is torchvision's, strides and initialisation included; only its layers get names that
say what they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from safs.errors import SafsError
from safs.networks.base import network

# Table 1 of the paper: expansion, kernel, stride, channels in, channels out, blocks.
_STAGES = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
_BLOCK_PARTS = ("expand", "depthwise", "squeeze", "project")
_LAYER_PARTS = ("conv", "bn", "act")


@network("efficientnet_b0", label="EfficientNet-B0", default="swish")
def efficientnet_b0(
    shape: tuple[int, int, int],
    classes: int,
    width: float = 1.0,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
) -> nn.Module:
    """82 prunable layers and 49 slots; 5,288,548 parameters at 1000 classes.

    The slots are the stem, every expansion, depthwise and squeeze-and-excitation reduction, and the
    head. The sigmoid that ends a squeeze-and-excitation gates and is none.

    Args:
        shape: ``(3, height, width)``. At 16x16 the strides leave one pixel after the sixth stage.
        classes: number of outputs.
        width: torchvision's width multiplier (channels are multiples of 8); the head is as wide as
            four times the last stage.
        dropout: before the classifier, in training mode.
        stochastic_depth: of the last block, in training mode; it grows linearly from 0 at the first
            (Huang et al., "Deep Networks with Stochastic Depth").

    Raises:
        SafsError: the images have not three channels.
    """
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    if shape[0] != 3:
        raise SafsError(f"EfficientNet-B0 takes images of 3 channels, got {shape[0]}")
    stages = [MBConvConfig(*stage, width_mult=width) for stage in _STAGES]
    return _with_names(
        EfficientNet(stages, dropout, stochastic_depth_prob=stochastic_depth, num_classes=classes)
    )


def _with_names(model: Any) -> nn.Module:
    """Names in the place of torchvision's numbers; parameters and their order stay."""
    stem, *stages, head = model.features
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=_named(stem, _LAYER_PARTS))
    for number, stage in enumerate(stages, start=1):
        layers[f"stage{number}"] = nn.Sequential(*map(_named_block, stage))
    layers["head"] = _named(head, _LAYER_PARTS)
    layers["avgpool"], layers["flatten"] = model.avgpool, nn.Flatten()
    layers["classifier"] = _named(model.classifier, ("dropout", "linear"))
    return nn.Sequential(layers)


def _named_block(block: Any) -> Any:
    """Name the parts of an inverted residual; the first stage's has no expansion."""
    parts = _BLOCK_PARTS[-len(block.block) :]
    named = {
        name: part if name == "squeeze" else _named(part, _LAYER_PARTS)
        for name, part in zip(parts, block.block, strict=True)
    }
    block.block = nn.Sequential(OrderedDict(named))
    block.stochastic_depth = RowDrop(block.stochastic_depth.p)
    return block


def _named(layers: Iterable[nn.Module], names: Iterable[str]) -> nn.Sequential:
    """The layers in a row; a projection has no activation and so one layer fewer than names."""
    return nn.Sequential(OrderedDict(zip(names, layers, strict=False)))


class RowDrop(nn.Module):
    """Stochastic depth: drop whole images of a batch and scale up the others, when training.

    torchvision's own module reads the training mode while torch.fx traces it, which would freeze
    the mode. This one is a dropout layer of torch, which torch.fx leaves whole: an image taken as
    the only channel of a volume is dropped as one.

    Args:
        p: probability that an image's residual is dropped.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.drop = nn.Dropout3d(p) if p else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.drop, nn.Identity):
            return x
        return self.drop(x.unsqueeze(1)).squeeze(1)
