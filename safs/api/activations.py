"""Which operator an activation equals, by its values."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from safs.errors import SafsError
from safs.operators import OPERATORS
from safs.slots import Site

# An operator equals an activation if the two agree here, near 0 and far from it.
_GRID = torch.cat([torch.linspace(-8, 8, 129), torch.tensor([-50.0, 50.0])])
_TOLERANCE = 1e-6


def own_operators(sites: Iterable[Site], default: str | None = None) -> dict[str, str | None]:
    """The operator that equals the activation of each site, by slot name; None where none does.

    Raises:
        SafsError: that is so of one, and ``default`` names none to start with.
    """
    if default is not None:
        OPERATORS[default]  # an unknown name is an error here, not later
    values = _operator_values()
    found = {site.name: (_equal(_value(site), values), site.what) for site in sites}
    unknown = [f"{name} ({what})" for name, (operator, what) in found.items() if operator is None]
    if unknown and default is None:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise SafsError(
            f"no operator equals the activation of {', '.join(unknown[:3])}{more}; register it "
            "(safs.operator), or name the operator that such sites start with (default=...)"
        )
    return {name: operator for name, (operator, _) in found.items()}


def _operator_values() -> dict[str, Tensor]:
    """Every operator on the grid at its published parameters; those without any come first."""
    entries = sorted(OPERATORS.values(), key=lambda entry: bool(entry.own))
    return {
        entry.name: entry.function(
            _GRID.clone()[:, None], **{k: torch.tensor([float(v)]) for k, v in entry.own.items()}
        ).detach()
        for entry in entries
    }


def _equal(value: Tensor | None, values: dict[str, Tensor]) -> str | None:
    if value is None:
        return None
    for name, other in values.items():
        if torch.allclose(value, other, rtol=_TOLERANCE, atol=_TOLERANCE):
            return name
    return None


@torch.no_grad()
def _value(site: Site) -> Tensor | None:
    """An activation on the grid, ``[G, 1]``; None where it depends on more than its input."""
    activation = site.activation
    if isinstance(activation, nn.Module):
        activation = copy.deepcopy(activation).cpu().eval()
    try:
        return None if activation is None else activation(_GRID.clone()[:, None])
    except RuntimeError:
        return None
