"""Networks drawn at random from what the kernels know: layers, sums, gates and shortcuts."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from kernels_reference import CLASSES, KNOWN, network
from torch import Tensor, fx, nn
from torch.nn import functional

from safs import slots

# Smooth ones: where a kink is near, float32 and float64 may fall on different sides.
SMOOTH = [name for name in KNOWN if name in (
    "swish", "tanh", "gelu", "softplus", "elu", "srs", "symlog", "tanhsoft1", "sigmoid",
)]  # fmt: skip
Shape = tuple[int, int, int]


class Drawn(nn.Module):
    """Up to a dozen steps, each on an earlier feature map, mostly on the last; then a head."""

    def __init__(self, rng: Random, shape: Shape) -> None:
        super().__init__()
        self.rng, self.shapes = rng, [shape]
        self.steps: list[tuple[Callable[..., Tensor], tuple[int, ...]]] = []
        self.layers = nn.ModuleList()
        for _ in range(rng.randint(2, 12)):
            last = len(self.shapes) - 1
            source = last if rng.random() < 0.75 else rng.randrange(last + 1)
            rng.choice([self.conv] * 4 + [self.activation] * 3 + [
                self.norm, self.norm, self.pool, self.pool, self.mean, self.add, self.add,
                self.gate, self.nothing, self.linear, self.flatten,
            ])(source)  # fmt: skip
        channels, height, width = self.shapes[-1]
        self._layer(nn.Flatten(), len(self.shapes) - 1, (channels * height * width, 1, 1))
        if rng.random() < 0.5:
            self.linear(len(self.shapes) - 1)
            self.activation(len(self.shapes) - 1)
        features = self.shapes[-1][0]
        self.head = nn.Linear(features, CLASSES, bias=rng.random() < 0.8)

    def forward(self, x: Tensor) -> Tensor:
        maps: list[Tensor | None] = [x]
        used = self.used()
        for number, (step, sources) in enumerate(self.steps, 1):
            maps.append(step(*(maps[s] for s in sources)) if number in used else None)
        return self.head(maps[-1])

    def used(self) -> set[int]:
        """The maps that the logits depend on; the others are not computed."""
        found = {len(self.steps)}
        for number in range(len(self.steps), 0, -1):
            if number in found:
                found |= set(self.steps[number - 1][1])
        return found

    # -- steps, each on a map by its number ------------------------------------------------------
    def _step(self, step: Callable[..., Tensor], shape: Shape, *sources: int) -> int:
        self.steps.append((step, sources))
        self.shapes.append(shape)
        return len(self.shapes) - 1

    def _layer(self, layer: nn.Module, source: int, shape: Shape) -> int:
        self.layers.append(layer)
        return self._step(layer, shape, source)

    def conv(self, source: int) -> None:
        rng, (channels, *size) = self.rng, self.shapes[source]
        kernel = rng.choice([(1, 1), (2, 2), (3, 3), (3, 3), (5, 5), (3, 1), (1, 3), (2, 3)])
        stride, dilation = rng.choice([1, 1, 1, 2, 3]), rng.choice([1, 1, 1, 2])
        padding = rng.choice([(0, 0), tuple(k // 2 for k in kernel), (1, 1), (2, 1), (0, 2)])
        groups = rng.choice([1, 1, 1, channels, 2 if channels % 2 == 0 else 1])
        made = groups * rng.randint(1, 9 if groups == 1 else 2)
        height, width = (
            (n + 2 * p - dilation * (k - 1) - 1) // stride + 1
            for n, p, k in zip(size, padding, kernel, strict=True)
        )
        if min(height, width) >= 1 and not self._flat(source):
            layer = nn.Conv2d(
                channels, made, kernel, stride, padding, dilation, groups, bias=rng.random() < 0.6
            )
            self._layer(layer, source, (made, height, width))

    def flatten(self, source: int) -> None:
        channels, height, width = self.shapes[source]
        if not self._flat(source) and channels * height * width < 500:
            self._layer(nn.Flatten(), source, (channels * height * width, 1, 1))

    def linear(self, source: int) -> None:
        channels, *size = self.shapes[source]
        if size == [1, 1]:
            flat = self._layer(nn.Flatten(), source, (channels, 1, 1))
            units = self.rng.randint(2, 13)
            made = self._layer(
                nn.Linear(channels, units, bias=self.rng.random() < 0.7), flat, (units, 1, 1)
            )
            if self.rng.random() < 0.4:
                self._layer(nn.BatchNorm1d(units), made, (units, 1, 1))

    def norm(self, source: int) -> None:
        """Behind a convolution, mostly that one's only reader."""
        if source and isinstance(self.steps[source - 1][0], nn.Conv2d):
            self._layer(nn.BatchNorm2d(self.shapes[source][0]), source, self.shapes[source])

    def activation(self, source: int) -> None:
        if self.rng.random() < 0.2:
            self._step(functional.relu, self.shapes[source], source)
        else:
            self._layer(nn.ReLU(), source, self.shapes[source])

    def nothing(self, source: int) -> None:
        layer = self.rng.choice([nn.Identity(), nn.Dropout(0.0)])
        self._layer(layer, source, self.shapes[source])

    def pool(self, source: int) -> None:
        rng, (channels, *size) = self.rng, self.shapes[source]
        kernel = rng.choice([2, 2, 3])
        stride, largest = rng.choice([kernel, 1, 2]), rng.random() < 0.5
        padding = rng.choice([0, 0, kernel // 2]) if largest else 0
        height, width = ((n + 2 * padding - kernel) // stride + 1 for n in size)
        if min(height, width) >= 1 and not self._flat(source):
            one = nn.MaxPool2d(kernel, stride, padding) if largest else nn.AvgPool2d(kernel, stride)
            self._layer(one, source, (channels, height, width))

    def mean(self, source: int) -> int | None:
        channels, height, width = self.shapes[source]
        if self._flat(source):
            return None
        size = 1 if self.rng.random() < 0.7 else min(2, height, width)
        return self._layer(nn.AdaptiveAvgPool2d(size), source, (channels, size, size))

    def add(self, source: int) -> None:
        alike = [n for n in range(len(self.shapes)) if n != source and self._alike(n, source)]
        if alike:
            self._step(lambda a, b: a + b, self.shapes[source], source, self.rng.choice(alike))

    def gate(self, source: int) -> None:
        """Squeeze and excitation, with a sigmoid that is no slot."""
        channels = self.shapes[source][0]
        if self._flat(source):
            return
        mean = self._layer(nn.AdaptiveAvgPool2d(1), source, (channels, 1, 1))
        scale = self._layer(nn.Conv2d(channels, channels, 1), mean, (channels, 1, 1))
        gate = self._layer(nn.Sigmoid(), scale, (channels, 1, 1))
        self._step(lambda x, s: x * s, self.shapes[source], source, gate)

    def _flat(self, source: int) -> bool:
        """Whether a map has no rows and columns any more."""
        return any(
            isinstance(self.steps[n - 1][0], nn.Flatten | nn.Linear | nn.BatchNorm1d)
            for n in self._before(source)
        )

    def _before(self, source: int) -> set[int]:
        found, waiting = set[int](), [source]
        while waiting:
            number = waiting.pop()
            if number and number not in found:
                found.add(number)
                waiting += self.steps[number - 1][1]
        return found

    def _alike(self, a: int, b: int) -> bool:
        return self.shapes[a] == self.shapes[b] and self._flat(a) == self._flat(b)


def draw(seed: int) -> tuple[fx.GraphModule, Shape] | None:
    """A network with slots and the shape of its images; None if it has no activation."""
    rng = Random(seed)
    shape = (rng.randint(1, 4), rng.randint(4, 13), rng.randint(4, 13))
    drawn = Drawn(rng, shape)
    used = drawn.used()
    if not any(
        isinstance(step, nn.ReLU) or step is functional.relu
        for number, (step, _) in enumerate(drawn.steps, 1)
        if number in used
    ):
        return None
    scaled, own = rng.random() < 0.5, rng.random() < 0.5
    made = network(drawn, shape, scaled=scaled, train_own=own, seed=seed)
    chosen = [rng.choice(SMOOTH) for _ in slots.slots(made)]
    return network(made, shape, chosen, scaled=scaled, train_own=own, seed=seed), shape
