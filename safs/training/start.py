"""The pruned checkpoint that every arm of a (replicate, ratio) starts from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from safs import masks, slots
from safs.masks import Mask
from safs.training.data import Images

# SReLU's right threshold starts at this quantile of the pre-activations of its channel, or of its
# layer, and at least at _T_RIGHT_MIN (Jin et al. 2016).
_CALIBRATED = {"srelu", "srelu_layer"}
_T_RIGHT_QUANTILE = 0.9
_T_RIGHT_MIN = 1e-3
_CALIBRATION_IMAGES = 512


@dataclass(frozen=True)
class Pruned:
    """A dense network with its mask; each candidate and each final run starts from a copy.

    Attributes:
        dense: the replicate's own trained dense network, with its default operators.
        mask: surviving weights.
    """

    dense: nn.Module
    mask: Mask

    def network(
        self,
        chromosome: Sequence[str],
        images: Images,
        *,
        scaled: bool = False,
        train_own: bool = False,
    ) -> nn.Module:
        """A copy with pruned weights at 0 and one operator in each slot.

        Args:
            chromosome: one operator name per slot.
            images: training images; SReLU reads its right thresholds off them.
            scaled: learn alpha and beta (stage 2).
            train_own: also learn the own parameters of Acon, SRS and TanhSoft-1.
        """
        network = copy.deepcopy(self.dense)
        masks.apply(self.mask, network)
        inputs = _slot_inputs(network, images) if _CALIBRATED & set(chromosome) else {}
        slots.fill(network, chromosome, scaled=scaled, train_own=train_own)
        for name, slot in slots.slots(network).items():
            if slot.operator in _CALIBRATED:
                threshold = slot.own["t_right"]
                threshold.data.copy_(_quantile(inputs[name].reshape(len(threshold), -1)))
        return network


@torch.no_grad()
def _slot_inputs(network: nn.Module, images: Images) -> dict[str, Tensor]:
    """What each slot of the pruned network sees, ``[C, M]``, channels first.

    Batch norm uses the statistics of these images; the network itself is left as it was.
    """
    probe = copy.deepcopy(network).train()
    inputs: dict[str, Tensor] = {}
    for name, slot in slots.slots(probe).items():
        slot.register_forward_pre_hook(
            lambda _, args, name=name: inputs.__setitem__(name, args[0].detach())
        )
    probe(images.normalised(_spread(len(images), _CALIBRATION_IMAGES, images.labels.device)))
    return {name: x.transpose(0, 1).flatten(1) for name, x in inputs.items()}


def _spread(images: int, wanted: int, device: torch.device) -> Tensor:
    """Indices of images at equal distances: those of a data set may lie class by class."""
    count = min(images, wanted)
    return torch.arange(count, device=device) * images // count


def _quantile(rows: Tensor) -> Tensor:
    """Upper quantile of each row of ``[C, M]``; torch.quantile refuses rows as long as these."""
    rank = max(1, round(_T_RIGHT_QUANTILE * rows.shape[1]))
    return rows.kthvalue(rank, dim=1).values.clamp(min=_T_RIGHT_MIN)
