"""SReLU's right thresholds, read off what its slots see (Jin et al. 2016)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from safs import slots
from safs.training.data import Images

# A right threshold starts at this quantile of the pre-activations of its channel, or of its layer,
# and at least at _T_RIGHT_MIN.
_CALIBRATED = {"srelu", "srelu_layer"}
_T_RIGHT_QUANTILE = 0.9
_T_RIGHT_MIN = 1e-3
_CALIBRATION_IMAGES = 512


def wanted(chromosome: Iterable[str]) -> bool:
    """Whether any of these operators has thresholds that are read off data."""
    return not _CALIBRATED.isdisjoint(chromosome)


@torch.no_grad()
def inputs(network: nn.Module, images: Images) -> dict[str, Tensor]:
    """What each slot of the pruned network sees, ``[C, M]``, channels first.

    Batch norm uses the statistics of these images; the network itself is left as it was. In
    float64: where processors round differently, the thresholds in float32 do not show it.
    """
    probe = copy.deepcopy(network).double().train()
    seen: dict[str, Tensor] = {}
    for name, slot in slots.slots(probe).items():
        slot.register_forward_pre_hook(
            lambda _, args, name=name: seen.__setitem__(name, args[0].detach())
        )
    chosen = _spread(len(images), _CALIBRATION_IMAGES, images.labels.device)
    probe(images.normalised(chosen).double())
    return {name: x.transpose(0, 1).flatten(1) for name, x in seen.items()}


def calibrate(network: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Set the right thresholds of a filled network from the inputs of its slots."""
    for name, slot in slots.slots(network).items():
        if wanted([slot.operator]):
            threshold = slot.own["t_right"]
            threshold.data.copy_(_quantile(inputs[name].reshape(len(threshold), -1)))


def _spread(images: int, wanted: int, device: torch.device) -> Tensor:
    """Indices of images at equal distances: those of a data set may lie class by class."""
    count = min(images, wanted)
    return torch.arange(count, device=device) * images // count


def _quantile(rows: Tensor) -> Tensor:
    """Upper quantile of each row of ``[C, M]``; torch.quantile refuses rows as long as these."""
    rank = max(1, round(_T_RIGHT_QUANTILE * rows.shape[1]))
    # CUDA has no deterministic algorithm for kthvalue.
    return rows.sort(dim=1).values[:, rank - 1].clamp(min=_T_RIGHT_MIN)
