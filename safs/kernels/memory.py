"""Memory: feature maps, parameters, and where they lie."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from torch import nn

from safs.kernels import structures as c
from safs.kernels.build import Unsupported


def pointer(array: np.ndarray | None) -> int | None:
    """Address of an array's first element, for a structure; the array must outlive its use."""
    return None if array is None else array.ctypes.data


def images_per_pixel(height: int, batch: int) -> int:
    """Images that a map keeps together: short rows want more, and no more than a batch has."""
    wanted = 8 if height >= 8 else 16 if height >= 3 else 32
    while wanted > 8 and wanted // 2 >= batch:
        wanted //= 2
    return wanted


class Arena:
    """Zeroed memory for feature maps, on large pages where the system has them.

    The kernels jump from channel to channel; with 4 KB pages each jump may miss the TLB.

    Attributes:
        size: bytes that maps take.
        taken: bytes that the system was asked for.
    """

    _CHUNK = 16 << 20
    _PAGE = 2 << 20

    def __init__(self) -> None:
        self._chunk = np.zeros(0, np.uint8)
        self._used = 0
        self.size = self.taken = 0

    def floats(self, count: int) -> np.ndarray:
        """``count`` zeros in float32, with 64 bytes to spare on either side."""
        need = (count * 4 + 128 + 63) // 64 * 64
        if self._used + need > self._chunk.size:
            self._grow(max(need, self._CHUNK))
        start = self._used + 64
        self._used += need
        self.size += need
        return self._chunk[start : start + 4 * count].view(np.float32)

    def _grow(self, size: int) -> None:
        size = -(-(size + self._PAGE) // self._PAGE) * self._PAGE
        self.taken += size
        memory = mmap.mmap(-1, size)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        chunk = np.frombuffer(memory, np.uint8)
        self._chunk, self._used = chunk[-chunk.ctypes.data % self._PAGE :], 0


class Recycler:
    """Memory of maps that are needed for a part of a step only.

    What is released may be used again after the next :meth:`barrier`: until then other blocks of
    images still have to pass the operations in between.

    Args:
        arena: where the memory comes from.
        largest: floats of the largest map to come.
    """

    def __init__(self, arena: Arena, largest: int) -> None:
        self._arena = arena
        self._largest = largest
        self._free: list[np.ndarray] = []
        self._waiting: list[np.ndarray] = []

    def floats(self, count: int) -> np.ndarray:
        """Room for ``count`` floats, with whatever was in it."""
        fitting = [i for i, memory in enumerate(self._free) if memory.size >= count]
        if not fitting:
            # Backward passes go from small maps to large ones: room for any of them serves all.
            return self._arena.floats(max(count, self._largest))
        return self._free.pop(min(fitting, key=lambda i: self._free[i].size))

    def release(self, memory: np.ndarray) -> None:
        """Give memory back."""
        self._waiting.append(memory)

    def barrier(self) -> None:
        """All blocks have passed: what was released is free."""
        self._free += self._waiting
        self._waiting = []


class Parameter:
    """A trained parameter: values, gradient and optimiser state of its survivors.

    Attributes:
        name: of the torch parameter.
        flat: positions of the survivors in the flattened torch parameter.
        weight: whether it decays and counts in gradient flow.
        source: the torch parameter, once :meth:`start` has said which.
    """

    source: nn.Parameter

    def __init__(self, name: str, flat: np.ndarray, *, weight: bool) -> None:
        self.name, self.flat, self.weight = name, flat, weight
        self.value, self.gradient, self.first, self.second = (
            np.zeros(len(flat), np.float32) for _ in range(4)
        )
        self.weight_sum = np.zeros(1)

    def start(self, source: nn.Parameter) -> None:
        """Take the values of a torch parameter; the optimiser's state is that of the beginning."""
        if not source.requires_grad:
            raise Unsupported(f"sparse kernels: {self.name} is frozen")
        self.source = source
        self.value[:] = source.detach().numpy().reshape(-1)[self.flat]
        for rest in (self.gradient, self.first, self.second, self.weight_sum):
            rest[:] = 0

    def struct(self) -> Any:
        """The parameter as the C++ side sees it."""
        arrays = (self.value, self.gradient, self.first, self.second, self.weight_sum)
        return c.Parameter(*(pointer(array) for array in arrays), len(self.value), self.weight)


class FeatureMap:
    """Memory of a feature map; see maps.h. Channels lie an odd number of cache lines apart unless
    ``tight``, so that one pixel of many channels does not fall into one cache set. One that is not
    ``whole`` holds the ``images`` of one block, once for each thread."""

    def __init__(
        self,
        arena: Arena | Recycler,
        shape: tuple[int, int, int],
        n: int,
        images: int,
        whole: bool,
        pad: int = 0,
        tight: bool = False,
        threads: int = 1,
    ) -> None:
        channels, height, width = shape
        self.row, self.pixel = (width + 2 * pad) * n, n
        plane = (height + 2 * pad) * self.row
        if not tight and height > 1:
            plane = (-(-plane // 16) | 1) * 16
        self.channel = plane
        block = channels * plane
        size = max(1, -(-images // n)) * block
        self.memory = arena.floats(size * (1 if whole else threads))
        start = self.memory.ctypes.data + 4 * (pad * self.row + pad * n)
        per_thread = 0 if whole else size
        self.struct = c.Map(start, block, plane, self.row, whole, n.bit_length() - 1, per_thread)

    @property
    def strides(self) -> tuple[int, int, int]:
        """Floats from channel to channel, row to row, column to column."""
        return self.channel, self.row, self.pixel

    def flat(self) -> FeatureMap:
        """The same memory with every pixel as a channel of its own."""
        view = object.__new__(FeatureMap)
        view.memory, view.row, view.pixel, view.channel = (
            self.memory,
            self.pixel,
            *([self.pixel] * 2),
        )
        view.struct = c.Map.from_buffer_copy(self.struct)
        view.struct.channel_stride = view.struct.row_stride = self.pixel
        return view
