"""From layers to the program that the C++ side runs, and all its memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import fx, nn

from safs.kernels import graph, survivors
from safs.kernels import structures as c
from safs.kernels.build import Unsupported
from safs.kernels.graph import Shape, Value
from safs.kernels.memory import Arena, FeatureMap, Parameter, Recycler, images_per_pixel, pointer
from safs.masks import Mask

CODES = c.SOURCE.cases("operators.h")
OPERATIONS = c.SOURCE.enumeration("Code")
_TOGETHER = c.SOURCE.sizes["TOGETHER"]


@dataclass(frozen=True)
class ProgramStep:
    """One operation of the program.

    Attributes:
        layer: module that it belongs to.
        struct: the operation itself.
        multiply_adds: per image, of a convolution or a weight gradient.
    """

    layer: str
    struct: Any
    multiply_adds: int = 0


@dataclass(frozen=True)
class SlotPlace:
    """Where a slot's operator works.

    Attributes:
        stage: its structure.
        shape, images: of the map of f that a learned alpha wants kept; None where it is computed
            again.
    """

    stage: Any
    shape: Shape | None
    images: int


class Plan:
    """The program of a masked network, and all its memory.

    Layers and mask make the plan. What one training brings along, which is values, operators and
    optimiser, is put in by :func:`safs.kernels.filling.fill`, any number of times.

    Attributes:
        network: that was put in last.
        program: the structure that the C++ side runs.
        tensors: trained parameters by name, weights first.
        buffers: running statistics and starts of batch norm by module name.
    """

    network: fx.GraphModule

    def __init__(
        self,
        network: fx.GraphModule,
        layers: graph.LayerList,
        mask: Mask,
        batch_size: int,
        threads: int,
    ) -> None:
        self.read, self.batch = layers, batch_size
        self.mask = {name: keep.cpu().numpy() for name, keep in mask.items()}
        self.sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
        self.arena = Arena()
        self.keep: list[Any] = []
        self.tensors: dict[str, Parameter] = {}
        self.buffers: dict[str, dict[str, np.ndarray]] = {}
        self.normed = any(isinstance(x, graph.Stage) and x.norm for x in self.read.layers)
        self.maps: dict[Value, FeatureMap] = {}
        self.gradients: dict[Value, FeatureMap] = {}
        self.written: set[Value] = set()
        self.z_maps: dict[graph.Conv, tuple[FeatureMap, FeatureMap]] = {}
        self.starts: dict[graph.Conv, tuple[Any, np.ndarray | None]] = {}
        self.lists: dict[graph.Conv, dict[str, survivors.Sorted]] = {}
        self.copies: dict[graph.Conv, dict[str, np.ndarray]] = {}
        self.passes: dict[graph.Conv, int] = {}
        self.dense_of: dict[graph.Conv, tuple[dict[str, survivors.DenseList], Any]] = {}
        self.others: dict[Any, tuple[Any, int]] = {}
        self.stages: dict[graph.Stage, Any] = {}
        self.norms: dict[graph.Stage, Any] = {}
        self.entries: dict[graph.Conv, survivors.Entries] = {}
        self.forward: list[ProgramStep] = []
        self.backward: list[ProgramStep] = []
        self.evaluation: list[ProgramStep] = []
        self.weights: list[Any] = []
        self.dense: list[Any] = []
        self.biases: list[Any] = []
        self.places: dict[str, SlotPlace] = {}
        self.values: dict[str, FeatureMap] = {}
        self.program = c.Program()
        self.filled: list[Any] = []
        self._mark_needed()
        self._choose_layout(threads)
        self._emit()
        self._finish()
        self.entries.clear()  # 40 bytes for each weight

    # -- what matters ----------------------------------------------------------------------------
    def _mark_needed(self) -> None:
        """Walk back from the logits: which channels does some output depend on?"""
        self.read.head.z.need[:] = True
        for layer in reversed(self.read.layers):
            if isinstance(layer, graph.Conv):
                found = survivors.entries(layer, self.mask[layer.name])
                self.entries[layer] = found
                used = np.zeros(layer.x.shape[0], bool)
                used[found.inp] = True
                layer.x.require(used)
            elif isinstance(layer, graph.Stage):
                assert layer.y is not None
                layer.z.require(layer.y.need)
                if layer.residual:
                    layer.residual.require(layer.y.need)
            elif isinstance(layer, graph.Phases):
                layer.x.require(np.any(layer.y.need.reshape(layer.x.shape[0], -1), axis=1))
            elif isinstance(layer, graph.Pooling):
                layer.x.require(layer.y.need)
            elif isinstance(layer, graph.Gate):
                layer.x.require(layer.y.need)
                layer.s.require(layer.y.need)

    def _choose_layout(self, threads: int) -> None:
        """Borders that readers want, which maps lie tight because they are flattened, and how many
        groups of images have sums of their own."""
        self.tight: set[Value] = set()
        for layer in self.read.layers:
            if not isinstance(layer, graph.Conv):
                continue
            (_, height, width), (_, out_height, out_width) = layer.x.shape, layer.z.shape
            border = self.entries[layer].border(height, width, out_height, out_width)
            layer.x.pad = max(layer.x.pad, border)
            if layer.x.base:
                self.tight.add(layer.x.base)
        if any(value.pad for value in self.tight):
            raise Unsupported("sparse kernels: a map is both flattened and padded")
        self.most = max(self._images(s) for s in self._shapes())
        blocks = -(-self.batch // self.most)
        self.capacity = blocks * self.most
        self.groups = min(_GROUPS, blocks)
        self.threads = min(threads, self.groups)
        maps = [x.y.shape for x in self.read.layers if not isinstance(x, _INPUTS) and x.y]
        # A channel takes up to 32 floats more than its pixels, for each block of at least 8 images.
        sizes = [channels * (height * width + 4) for channels, height, width in maps]
        self.recycler = Recycler(self.arena, self.capacity * max(sizes, default=0))

    def _shapes(self) -> Iterable[tuple[int, int, int]]:
        for layer in self.read.layers:
            if isinstance(layer, graph.Input):
                yield layer.out.shape
            elif isinstance(layer, graph.Conv):
                yield layer.x.shape
            elif layer.y is not None:
                yield layer.y.shape

    def _images(self, shape: tuple[int, int, int]) -> int:
        """Images per pixel of a map; without batch norm, where blocks are few, always the most."""
        return images_per_pixel(shape[1] if self.normed else 1, self.batch)

    # -- memory ----------------------------------------------------------------------------------
    def _keep(self, thing: Any) -> Any:
        self.keep.append(thing)
        return thing

    def _floats(self, *shape: int) -> np.ndarray:
        return self._keep(np.zeros(shape, np.float32))

    def _doubles(self, *shape: int) -> np.ndarray:
        return self._keep(np.zeros(shape))

    def partial(self, *shape: int) -> Any:
        """Sums that every group of images has of its own."""
        sums = self._doubles(self.groups, *shape)
        return c.Partial(pointer(sums), sums[0].size)

    def _channels(self, chosen: np.ndarray) -> Any:
        index = self._keep(np.nonzero(chosen)[0].astype(np.int32))
        return c.Channels(pointer(index), len(index))

    def _new(self, shape: tuple[int, int, int], n: int, whole: bool, **options: Any) -> FeatureMap:
        images = self.capacity if whole else self.most
        made = FeatureMap(self.arena, shape, n, images, whole, threads=self.threads, **options)
        return self._keep(made)

    def _map(self, value: Value) -> FeatureMap:
        """The memory of a map."""
        if value.base is not None:
            return self._map(value.base).flat()
        if value not in self.maps:
            tight = value in self.tight
            n = self._images(value.shape)
            self.maps[value] = self._new(value.shape, n, self.normed, pad=value.pad, tight=tight)
        return self.maps[value]

    def _gradient(self, value: Value) -> FeatureMap:
        """The memory of a map's gradient."""
        if value.base is not None:
            return self._gradient(value.base).flat()
        if value not in self.gradients:
            images = self.capacity if self.normed else self.most
            # Of phase planes also those are read that nothing writes: they have to stay 0.
            whole = self._keep_zero(value)
            self.gradients[value] = FeatureMap(
                self.arena if whole else self.recycler, value.shape, self._images(value.shape),
                images, self.normed, tight=value in self.tight, threads=self.threads,
            )  # fmt: skip
        return self.gradients[value]

    def _keep_zero(self, value: Value) -> bool:
        planes = any(isinstance(x, graph.Phases) and x.y is value for x in self.read.layers)
        return planes or not self.normed

    def _release(self, layer: graph.GraphLayer) -> None:
        """The gradient of a layer's output has been read for the last time."""
        value = None if isinstance(layer, graph.Input | graph.Conv) else layer.y
        if value in self.gradients and not self._keep_zero(value):
            self.recycler.release(self.gradients[value].memory)

    def _tensor(self, name: str, *, keep: np.ndarray | None = None) -> Parameter:
        if name not in self.tensors:
            flat = np.arange(self.sizes[name]) if keep is None else np.flatnonzero(keep)
            self.tensors[name] = Parameter(name, flat, weight=True)
        return self.tensors[name]

    # -- operations ------------------------------------------------------------------------------
    def _operation(self, name: str, arguments: Any, images: int) -> Any:
        self._keep(arguments)
        code = OPERATIONS.index(name)
        return c.Operation(code, ctypes.addressof(arguments), images, 0.0)

    def _run(self, label: str, name: str, arguments: Any, images: int, work: int = 0) -> None:
        """Add to the forward pass, in training and evaluation alike."""
        self.forward.append(ProgramStep(label, self._operation(name, arguments, images), work))

    def _back(self, label: str, name: str, arguments: Any, images: int, work: int = 0) -> None:
        self.backward.append(ProgramStep(label, self._operation(name, arguments, images), work))

    def _emit(self) -> None:
        for layer in self.read.layers:
            self._FORWARD[type(layer)](self, layer)
        head = self.read.head
        sums = self.partial(head.z.shape[0] + 2)
        z, gz = self.z_maps[head]
        self.head = c.Head(z.struct, gz.struct, head.z.shape[0], sums)
        last = ProgramStep("head", self._operation("logits", self.head, z.pixel))
        self.evaluation = [*self.forward, last]
        self._run("head", "cross_entropy", self.head, z.pixel)
        self._bias_gradient(head, sums, 1)
        for layer in self._backward_order():
            if type(layer) in self._BACKWARD:
                self._BACKWARD[type(layer)](self, layer)
                self._release(layer)

    def _backward_order(self) -> Iterator[graph.GraphLayer]:
        """The layers from the last to the first, each convolution right behind its stage.

        The gradient of a convolution's output holds the block in work only: it is used up before an
        operation that needs the whole batch.
        """
        staged = {x.conv for x in self.read.layers if isinstance(x, graph.Stage)}
        for layer in reversed(self.read.layers):
            if layer in staged:
                continue
            yield layer
            if isinstance(layer, graph.Stage) and layer.conv:
                yield layer.conv

    def _input(self, layer: graph.Input) -> None:
        x = self._map(layer.out)
        self._run("images", "gather", c.Input(x.struct, *layer.out.shape), x.pixel)

    # -- convolutions ----------------------------------------------------------------------------
    def _convolution(self, layer: graph.Conv) -> None:
        found, x = self.entries[layer], self._map(layer.x)
        (_, height, width), (out, out_height, out_width) = layer.x.shape, layer.z.shape
        z = self._new(layer.z.shape, x.pixel, self.normed)
        border = found.transposed().border(out_height, out_width, height, width)
        gz = self._new(layer.z.shape, x.pixel, False, pad=border)
        self.z_maps[layer] = z, gz
        weight = self._tensor(f"{layer.name}.weight", keep=self.mask[layer.name])
        stage = self._stage_of(layer)
        bias = None
        if layer.module.bias is not None:
            bias = self._tensor(f"{layer.name}.bias")
        statistics, initial = c.Partial(), bias.value if bias else None
        if stage is not None and stage.norm:
            statistics = self.partial(out, 2)
            initial = self._floats(out)
        self.starts[layer] = (statistics, initial)
        if self._is_dense(layer):
            self._dense_forward(layer, weight)
        else:
            self._sparse_forward(layer, weight, stage)

    def _is_dense(self, layer: graph.Conv) -> bool:
        """Whether every weight takes part, and every output reads the same pixels."""
        plain = layer.groups == 1 and layer.step == 1
        return plain and bool(self.mask[layer.name].all()) and bool(layer.z.need.all())

    def _sparse_forward(
        self, layer: graph.Conv, weight: Parameter, stage: graph.Stage | None
    ) -> None:
        lists = self._lists(layer, self._varying(layer, stage))
        self._layer_weights(layer, weight, lists)
        x, (z, _), (statistics, initial) = (
            self._map(layer.x),
            self.z_maps[layer],
            self.starts[layer],
        )
        out, out_height, out_width = layer.z.shape
        arguments = c.Convolution(
            lists["forward"].struct, x.struct, z.struct, pointer(self.copies[layer]["forward"]),
            pointer(initial), statistics, 0, out_height, out_width * z.pixel, out,
        )  # fmt: skip
        self._run(layer.name, "convolution", arguments, z.pixel, self._work(layer))

    def _dense_forward(self, layer: graph.Conv, weight: Parameter) -> None:
        x, (z, gz), (statistics, initial) = (
            self._map(layer.x), self.z_maps[layer], self.starts[layer],
        )  # fmt: skip
        out, height, width = layer.z.shape
        lists = survivors.dense_lists(
            self.entries[layer], x, gz, (layer.x.shape, layer.z.shape), self._wants_gradient(layer)
        )
        forward, backward = self._packed(lists["forward"]), self._packed(lists.get("backward"))
        stride = -(-out // 4) * -(-len(lists["forward"].place) // 3) * 12 + 4
        sums = self._floats(self.groups, stride)
        ends = (pointer(weight.value), pointer(weight.gradient), pointer(sums))
        self.dense.append(c.DenseWeights(*ends, stride, forward, backward))
        self.dense_of[layer] = lists, self.dense[-1]
        arguments = c.Dense(
            x.struct, z.struct, pointer(lists["forward"].offset), forward.weight, pointer(initial),
            statistics, 0, height, width * z.pixel, out, forward.entries, forward.per_block,
            lists["forward"].chunk,
        )  # fmt: skip
        self._run(layer.name, "dense", arguments, z.pixel, self._work(layer))

    def _packed(self, found: survivors.DenseList | None) -> Any:
        """Room for the weights of a dense list; nothing for none."""
        if found is None:
            return c.Packed()
        self._keep(found)
        room = self._floats(-(-found.outputs // _TOGETHER) * _TOGETHER * len(found.place))
        return c.Packed(
            pointer(room), pointer(found.place), found.step, found.outputs, len(found.place),
            found.per_block,
        )  # fmt: skip

    def _stage_of(self, layer: graph.Conv) -> graph.Stage | None:
        for other in self.read.layers:
            if isinstance(other, graph.Stage) and other.conv is layer:
                return other
        return None

    def _varying(self, layer: graph.Conv, stage: graph.Stage | None) -> np.ndarray:
        """Output channels to compute; the others are constant or of no use."""
        if stage is None or stage.residual:
            return layer.z.need
        fed = np.zeros(layer.z.shape[0], bool)
        fed[self.entries[layer].out] = True
        return fed & layer.z.need

    def _lists(self, layer: graph.Conv, varying: np.ndarray) -> dict[str, survivors.Sorted]:
        read = None
        if self._wants_gradient(layer):
            read = np.flatnonzero(self._gradient_channels(layer))
        lists, passes = survivors.lists(
            self.entries[layer], self._map(layer.x), self.z_maps[layer][1],
            (layer.x.shape, layer.z.shape), np.flatnonzero(varying), read, bool(layer.x.pad),
        )  # fmt: skip
        self.passes[layer] = passes
        self.lists[layer] = lists
        self._keep((lists, [s.arrays for s in lists.values()]))
        return lists

    def _wants_gradient(self, layer: graph.Conv) -> bool:
        return not isinstance(self._producer(layer.x), graph.Input)

    def _producer(self, value: Value) -> Any:
        """The layer that writes a map; phase planes of the images count as images."""
        value = value.base or value
        for layer in self.read.layers:
            if isinstance(layer, graph.Input) and layer.out is value:
                return layer
            if isinstance(layer, graph.Phases) and layer.y is value:
                return self._producer(layer.x)
            if not isinstance(layer, graph.Input | graph.Conv) and layer.y is value:
                return layer
        raise AssertionError("a map that nothing writes")

    def _readers(self, value: Value) -> list[Any]:
        """The layers that add to a map's gradient, in the order of the backward pass."""
        base = value.base or value
        found: list[Any] = []
        for layer in self._backward_order():
            if isinstance(layer, graph.Stage):
                ends = [] if layer.conv else [layer.z]
                ends += [layer.residual] if layer.residual else []
            elif isinstance(layer, graph.Gate):
                ends = [layer.x, layer.s]
            elif isinstance(layer, graph.Input):
                ends = []
            else:
                ends = [layer.x]
            found += [layer for end in ends if (end.base or end) is base]
        return found

    def _gradient_channels(self, layer: graph.Conv) -> np.ndarray:
        """Channels of the input's gradient that this layer writes: all that anyone needs where it
        comes first, else those that it reads."""
        base = layer.x.base
        if self._readers(layer.x)[0] is layer:
            if base is None:
                return layer.x.need
            return np.repeat(base.need, base.shape[1] * base.shape[2])
        used = np.zeros(layer.x.shape[0], bool)
        used[self.entries[layer].inp] = True
        return used

    def _layer_weights(
        self, layer: graph.Conv, weight: Parameter, lists: Mapping[str, survivors.Sorted]
    ) -> None:
        copies = {name: self._floats(len(found.order) + 8) for name, found in lists.items()}
        stride = len(lists["sums"].order) + 8
        copies["sums"] = self._floats(self.groups, stride)
        self.copies[layer] = copies
        none = np.zeros(0, np.int32)
        order = {name: lists[name].order if name in lists else none for name in _LISTS}
        self.weights.append(
            c.Weights(
                pointer(weight.value), pointer(weight.gradient), pointer(copies["sums"]),
                pointer(copies["forward"]), pointer(copies.get("backward")),
                *(pointer(order[name]) for name in _LISTS), len(weight.value),
                *(len(order[name]) for name in _LISTS), stride,
            )
        )  # fmt: skip
        self._keep(order)

    def _convolution_back(self, layer: graph.Conv) -> None:
        if layer in self.dense_of:
            self._dense_back(layer)
        else:
            self._sparse_back(layer)

    def _sparse_back(self, layer: graph.Conv) -> None:
        (_, gz), x, lists = self.z_maps[layer], self._map(layer.x), self.lists[layer]
        (channels, height, width), (_, out_height, out_width) = layer.x.shape, layer.z.shape
        row = out_width * gz.pixel
        arguments = c.WeightGradient(
            lists["sums"].struct, x.struct, gz.struct, pointer(self.copies[layer]["sums"]),
            self.copies[layer]["sums"].shape[1], out_height, row, self.passes[layer],
        )  # fmt: skip
        self._back(layer.name, "weight_gradient", arguments, gz.pixel, self._work(layer))
        if "backward" not in lists:
            return
        accumulate = self._writes(layer.x, self._gradient_channels(layer))
        gx = self._gradient(layer.x)
        transposed = c.Convolution(
            lists["backward"].struct, gz.struct, gx.struct,
            pointer(self.copies[layer]["backward"]), None, c.Partial(), accumulate, height,
            width * gx.pixel, channels,
        )  # fmt: skip
        self._back(layer.name, "convolution", transposed, gx.pixel, self._work(layer))

    def _dense_back(self, layer: graph.Conv) -> None:
        (_, gz), x, (lists, weights) = self.z_maps[layer], self._map(layer.x), self.dense_of[layer]
        (channels, height, width), (out, out_height, out_width) = layer.x.shape, layer.z.shape
        entries = weights.forward.entries
        passes = survivors.rows_per_pass(out_height, 1, out_width * gz.pixel * 4)
        gradient = c.DenseGradient(
            x.struct, gz.struct, pointer(lists["forward"].offset), weights.sums, weights.stride,
            out_height, out_width * gz.pixel, passes, out, entries,
        )  # fmt: skip
        self._back(layer.name, "dense_gradient", gradient, gz.pixel, self._work(layer))
        if "backward" not in lists:
            return
        accumulate = self._writes(layer.x, np.ones(channels, bool))
        gx, back = self._gradient(layer.x), weights.backward
        transposed = c.Dense(
            gz.struct, gx.struct, pointer(lists["backward"].offset), back.weight, None,
            c.Partial(), accumulate, height, width * gx.pixel, channels, back.entries,
            back.per_block, lists["backward"].chunk,
        )  # fmt: skip
        self._back(layer.name, "dense", transposed, gx.pixel, self._work(layer))

    def _work(self, layer: graph.Conv) -> int:
        """Multiply-adds per image that the mathematics asks for."""
        return len(self.entries[layer]) * layer.z.shape[1] * layer.z.shape[2]

    def _writes(self, value: Value, channels: np.ndarray) -> bool:
        """Whether the next writer of a gradient has to add to it. The first one need not, if it
        writes all that is needed."""
        base = value.base or value
        if base in self.written:
            return True
        self.written.add(base)
        covered = channels.reshape(base.shape[0], -1).all(1)
        if not (base.need & ~covered).any():
            return False
        g = self._gradient(base)
        clear = c.Clear(g.struct, self._channels(base.need), *base.shape[1:])
        self._back("gradient", "clear", clear, g.pixel)
        return True

    # -- stages ----------------------------------------------------------------------------------
    def _stage(self, layer: graph.Stage) -> None:
        assert layer.y is not None
        channels, height, width = layer.z.shape
        y, conv = self._map(layer.y), layer.conv
        z = self.z_maps[conv][0] if conv else self._map(layer.z)
        s = c.Stage(z=z.struct, y=y.struct, code=0 if layer.slot else code(layer.operator))
        s.pool, s.norm, s.height, s.width = layer.pool, bool(layer.norm), height, width
        varying = self._varying(conv, layer) & layer.y.need if conv else layer.y.need
        s.varying, s.constant = self._channels(varying), self._channels(layer.y.need & ~varying)
        a, b, ga, gb, gc = (self._floats(channels) for _ in range(5))
        a[:] = 1
        s.a, s.b, s.ga, s.gb, s.gc = map(pointer, (a, b, ga, gb, gc))
        s.sums, s.scale_sums = self._stage_sums(layer, channels), self.partial(2)
        if layer.residual:
            s.residual = self._map(layer.residual).struct
        small = (channels, height // 2, width // 2) if layer.pool else (channels, height, width)
        if layer.pool:
            s.winner = self._new(small, z.pixel, self.normed).struct
            s.position = self._new(small, z.pixel, self.normed).struct
        kept = small if layer.pool or not self.normed else None
        if kept:
            s.derivative = self._new(kept, z.pixel, self.normed).struct
        self._fixed(layer, s)
        self.stages[layer] = self._keep(s)
        if layer.slot:
            self.places[layer.slot[0]] = SlotPlace(s, kept, z.pixel)
        else:
            s.own = pointer(self._floats(c.MAX_OWN))
        if layer.norm:
            self._norm(layer, s)
        images = min(z.pixel, y.pixel, self._map(layer.residual).pixel if layer.residual else 999)
        self._run(self._label(layer), "stage", s, images)

    def _label(self, layer: graph.Stage) -> str:
        return layer.slot[0] if layer.slot else layer.conv.name if layer.conv else "stage"

    def _stage_sums(self, layer: graph.Stage, channels: int) -> Any:
        sums = self.partial(channels, 2)
        if layer.conv and not layer.norm:
            self._bias_gradient(layer.conv, sums, 2)
        return sums

    def _bias_gradient(self, conv: graph.Conv, sums: Any, step: int) -> None:
        if conv.module.bias is None:
            return
        bias = self._tensor(f"{conv.name}.bias")
        arguments = (sums, pointer(bias.gradient), len(bias.value), step)
        self.biases.append(c.Bias(*arguments))

    def _fixed(self, layer: graph.Stage, s: Any) -> None:
        """Where constant channels find their value: the bias, or what batch norm makes of it."""
        channels = layer.z.shape[0]
        if layer.conv and layer.conv.module.bias is not None and not layer.norm:
            s.fixed = pointer(self._tensor(f"{layer.conv.name}.bias").value)
        else:
            s.fixed = pointer(self._floats(channels))

    def _norm(self, layer: graph.Stage, s: Any) -> None:
        assert layer.norm is not None and layer.conv is not None
        name, module = layer.norm
        channels, height, width = layer.z.shape
        gamma, shift = self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")
        statistics, start = self.starts[layer.conv]
        assert start is not None
        kept = {key: self._floats(channels) for key in ("running_mean", "running_var")}
        self.buffers[name] = {**kept, "start": start, "steps": np.zeros(1, np.int64)}
        bias = layer.conv.module.bias
        bias_values = None if bias is None else self._tensor(f"{layer.conv.name}.bias").value
        norm = c.Norm(
            ctypes.addressof(s), statistics, pointer(gamma.value),
            pointer(shift.value), pointer(gamma.gradient), pointer(shift.gradient),
            pointer(bias_values), pointer(start), pointer(kept["running_mean"]),
            pointer(kept["running_var"]), pointer(self._doubles(channels)),
            pointer(self._doubles(channels)), s.fixed, height * width, channels, module.eps,
            module.momentum,
        )  # fmt: skip
        self.norms[layer] = self._keep(norm)
        self._run(name, "norm", norm, 1)

    def _stage_back(self, layer: graph.Stage) -> None:
        assert layer.y is not None
        s = self.stages[layer]
        gy = self._gradient(layer.y)
        s.gy = gy.struct
        if layer.residual:
            s.residual_accumulates = self._writes(layer.residual, layer.y.need)
            s.g_residual = self._gradient(layer.residual).struct
        if layer.conv:
            s.gz = self.z_maps[layer.conv][1].struct
        else:
            s.accumulates = self._writes(layer.z, layer.y.need)
            s.gz = self._gradient(layer.z).struct
        images = 1 << min(s.z.log_n, s.y.log_n, s.residual.log_n if layer.residual else 99)
        label = self._label(layer)
        self._back(label, "stage_backward", s, images)
        if layer.norm:
            self._back(layer.norm[0], "norm_backward", self.norms[layer], 1)
            self.recycler.barrier()
            self._back(layer.norm[0], "norm_input_gradient", s, images)

    # -- other layers ----------------------------------------------------------------------------
    def _phases(self, layer: graph.Phases) -> None:
        x, y = self._map(layer.x), self._map(layer.y)
        s = c.Phases(x=x.struct, y=y.struct, channels=self._channels(layer.x.need))
        s.step, s.height, s.width = layer.step, *layer.x.shape[1:]
        self._other(layer, s, "phases", min(x.pixel, y.pixel))

    def _phases_back(self, layer: graph.Phases) -> None:
        if not isinstance(self._producer(layer.x), graph.Input):
            self._other_back(layer, "phases_backward", layer.x.need)

    def _pool(self, layer: graph.Pooling) -> None:
        x, y = self._map(layer.x), self._map(layer.y)
        ends = [
            np.array([pair[end] for pair in pairs], np.int32)
            for pairs in (layer.rows, layer.columns)
            for end in (0, 1)
        ]
        windows = c.Windows(*map(pointer, self._keep(ends)), *layer.y.shape[1:])
        structure = c.Average if layer.average else c.Maximum
        s = structure(x=x.struct, y=y.struct, channels=self._channels(layer.y.need))
        s.windows, s.height, s.width = windows, *layer.x.shape[1:]
        if layer.average:
            areas = [[(b - a) * (d - e) for e, d in layer.columns] for a, b in layer.rows]
            s.weight = pointer(self._keep((1 / np.array(areas)).astype(np.float32)))
        else:
            s.winner = self._new(layer.y.shape, y.pixel, self.normed).struct
        self._other(layer, s, "average" if layer.average else "maximum", min(x.pixel, y.pixel))

    def _pool_back(self, layer: graph.Pooling) -> None:
        name = "average_backward" if layer.average else "maximum_backward"
        self._other_back(layer, name, layer.y.need)

    def _gate(self, layer: graph.Gate) -> None:
        x, gates, y = self._map(layer.x), self._map(layer.s), self._map(layer.y)
        s = c.Gate(x=x.struct, s=gates.struct, y=y.struct, channels=self._channels(layer.y.need))
        s.height, s.width = layer.x.shape[1:]
        self._other(layer, s, "gate", min(x.pixel, gates.pixel, y.pixel))

    def _gate_back(self, layer: graph.Gate) -> None:
        s, images = self.others[layer]
        s.accumulate_x = self._writes(layer.x, layer.y.need)
        s.accumulate_s = self._writes(layer.s, layer.y.need)
        s.gx, s.gs = self._gradient(layer.x).struct, self._gradient(layer.s).struct
        s.gy = self._gradient(layer.y).struct
        self._back("gate", "gate_backward", s, images)

    def _other(self, layer: Any, s: Any, name: str, images: int) -> None:
        self.others[layer] = self._keep(s), images
        self._run(name, name, s, images)

    def _other_back(self, layer: Any, name: str, channels: np.ndarray) -> None:
        s, images = self.others[layer]
        s.accumulate = self._writes(layer.x, channels)
        s.gx, s.gy = self._gradient(layer.x).struct, self._gradient(layer.y).struct
        self._back(name, name, s, images)

    _FORWARD: ClassVar[dict[type, Callable[..., None]]] = {
        graph.Input: _input, graph.Conv: _convolution, graph.Stage: _stage,
        graph.Phases: _phases, graph.Pooling: _pool, graph.Gate: _gate,
    }  # fmt: skip
    _BACKWARD: ClassVar[dict[type, Callable[..., None]]] = {
        graph.Conv: _convolution_back, graph.Stage: _stage_back, graph.Phases: _phases_back,
        graph.Pooling: _pool_back, graph.Gate: _gate_back,
    }  # fmt: skip

    # -- the whole -------------------------------------------------------------------------------
    def _finish(self) -> None:
        """Everything of the program that no training changes."""
        program = self.program
        lists = ([*self.forward, *self.backward], self.evaluation)
        steps = [self._keep(self._array(c.Operation, [o.struct for o in ops])) for ops in lists]
        self.operations = list(zip(lists[0], steps[0], strict=True))
        program.train, program.evaluate = (ctypes.addressof(a) for a in steps)
        program.train_count, program.evaluate_count = map(len, steps)
        self.set_array("weights", c.Weights, self.weights, self.keep)
        self.set_array("dense", c.DenseWeights, self.dense, self.keep)
        self.set_array("biases", c.Bias, self.biases, self.keep)
        program.head = ctypes.addressof(self.head)
        program.batch, program.block = self.batch, self.most
        program.groups, program.threads = self.groups, self.threads

    def set_array(self, name: str, kind: Any, items: list[Any], keep: list[Any]) -> None:
        """A list of structures of the program, which ``keep`` then holds."""
        array = self._array(kind, items)
        keep.append(array)
        setattr(self.program, name, ctypes.addressof(array))
        setattr(self.program, f"{name}_count", len(items))

    def value_map(self, slot: str) -> Any:
        """The map of f of a slot whose alpha is learned; an empty one where f is computed again."""
        place = self.places[slot]
        if place.shape is None:
            return c.Map()
        if slot not in self.values:
            self.values[slot] = self._new(place.shape, place.images, self.normed)
        return self.values[slot].struct

    @staticmethod
    def _array(kind: Any, items: list[Any]) -> Any:
        return (kind * len(items))(*items)


def code(operator: str | None) -> int:
    """The number of an operator's kernel."""
    if operator not in CODES:
        raise Unsupported(f"sparse kernels: operator {operator} has no kernel")
    return CODES.index(operator)


_GROUPS = 8
"""Groups of images at most: a constant, so that the number of threads changes no bit."""
_INPUTS = (graph.Input, graph.Conv)
_LISTS = ("sums", "forward", "backward")


def why_not(network: nn.Module, shape: tuple[int, int, int], operators: Iterable[str]) -> str:
    """Why the kernels cannot train a network with all of these operators; empty where they can.

    Args:
        network: an installed network.
        shape: ``(channels, height, width)`` of its images.
        operators: that its slots may get.
    """
    if not isinstance(network, fx.GraphModule):
        return "sparse kernels: the network is no torch.fx graph"
    try:
        c.library()
        graph.read(network, shape)
    except Unsupported as reason:
        return str(reason)
    unknown = sorted(set(operators).difference(CODES))
    return f"sparse kernels: operator {unknown[0]} has no kernel" if unknown else ""


def check(network: nn.Module, mask: Mask) -> None:
    """Raise :class:`Unsupported` where the network is not on the CPU in float32, or has no mask."""
    for name, parameter in network.named_parameters():
        if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
            raise Unsupported(f"sparse kernels: {name} is {parameter.dtype} on {parameter.device}")
    if not mask:
        raise Unsupported("sparse kernels: the network is dense")
