"""The pruned checkpoint that every arm of a (replicate, ratio) starts from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from safs import masks, slots
from safs.masks import Mask
from safs.training import calibration
from safs.training.data import Images


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
        seen = calibration.inputs(network, images) if calibration.wanted(chromosome) else {}
        slots.fill(network, chromosome, scaled=scaled, train_own=train_own)
        calibration.calibrate(network, seen)
        return network
