"""Plans that wait for the next training of the same layers and mask."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

from safs.kernels import graph
from safs.kernels.plan import Plan
from safs.masks import Mask

_MOST_BYTES = 128 << 20
"""Of all plans that wait. Where one is larger, making it takes no time beside its training."""
_waiting: dict[Hashable, Plan] = {}


def key(layers: graph.LayerList, mask: Mask, batch_size: int, threads: int) -> Hashable:
    """What two trainings must share to share a plan."""
    kept = ((name, keep.contiguous().cpu().numpy()) for name, keep in sorted(mask.items()))
    digests = tuple((name, hashlib.blake2b(keep.tobytes()).digest()) for name, keep in kept)
    return graph.structure(layers), digests, batch_size, threads


def take(key: Hashable) -> Plan | None:
    """A plan that nobody uses; None where there is none."""
    return _waiting.pop(key, None)


def give(key: Hashable, plan: Plan) -> None:
    """Let a plan wait; those that have waited longest go where memory is short."""
    _waiting.pop(key, None)
    _waiting[key] = plan
    while sum(other.arena.taken for other in _waiting.values()) > _MOST_BYTES:
        del _waiting[next(iter(_waiting))]
