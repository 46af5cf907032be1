"""Lists of surviving weights, sorted for the kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from safs.kernels import structures as c
from safs.kernels.graph import Conv, Shape
from safs.kernels.memory import FeatureMap, pointer

_L1 = 24 * 1024  # bytes of the first-level cache that the rows of a block of channels may fill
_L2 = 128 * 1024
_TOGETHER_ENTRIES = 512  # of a dense layer, whose weights for six outputs then take 12 KB


@dataclass(frozen=True)
class Entries:
    """The surviving weights of a layer that matter, one element of each array per weight.

    Attributes:
        position: index among all survivors of the layer, in the order of the mask.
        out, inp: channels written and read (``inp`` counts phase planes).
        row, column: shift of the pixel that is read.
    """

    position: np.ndarray
    out: np.ndarray
    inp: np.ndarray
    row: np.ndarray
    column: np.ndarray

    def __len__(self) -> int:
        return len(self.position)

    def transposed(self) -> Entries:
        """The entries of the input's gradient, which reads what the layer writes."""
        return Entries(self.position, self.inp, self.out, -self.row, -self.column)

    def border(self, height: int, width: int, out_height: int, out_width: int) -> int:
        """Width of the zero border that reading needs around a ``height`` x ``width`` input."""
        if not len(self):
            return 0
        low = max(-int(self.row.min()), -int(self.column.min()))
        rows = out_height - height + int(self.row.max())
        columns = out_width - width + int(self.column.max())
        return max(0, low, rows, columns)


def entries(conv: Conv, mask: np.ndarray) -> Entries:
    """Survivors of ``conv`` whose output channel some output of the network depends on.

    The others have gradient 0; only the optimiser sees them.
    """
    o, channel, kh, kw = np.nonzero(mask.reshape(conv.weight))
    useful = np.nonzero(conv.z.need[o])[0]
    o, channel, kh, kw = (a[useful] for a in (o, channel, kh, kw))
    group = o // (conv.weight[0] // conv.groups)
    channel = group * conv.weight[1] + channel
    row = kh * conv.dilation[0] - conv.padding[0]
    column = kw * conv.dilation[1] - conv.padding[1]
    step = conv.step
    plane = (channel * step + row % step) * step + column % step
    return Entries(useful, o, plane, row // step, column // step)


@dataclass(frozen=True)
class Sorted:
    """Entries in the order of a kernel.

    Attributes:
        order: int32, list position to position in the mask.
        struct: what the C++ side reads; ``arrays`` keeps its memory.
    """

    order: np.ndarray
    struct: Any
    arrays: tuple[np.ndarray, ...]


def sort(
    found: Entries,
    outputs: np.ndarray,
    *,
    strides: tuple[int, int, int],
    height: int,
    block: int,
    rows: bool,
) -> Sorted:
    """Sort by (block of input channels, output channel, kernel row).

    Args:
        found: the entries.
        outputs: output channels to write, also those without entries.
        strides: floats from channel to channel, row to row and column to column of the input.
        height: rows of the input.
        block: input channels per block.
        rows: keep kernel rows apart, so that rows of the border can be skipped.
    """
    place = np.searchsorted(outputs, found.out)
    apart = rows and len(found) > 0
    first = int(found.row.min()) if apart else 0
    count = int(found.row.max()) - first + 1 if apart else 1
    kernel_row = found.row - first if apart else np.zeros_like(found.row)
    blocks = int(found.inp.max()) // block + 1 if len(found) else 1
    order = np.lexsort((found.column, found.inp, kernel_row, place, found.inp // block))
    key = ((found.inp // block) * len(outputs) + place) * count + kernel_row
    sizes = np.bincount(key, minlength=blocks * len(outputs) * count)
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    offset = found.inp * strides[0] + found.row * strides[1] + found.column * strides[2]
    arrays = (
        outputs.astype(np.int32),
        start,
        # Groups of eight read offsets past the end.
        np.concatenate([offset[order], np.zeros(8)]).astype(np.int32),
    )
    struct = c.Survivors(
        c.Channels(pointer(arrays[0]), len(outputs)), pointer(arrays[1]), pointer(arrays[2]),
        len(found), blocks, count, first, height,
    )  # fmt: skip
    return Sorted(found.position[order].astype(np.int32), struct, arrays)


def lists(
    found: Entries,
    x: FeatureMap,
    gz: FeatureMap,
    shapes: tuple[Shape, Shape],
    outputs: np.ndarray,
    inputs: np.ndarray | None,
    padded: bool,
) -> tuple[dict[str, Sorted], int]:
    """The lists of a layer, and the rows of its weight gradient per pass.

    Args:
        found: the entries.
        x, gz: the maps of the input and of the output's gradient.
        shapes: theirs.
        outputs: output channels to compute.
        inputs: channels of the input's gradient to compute; None for no such list.
        padded: whether the input has a border.
    """
    (channels, height, _), (out, out_height, out_width) = shapes
    kernel = int(np.ptp(found.row)) + 1 if len(found) else 1
    n, per = x.pixel, len(found) / max(1, len(outputs) * channels)
    per_in = len(found) / max(1, out * len(np.unique(found.inp)))
    row = (min(64, out_width * n) + (kernel - 1) * n) * 4
    short = out_height <= 8 and per * channels / kernel >= 4
    deep = height <= 16 and per_in * out / kernel >= 1 and not padded
    passes = rows_per_pass(out_height, kernel, x.row * 4)
    made = {
        "forward": sort(
            found, outputs, strides=x.strides, height=height,
            block=block_size(channels, kernel * row, per, 10), rows=short,
        ),
        "sums": sort(
            found, np.unique(found.out), strides=x.strides, height=height,
            block=block_size(channels, (passes + kernel - 1) * x.row * 4, per, 16), rows=False,
        ),
    }  # fmt: skip
    if inputs is not None:
        made["backward"] = sort(
            found.transposed(), inputs, strides=gz.strides, height=out_height,
            block=block_size(out, kernel * row, per_in, 10), rows=short or deep,
        )  # fmt: skip
    return made, passes


@dataclass(frozen=True)
class DenseList:
    """What every output channel of a layer without any pruned weight reads; see dense.h.

    Attributes:
        offset: int32, of each entry into the padded input; two more at the end.
        place: int32, of the entry's weight for output 0 in the mask, ``step`` further per output.
        per_block: entries of a block of input channels.
        chunk: rows whose inputs, for a block, fit the second-level cache.
    """

    offset: np.ndarray
    place: np.ndarray
    step: int
    outputs: int
    per_block: int
    chunk: int


def dense_lists(
    found: Entries, x: FeatureMap, gz: FeatureMap, shapes: tuple[Shape, Shape], backward: bool
) -> dict[str, DenseList]:
    """The lists of a layer of stride 1 with all of its weights, as :func:`lists` for one without.

    Args:
        found: the entries, in the order of the mask.
        x, gz: the maps of the input and of the output's gradient.
        shapes: theirs.
        backward: whether the input's gradient is wanted.
    """
    (channels, *_), (out, *_) = shapes
    each = len(found) // out
    kernel = each // channels
    made = {"forward": _dense_list(found, found.out == 0, x, each, out, kernel)}
    if backward:
        turned = found.transposed()
        made["backward"] = _dense_list(turned, turned.out == 0, gz, kernel, channels, kernel)
    return made


def _dense_list(
    found: Entries, first: np.ndarray, target: FeatureMap, step: int, outputs: int, kernel: int
) -> DenseList:
    """The entries of the first output channel stand for those of all."""
    channel, row, column = target.strides
    offset = found.inp[first] * channel + found.row[first] * row + found.column[first] * column
    channels, halo = len(offset) // kernel, int(np.ptp(found.row[first]))
    blocks = math.ceil(channels / max(1, _TOGETHER_ENTRIES // kernel))
    block = math.ceil(channels / blocks)
    spared = np.concatenate([offset, offset[-1:], offset[-1:]])
    return DenseList(
        spared.astype(np.int32), found.position[first].astype(np.int32), step, outputs,
        block * kernel, max(1, _L2 // (block * row * 4) - halo),
    )  # fmt: skip


def block_size(channels: int, bytes_each: int, per_channel: float, least: int) -> int:
    """Input channels per block: their rows fit the cache, and an output keeps ``least`` entries."""
    size = max(1, _L1 // max(1, bytes_each), math.ceil(least / max(per_channel, 1e-9)))
    return channels if size * 1.5 >= channels else math.ceil(channels / math.ceil(channels / size))


def rows_per_pass(height: int, kernel: int, row_bytes: int) -> int:
    """Rows of the weight gradient per pass: those of four channels fit the cache."""
    rows = height
    while rows > 1 and (rows + kernel - 1) * row_bytes * 4 > _L1:
        rows = (rows + 1) // 2
    return rows
