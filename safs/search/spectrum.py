"""The spectrum of the Fisher information of a pruned network: features of a candidate.

Bingham and Miikkulainen ("Efficient Activation Function Optimization through Surrogate Modeling",
section 4) describe an activation function by the eigenvalues of the Fisher information of the
untrained network that has it, layer by layer. Here it is that of the pruned checkpoint, of each
layer's surviving weights, exact and not in Kronecker factors. It is no predictor: it promises
nothing until something has learned from trained candidates what it means.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from safs.networks import prunable

QUANTILES = 8
"""Of the eigenvalues of a layer, from below: the middles of as many equal parts."""
FLOOR = 1e-10
"""Below it an eigenvalue is 0: directions to which no image of the batch reacts."""


def spectrum(network: nn.Module, images: Tensor) -> dict[str, list[float]]:
    """Quantiles of the eigenvalues of each layer's Fisher information.

    Computed on a copy in evaluation mode and in float64, for the classes that the network itself
    expects: ``F = E_x sum_c p(c|x) g g'`` with ``g`` the gradient of ``log p(c|x)`` in the weights
    that survive.

    Args:
        network: a pruned network, whose pruned weights are exactly 0.
        images: normalised training images ``[B, C, H, W]``.

    Returns:
        For each prunable layer that has weights left, :data:`QUANTILES` decimal logarithms,
        ascending, not below that of :data:`FLOOR`, to three digits, which processors that round
        differently share; infinite where a gradient or its square is not finite.
    """
    probe, images = copy.deepcopy(network).double().eval(), images.double()
    weights = {name: weight.detach() for name, weight in prunable(probe).items()}
    alive = {name: weight != 0 for name, weight in weights.items() if weight.any()}
    factors: dict[str, list[Tensor]] = {name: [] for name in alive}
    with torch.no_grad():
        chances = probe(images).softmax(dim=1)

    def surprise(chosen: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        given = {f"{name}.weight": weight for name, weight in chosen.items()}
        logits = functional_call(probe, given, (image[None],))
        return logits.log_softmax(dim=1)[0, label]

    gradient = vmap(grad(surprise), in_dims=(None, 0, None))
    for label in range(chances.shape[1]):
        found = gradient(weights, images, torch.tensor(label, device=images.device))
        weight = (chances[:, label] / len(images)).sqrt()[:, None]
        for name, kept in alive.items():
            factors[name].append(found[name][:, kept] * weight)
    return {name: _quantiles(torch.cat(rows)) for name, rows in factors.items()}


def _quantiles(factor: Tensor) -> list[float]:
    """Of the eigenvalues of ``factor' factor``, by the smaller of its two Gram matrices."""
    rows, size = factor.shape
    gram = factor @ factor.T if rows < size else factor.T @ factor
    if not gram.isfinite().all():
        return [float("inf")] * QUANTILES
    values = torch.zeros(size, dtype=factor.dtype)
    found = torch.linalg.eigvalsh(gram).cpu()
    values[size - len(found) :] = found
    places = ((torch.arange(QUANTILES) + 0.5) * size / QUANTILES).long()
    return [round(value, 3) for value in values[places].clamp(min=FLOOR).log10().tolist()]
