"""What CUDA makes of an operation: launch, wait or transfer; refused, or not deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload

TRANSFERS = {"_to_copy", "copy_", "_foreach_copy_"}
INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}
_WAITS = {
    "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "bincount",
    "_unique2", "unique_dim", "unique_consecutive", "_linalg_check_errors",
}  # fmt: skip
_WITHOUT_LAUNCH = {
    "_local_scalar_dense", "alias", "detach", "lift_fresh", "empty", "empty_like", "empty_strided",
    "empty_permuted", "new_empty", "new_empty_strided", "resize_", "set_", "_unsafe_view",
    "_reshape_alias",
}  # fmt: skip
_TAKES_HOST_SCALARS = {"masked_fill", "masked_fill_", "fill_", *INDEXING}

# torch.use_deterministic_algorithms lists them; CPU kernels of the same names do not complain.
_NOT_DETERMINISTIC = {
    "_adaptive_avg_pool2d_backward": "adaptive_avg_pool2d_backward_cuda",
    "_adaptive_avg_pool3d_backward": "adaptive_avg_pool3d_backward_cuda",
    "_ctc_loss_backward": "ctc_loss_backward_gpu",
    "adaptive_max_pool2d_backward": "adaptive_max_pool2d_backward_cuda",
    "avg_pool3d_backward": "avg_pool3d_backward_cuda",
    "bincount": "_bincount_cuda",
    "cumsum": "cumsum_cuda_kernel",
    "fractional_max_pool2d_backward": "fractional_max_pool2d_backward_cuda",
    "grid_sampler_2d_backward": "grid_sampler_2d_backward_cuda",
    "histc": "_histc_cuda",
    "kthvalue": "kthvalue CUDA",
    "max_pool3d_with_indices_backward": "max_pool3d_with_indices_backward_cuda",
    "median": "median CUDA with indices output",
    "nll_loss2d_forward": "nll_loss2d_forward_out_cuda_template",
    "reflection_pad1d_backward": "reflection_pad1d_backward_out_cuda",
    "reflection_pad2d_backward": "reflection_pad2d_backward_cuda",
    "replication_pad2d_backward": "replication_pad2d_backward_cuda",
    "upsample_bicubic2d_backward": "upsample_bicubic2d_backward_out_cuda",
    "upsample_bilinear2d_backward": "upsample_bilinear2d_backward_out_cuda",
}


class Operation(NamedTuple):
    """What is known of an operation whatever its operands.

    Attributes:
        name: ``add_`` for ``aten::add_.Tensor``.
        launches: a kernel runs, as for everything but views and allocations.
        draws: it draws random numbers.
        in_place: it returns its first argument, which it has changed.
        shares: what it returns shares memory with an argument.
        scalars: an operand without dimensions may be on the CPU.
    """

    name: str
    launches: bool
    draws: bool
    in_place: bool
    shares: bool
    scalars: bool


@cache
def of(func: OpOverload) -> Operation:
    """What is known of an operation."""
    name = func._schema.name.partition("::")[2]
    shared = [given.alias_info for given in func._schema.returns if given.alias_info is not None]
    return Operation(
        name=name,
        launches=not func.is_view and name not in _WITHOUT_LAUNCH,
        draws=torch.Tag.nondeterministic_seeded in func.tags,
        in_place=len(shared) == 1 and shared[0].is_write and name.endswith("_"),
        shares=bool(shared),
        scalars=torch.Tag.pointwise in func.tags
        or name in _TAKES_HOST_SCALARS
        or name.startswith("_foreach_"),
    )


def launches(op: Operation, arguments: Sequence[object]) -> int:
    """How many launches an operation makes: over lists one, where those have the same shapes."""
    lists = [x for x in arguments if isinstance(x, list | tuple) and x and isinstance(x[0], Tensor)]
    if not op.name.startswith("_foreach_") or len(lists) < 2:
        return 1
    alike = all(len({t.shape for t in row}) == 1 for row in zip(*lists, strict=True))
    return 1 if alike else len(lists[0])


def waits(name: str, arguments: Sequence[object]) -> bool:
    """Whether the host waits for the result; indexing by truth values counts them first."""
    if name not in INDEXING:
        return name in _WAITS
    indices = [index for index in arguments[1] if isinstance(index, Tensor)]  # type: ignore[attr-defined]
    return any(index.dtype in (torch.bool, torch.uint8) for index in indices)


def check_operands(op: Operation, arguments: Sequence[object], host: Sequence[Tensor]) -> None:
    """Raise RuntimeError, as CUDA does, where the operands on the CPU do not belong there.

    Args:
        op: has an operand on the device.
        arguments: its positional ones.
        host: the operands on the CPU. Indices may be there. A number without dimensions is handed
            to a pointwise kernel as its argument, and is no place to write to.
    """
    if not host or op.name in TRANSFERS:
        return
    indices = list(arguments[1]) if op.name in INDEXING else []  # type: ignore[call-overload]
    others = [operand for operand in host if not any(operand is index for index in indices)]
    written = op.name.endswith("_") and any(arguments[0] is operand for operand in host)
    if written or any(operand.dim() or not op.scalars for operand in others):
        raise _on_two_devices(op, "a CUDA device and cpu")


def check_one_device(op: Operation, devices: set[torch.device]) -> None:
    """Raise RuntimeError where operands are on two CUDA devices."""
    if len(devices) > 1 and op.name not in TRANSFERS:
        raise _on_two_devices(op, " and ".join(sorted(map(str, devices))))


def _on_two_devices(op: Operation, found: str) -> RuntimeError:
    return RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"{found}! (in {op.name})"
    )


def check_deterministic(op: Operation, operand: Tensor) -> None:
    """Raise RuntimeError where only a deterministic implementation will do and there is none."""
    if op.name not in _NOT_DETERMINISTIC or not torch.are_deterministic_algorithms_enabled():
        return
    if op.name == "cumsum" and not operand.is_floating_point():
        return
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(
            f"{_NOT_DETERMINISTIC[op.name]} does not have a deterministic implementation, but you "
            "set 'torch.use_deterministic_algorithms(True)'."
        )
