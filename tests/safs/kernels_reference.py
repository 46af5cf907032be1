"""Masked networks for the kernel tests, and the same mathematics in float64 torch."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from safs import kernels, masks, slots
from safs.kernels.plan import CODES
from safs.masks import Mask
from safs.networks import prunable
from safs.operators import OPERATORS
from safs.spec import Recipe
from safs.training.data import Images

CLASSES = 5
# Operators with a kernel; PyTorch trains the others. test_kernels_operators.py says which have one.
KNOWN = [name for name in OPERATORS if name in CODES]
PLAIN = Recipe(lr=0.1)


def images(count: int, shape: tuple[int, int, int], seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    mean = torch.linspace(0.3, 0.6, shape[0])[:, None, None]
    return Images(
        torch.from_numpy(rng.integers(0, 256, (count, *shape), dtype=np.uint8)),
        torch.from_numpy(rng.integers(0, CLASSES, count)),
        mean,
        mean / 2,
    )


def network(
    model: nn.Module,
    shape: tuple[int, int, int],
    operators: Sequence[str] | str = "swish",
    *,
    scaled: bool = True,
    train_own: bool = True,
    seed: int = 0,
) -> fx.GraphModule:
    """``model`` with slots, every learned number off its start."""
    rng = torch.Generator().manual_seed(seed)
    installed = isinstance(model, fx.GraphModule)
    made = model if installed else slots.install(model, torch.zeros(2, *shape), "relu")
    places = slots.slots(made)
    chosen = [operators] * len(places) if isinstance(operators, str) else operators
    slots.fill(made, chosen, scaled=scaled, train_own=train_own)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "own" in name or "alpha" in name or "beta" in name:
                parameter.mul_(1 + 0.2 * torch.rand(parameter.shape, generator=rng))
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(-1.5, 1.5, generator=rng)
                module.bias.uniform_(-0.5, 0.5, generator=rng)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                fan = module.weight[0].numel()
                module.weight.normal_(0, 1.5 * fan**-0.5, generator=rng)
                if module.bias is not None:
                    module.bias.normal_(0, 0.3, generator=rng)
    return made


def random_mask(made: nn.Module, density: float, seed: int = 0) -> Mask:
    """Each weight survives by chance; the pruned ones become 0."""
    rng = torch.Generator().manual_seed(seed)
    mask = {
        name: torch.rand(weight.shape, generator=rng) < density
        for name, weight in prunable(made).items()
    }
    masks.apply(mask, made)
    return mask


def gradients(made: nn.Module, mask: Mask, data: Images) -> tuple[float, dict[str, Tensor]]:
    """Loss and masked gradients of one batch, in float64."""
    twin = copy.deepcopy(made).double().train()
    loss = functional.cross_entropy(twin(data.normalised(slice(None)).double()), data.labels)
    loss.backward()
    found = {}
    for name, parameter in twin.named_parameters():
        if parameter.grad is not None:
            keep = mask.get(name.removesuffix(".weight"))
            found[name] = parameter.grad * keep if keep is not None else parameter.grad
    return loss.item(), found


def assert_same_gradients(
    made: fx.GraphModule,
    mask: Mask,
    shape: tuple[int, int, int],
    *,
    count: int = 24,
    batch: int = 24,
    tolerance: float = 1e-5,
) -> kernels.SparseNetwork:
    """One step at learning rate 0: loss, every gradient and the logits agree with float64."""
    data = images(count, shape)
    loss, expected = gradients(made, mask, data)
    sparse = kernels.compile(made, mask, PLAIN, shape, batch)
    sums = sparse.train_epoch(data, np.arange(count), 0.0)
    assert abs(sums.loss / count - loss) < 1e-5 * (1 + abs(loss))
    found = sparse.gradients()
    assert set(found) == set(expected)
    largest = max(float(g.abs().max()) for g in expected.values())
    for name, gradient in expected.items():
        scale = float(gradient.abs().max()) + 0.02 * largest
        error = float((found[name] - gradient).abs().max())
        assert error <= tolerance * scale, (name, error, scale)
    sparse.write_back()
    with torch.no_grad():
        logits = copy.deepcopy(made).double().eval()(data.normalised(slice(None)).double())
    np.testing.assert_allclose(
        sparse.logits(data), logits, atol=3e-5 * float(logits.abs().max()), rtol=0
    )
    return sparse
