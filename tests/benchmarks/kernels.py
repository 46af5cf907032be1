"""Sparse against dense training on the present machine: ``make bench-kernels``.

Dense is a plain masked PyTorch loop: one thread, images normalised in memory, gradients of pruned
weights zeroed before every step. Both train from the same start, alternating within one run; a
ratio is that of the medians of CPU seconds, and its range that of the rounds. Beside every ratio
stand the absolute figures, for on a shared machine both sides move.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kernels_page import page
from torch import fx
from torch.nn import functional

from safs import kernels, masks, slots
from safs.kernels import structures
from safs.masks import Mask
from safs.networks import build
from safs.processor import cpu_name
from safs.pruning.prune import prune
from safs.settings import CANDIDATES
from safs.spec import Recipe
from safs.training.data import Images


@dataclass(frozen=True)
class Case:
    """A network and the size of its benchmark.

    Attributes:
        batch: images per step, dense and sparse.
        steps: sparse steps per round; the dense loop makes ``dense_steps``.
        operators: each is timed in all slots.
    """

    network: str
    shape: tuple[int, int, int]
    batch: int
    steps: int
    dense_steps: int
    operators: tuple[str, ...]
    ratios: tuple[float, ...] = (0.99, 0.95, 0.90, 0.0)


CASES = {
    "lenet5": Case("lenet5", (1, 28, 28), 256, 40, 4, ("relu", *CANDIDATES)),
    "vgg16": Case("vgg16", (3, 32, 32), 128, 2, 1, ("relu",)),
    "resnet18": Case("resnet18", (3, 32, 32), 128, 1, 1, ("relu",)),
    "efficientnet_b0": Case(
        "efficientnet_b0", (3, 16, 16), 128, 4, 1, ("swish",), (0.99, 0.95, 0.90)
    ),
}


@dataclass(frozen=True)
class Speed:
    """Images per second of both sides (medians over rounds) and their ratio with its range.

    Attributes:
        share: fraction of the sparse step by kind of operation.
        gflops: multiply-adds of convolution kernels, twice counted, per second, by layer.
    """

    network: str
    ratio: float
    operator: str
    dense: float
    sparse: float
    speedup: float
    lowest: float
    highest: float
    share: dict[str, float]
    gflops: dict[str, float]


def images(count: int, shape: tuple[int, int, int], classes: int = 10) -> Images:
    """Smooth blobs on a black ground, the statistics that small pictures have."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(0, 1, (count, shape[0], 7, 7)).astype(np.float32))
    smooth = functional.interpolate(coarse, shape[1:], mode="bilinear") * 160 - 40
    pixels = smooth.clamp(0, 255).to(torch.uint8)
    one = torch.ones(shape[0], 1, 1)
    return Images(pixels, torch.from_numpy(rng.integers(0, classes, count)), 0.2 * one, 0.3 * one)


def measure(case: Case, ratio: float, operator: str, rounds: int) -> Speed:
    """One row of the table."""
    data = images(case.batch * case.steps, case.shape)
    network = build(case.network, case.shape, 10)
    mask = prune(network, ratio)
    masks.apply(mask, network)
    slots.fill(network, [operator] * len(slots.slots(network)), scaled=True)
    recipe = Recipe(lr=1e-3, momentum=0.9, batch_size=case.batch)
    sparse = kernels.compile(copy.deepcopy(network), mask, recipe, case.shape, case.batch)
    order = np.arange(len(data))
    dense_step = _dense(network, mask, data, recipe)
    seconds: dict[str, list[float]] = {"dense": [], "sparse": []}
    for _ in range(rounds + 1):
        seconds["dense"].append(seconds_of(dense_step, case.dense_steps) / case.batch)
        seconds["sparse"].append(
            seconds_of(lambda: sparse.train_epoch(data, order, 1e-3), 1) / len(data)
        )
    dense, thin = (np.array(seconds[side][1:]) for side in ("dense", "sparse"))  # first: warm-up
    share, gflops = _profile(sparse, data, order)
    each = dense / thin
    return Speed(
        case.network, ratio, operator, 1 / float(np.median(dense)), 1 / float(np.median(thin)),
        float(np.median(dense) / np.median(thin)), float(each.min()), float(each.max()), share,
        gflops,
    )  # fmt: skip


def _dense(network: fx.GraphModule, mask: Mask, data: Images, recipe: Recipe) -> Callable[[], None]:
    layers = dict(network.named_modules())
    masked = [(layers[name].get_parameter("weight"), keep.float()) for name, keep in mask.items()]
    optimizer = torch.optim.SGD(network.parameters(), lr=recipe.lr, momentum=recipe.momentum)
    batch = data.normalised(slice(0, recipe.batch_size))
    labels = data.labels[: recipe.batch_size]
    network.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(network(batch), labels).backward()
        for weight, keep in masked:
            assert weight.grad is not None
            weight.grad.mul_(keep)
        optimizer.step()

    return step


def seconds_of(work: Callable[[], Any], times: int) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times


def _profile(
    sparse: kernels.SparseNetwork, data: Images, order: np.ndarray
) -> tuple[dict[str, float], dict[str, float]]:
    """Share of time by kind of operation; GFLOP/s by layer."""
    kinds: dict[str, float] = defaultdict(float)
    work: dict[str, float] = defaultdict(float)
    spent: dict[str, float] = defaultdict(float)
    for entry in sparse.profile(data, order):
        kinds[entry.operation] += entry.seconds
        if entry.multiply_adds:
            work[entry.layer] += 2 * entry.multiply_adds * len(order)
            spent[entry.layer] += entry.seconds
    total = sum(kinds.values())
    share = {k: v / total for k, v in sorted(kinds.items(), key=lambda item: -item[1])}
    return share, {name: work[name] / spent[name] / 1e9 for name in work if spent[name]}


def roofline() -> dict[str, float]:
    """GFLOP/s of one core: out of registers, and with one load per multiply-add by working set."""
    lib = structures.library()
    count = 2_000_000
    seconds = seconds_of(lambda: lib.safs_multiply_adds(ctypes.c_int64(count)), 3)
    found = {"registers": count * 12 * 2 * 8 / seconds / 1e9}
    for label, size in (("16 KB", 14), ("256 KB", 18), ("4 MB", 22), ("64 MB", 26)):
        found[label] = _loaded(np.ones((1 << size) // 4, np.float32), max(1, 1 << (30 - size)))
    return found


def _loaded(data: np.ndarray, rounds: int) -> float:
    """GFLOP/s of multiply-adds over ``data``, best of three."""
    lib = structures.library()
    address, size = ctypes.c_void_p(data.ctypes.data), ctypes.c_int64(data.size)

    def work() -> None:
        lib.safs_loaded_multiply_adds(address, size, ctypes.c_int64(rounds))

    return 2 * data.size * rounds / min(seconds_of(work, 1) for _ in range(3)) / 1e9


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; with ``--out FILE.json`` also write it there and as a page beside."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--ratios", nargs="+", type=float)
    parser.add_argument("--operators", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    peaks = roofline()
    print(f"{cpu_name()}, torch {torch.__version__}, one thread")
    print("GFLOP/s: " + ", ".join(f"{name} {value:.0f}" for name, value in peaks.items()))
    results = []
    for name in given.networks:
        case = CASES[name]
        for ratio in given.ratios or case.ratios:
            # Without any pruned weight the operators are the smaller part: one tells enough.
            for operator in given.operators or case.operators[: None if ratio else 1]:
                results.append(measure(case, ratio, operator, given.rounds))
                _print(results[-1])
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        table: dict[str, Any] = {
            "identity": {"processor": cpu_name(), **kernels.built()},
            "roofline": peaks,
        }
        table |= {"results": [asdict(result) for result in results]}
        given.out.write_text(json.dumps(table, indent=1) + "\n")
        given.out.with_suffix(".md").write_text(page(table))


def _print(r: Speed) -> None:
    print(
        f"{r.network:16s}{r.ratio:.2f} {r.operator:11s}dense {r.dense:9.1f}  "
        f"sparse {r.sparse:10.1f} images/s  {r.speedup:5.1f}x ({r.lowest:.1f} to {r.highest:.1f})  "
        + ", ".join(f"{kind} {share:.0%}" for kind, share in list(r.share.items())[:4]),
        flush=True,
    )


if __name__ == "__main__":
    main()
