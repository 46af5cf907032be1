"""Exact-k pruning masks (Section 3.1).

A mask is a method (what a weight is worth: :mod:`safs.pruning.pruners`) under a scope (which
weights compete with each other: :mod:`safs.pruning.scopes`).
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from safs import exact, masks, seeds
from safs.errors import SafsError, did_you_mean
from safs.masks import Mask
from safs.networks.base import prunable
from safs.pruning import given as given_masks
from safs.pruning import pruners
from safs.pruning.pruners import PRUNERS
from safs.pruning.scopes import SCOPES
from safs.training.data import Images

# How far a given mask may be from the ratio that is stated for it.
_GIVEN_TOLERANCE = 0.005


def prune(
    network: nn.Module,
    ratio: float | None,
    method: str = "magnitude",
    *,
    scope: str = "layerwise",
    spare: Sequence[str] = (),
    images: Tensor | None = None,
    labels: Tensor | None = None,
    shape: tuple[int, ...] | None = None,
    rng: np.random.Generator | None = None,
    given: given_masks.MaskSource | None = None,
) -> Mask:
    """The mask of a network: exact k, and among equal scores the earlier weight survives.

    The network is left as it is.

    Args:
        network: an installed network (with slots).
        ratio: fraction of the weights that goes; see the scopes for which weights it refers to.
            With the method ``given`` it may be None; otherwise the mask has to have that ratio.
        method: a name in :data:`safs.pruning.pruners.PRUNERS`.
        scope: a name in :data:`safs.pruning.scopes.SCOPES`; ``given`` ignores it.
        spare: layers that stay dense, as names or patterns (``*.fc2``); the ratio is that of the
            others. ``given`` ignores it.
        images, labels, shape, rng, given: what some methods need, see
            :mod:`safs.pruning.pruners`. Images are training images. ``given`` is anything that
            :func:`safs.pruning.given.read` takes.

    Raises:
        SafsError: the ratio is not in [0, 1), the method lacks what it needs, or a score is not
            finite.
    """
    score = PRUNERS[method]
    mask = None if given is None else given_masks.read(given, network)
    offered = {"images": images, "labels": labels, "shape": shape, "rng": rng, "given": mask}
    wanted = {name: offered.get(name) for name in pruners.needs(score)}
    missing = [name for name, value in wanted.items() if value is None]
    if missing:
        raise SafsError(f"pruning method {method!r} needs {', '.join(missing)}")
    if method == "given":
        assert mask is not None
        return _stated(mask, ratio)
    if ratio is None:
        raise SafsError(f"pruning method {method!r} needs a ratio; only 'given' does without")
    return _rounds(network, ratio, method, scope, wanted, spared(network, spare))


def spared(network: nn.Module, patterns: Sequence[str]) -> set[str]:
    """The prunable layers whose names match one of the patterns.

    Raises:
        SafsError: a pattern matches no layer.
    """
    layers = list(prunable(network))
    for pattern in patterns:
        if not fnmatch.filter(layers, pattern):
            hint = did_you_mean(pattern, layers)
            raise SafsError(f"spare: no prunable layer matches {pattern!r}{hint}")
    return {name for pattern in patterns for name in fnmatch.filter(layers, pattern)}


def scoring_batch(images: Images, count: int, root: int, replicate: int) -> dict[str, Tensor]:
    """Images and labels, drawn at random from training images, as arguments of :func:`prune`.

    Args:
        images: the replicate's training images.
        count: size of the batch; all images where there are fewer.
        root, replicate: key of the seed stream.
    """
    order = seeds.generator(root, "prune", replicate, 0).permutation(len(images))
    chosen = torch.from_numpy(order[:count]).to(images.labels.device)
    return {"images": images.normalised(chosen), "labels": images.labels[chosen]}


def _rounds(
    network: nn.Module,
    ratio: float,
    method: str,
    scope: str,
    wanted: dict[str, Any],
    dense: set[str],
) -> Mask:
    """Score and prune, once or in the method's rounds; what is pruned stays pruned."""
    score, allocate = PRUNERS[method], SCOPES[scope]
    mask: Mask = {}
    total = pruners.rounds(score)
    probe = network if total == 1 else copy.deepcopy(network)
    scored = score(probe, **wanted)
    for number in range(1, total + 1):
        now = ratio if number == total else 1 - exact.power(1 - ratio, number / total)
        found = scored if isinstance(scored, dict) else next(scored)
        scores = {name: _finite(method, name, value) for name, value in found.items()}
        for name, keep in mask.items():
            scores[name] = scores[name].masked_fill(~keep, -torch.inf)
        whole = {name: torch.ones_like(scores.pop(name), dtype=torch.bool) for name in dense}
        mask = allocate(network, scores, now) | whole
        if total > 1:
            masks.apply(mask, probe)
    return mask


def _finite(method: str, name: str, score: Tensor) -> Tensor:
    if not bool(score.isfinite().all()):
        raise SafsError(f"pruning method {method!r}: a score of layer {name!r} is not finite")
    return score.cpu()


def _stated(mask: Mask, ratio: float | None) -> Mask:
    """A given mask, if its ratio is the stated one."""
    if ratio is not None and abs(masks.sparsity(mask) - ratio) > _GIVEN_TOLERANCE:
        found = f"{masks.sparsity(mask):.4f} of the weights"
        raise SafsError(f"the given mask prunes {found}, the stated ratio is {ratio}")
    return mask
