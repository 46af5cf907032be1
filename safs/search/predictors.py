"""Zero-cost predictors: what a candidate may be worth, from one batch and without any training.

The cheap search (``safs_fast``) may choose by one of these which candidates to train, and reports
how well each ranks what training then finds. A predictor is one decorated function
``(network, images, labels) -> float``; larger means better. It is given a pruned network, whose
pruned weights are exactly 0, and a batch of training images ``[B, C, H, W]`` with their classes
``[B]``. Scores are computed on a copy in float64 and count surviving weights only. They are rounded
to six digits, which processors that round differently share. A score that is not finite is
``-inf``: the worst.

Abdelfattah, Mehrotra, Dudziak, Lane, "Zero-Cost Proxies for Lightweight NAS".
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from safs import slots
from safs.networks import prunable
from safs.registry import Registry

Predictor = Callable[[nn.Module, Tensor, Tensor], float]

PREDICTORS: Registry[Predictor] = Registry("predictor")

_CHUNKS = 4
_EPSILON = 1e-12


def score(
    names: Sequence[str], network: nn.Module, images: Tensor, labels: Tensor
) -> dict[str, float]:
    """The scores of one network by predictor; the network itself is left as it was.

    Args:
        names: registered predictors.
        network: a pruned network.
        images: normalised training images ``[B, C, H, W]``.
        labels: their classes ``[B]``.

    Raises:
        UnknownName: no predictor has one of the names.
    """
    chosen = {name: PREDICTORS[name] for name in names}
    probe, images = copy.deepcopy(network).double().train(), images.double()
    for module in probe.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    found = {name: float(predict(probe, images, labels)) for name, predict in chosen.items()}
    return {name: float(f"{v:.6g}") if math.isfinite(v) else -math.inf for name, v in found.items()}


@PREDICTORS.register("flow")
def flow(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Gradient flow at the mask: the squared norm of the gradient in the surviving weights.

    The first-order decrease of the loss by one gradient step of unit rate. SAFS, Appendix B; Evci,
    Ioannou, Keskin, Dauphin, "Gradient Flow in Sparse Neural Networks and How Lottery Tickets Win".
    """
    return sum(float(g.square().sum()) for g in _gradients(network, images, labels).values())


@PREDICTORS.register("snip")
def snip(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The sum of ``|w dL/dw|``: how much the loss hangs on the surviving weights.

    Lee, Ajanthan, Torr, "SNIP: Single-Shot Network Pruning Based on Connection Sensitivity", summed
    over weights as Abdelfattah et al. do.
    """
    weights, gradients = prunable(network), _gradients(network, images, labels)
    return sum(float((weights[name].detach() * g).abs().sum()) for name, g in gradients.items())


@PREDICTORS.register("zico")
def zico(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The sum over layers of ``log sum_w mean|g| / std|g|`` over four parts of the batch.

    Li, Yang, Bhardwaj, Marculescu, "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on
    Gradients". As in the paper's formula, mean and deviation are both those of ``|g|``; its
    published code takes the deviation of the signed gradients. Weights whose gradient does not
    vary, and layers without any other, do not count.
    """
    parts = zip(images.chunk(_CHUNKS), labels.chunk(_CHUNKS), strict=True)
    found = [_gradients(network, *part) for part in parts]
    total = 0.0
    for name in found[0]:
        gradients = torch.stack([part[name].abs() for part in found])
        spread, mean = gradients.std(dim=0, correction=0), gradients.mean(dim=0)
        varying = spread > _EPSILON
        if varying.any():
            total += float((mean[varying] / spread[varying]).sum().log())
    return total


@PREDICTORS.register("naswot")
@torch.no_grad()
def naswot(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``log det K``; K counts, for two images, the units that see inputs of the same sign.

    Mellor, Turner, Storkey, Crowley, "Neural Architecture Search without Training", with the sign
    of each slot's input as the code: it is ReLU's linear region, and for other operators the side
    of their bend. K is divided by the number of units and has ``1e-6`` on its diagonal.
    """
    codes: list[Tensor] = []
    hooks = [
        slot.register_forward_pre_hook(lambda _, args: codes.append((args[0] > 0).flatten(1)))
        for slot in slots.slots(network).values()
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    code = torch.cat(codes, dim=1).double()
    same = (code @ code.T + (1 - code) @ (1 - code).T) / code.shape[1]
    return float(torch.linalg.slogdet(same + 1e-6 * torch.eye(len(same)).to(same))[1])


@PREDICTORS.register("loss")
@torch.no_grad()
def loss(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The negative cross-entropy before any training: the control that a predictor has to beat."""
    return -float(functional.cross_entropy(network(images), labels))


def _gradients(network: nn.Module, images: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
    """The loss's gradient in each prunable weight, 0 where the weight was pruned."""
    weights = {name: w.requires_grad_(True) for name, w in prunable(network).items()}
    found = torch.autograd.grad(
        functional.cross_entropy(network(images), labels),
        list(weights.values()),
        materialize_grads=True,
    )
    return {
        name: gradient * (weight != 0)
        for (name, weight), gradient in zip(weights.items(), found, strict=True)
    }
