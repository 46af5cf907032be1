"""A whole training step of the kernels beside one of SparseProp, the same masks, in one run.

Nikdan, Pegolotti, Iofinova, Kurtic, Alistarh: *SparseProp: Efficient Sparse Backpropagation for
Faster Training of Neural Networks*, ICML 2023. The package is no dependency; it is compiled as it
is installed:

    pip install --no-deps --no-build-isolation --target scratch/peer pybind11 sparseprop
    PYTHONPATH=scratch/peer OMP_NUM_THREADS=1 python tests/benchmarks/peer.py

Its own utility chooses for each layer between its two implementations and PyTorch's. Both train the
same pruned network with SGD and momentum, in turn; CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import io
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from kernels import CASES, Case, images, seconds_of
from torch import fx
from torch.nn import functional

from safs import kernels, masks
from safs.networks import build
from safs.pruning.prune import prune
from safs.spec import Recipe
from safs.training.data import Images


def peer_step(case: Case, network: fx.GraphModule, data: Images) -> Callable[[], None]:
    """A step of the network with SparseProp's layers where they are faster."""
    from sparseprop.utils import swap_modules_with_sparse

    shape = (case.batch, *case.shape)
    with contextlib.redirect_stdout(io.StringIO()):
        swapped = swap_modules_with_sparse(network.train(), shape)
    optimizer = torch.optim.SGD(swapped.parameters(), lr=1e-3, momentum=0.9)
    batch, labels = data.normalised(slice(0, case.batch)), data.labels[: case.batch]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(swapped(batch), labels).backward()
        optimizer.step()

    return step


def ratio_of(case: Case, ratio: float, rounds: int) -> list[float]:
    """SparseProp's seconds over those of the kernels, round by round, after one that warms up."""
    network = build(case.network, case.shape, 10)
    mask = prune(network, ratio)
    masks.apply(mask, network)
    recipe = Recipe(lr=1e-3, momentum=0.9, batch_size=case.batch)
    ours = kernels.compile(copy.deepcopy(network), mask, recipe, case.shape, case.batch, 1)
    data, order = images(case.batch, case.shape), np.arange(case.batch)
    theirs = peer_step(case, network, data)
    pairs = [
        (seconds_of(theirs, 1), seconds_of(lambda: ours.train_epoch(data, order, 1e-3), 2))
        for _ in range(rounds + 1)
    ]
    for them, us in pairs[1:]:
        print(f"  SparseProp {them:.3f} s, kernels {us:.3f} s, {them / us:.1f} times", flush=True)
    return [them / us for them, us in pairs[1:]]


def main() -> None:
    """Print each round and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=CASES, default=["vgg16"])
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.99, 0.95, 0.90])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if importlib.util.find_spec("sparseprop") is None:
        parser.error("SparseProp is not installed; the head of this file says how")
    torch.set_num_threads(1)
    for name in given.networks:
        for ratio in given.ratios:
            found = ratio_of(CASES[name], ratio, given.rounds)
            print(f"{name} {ratio:.2f}: {median(found):.1f} times as fast", flush=True)


if __name__ == "__main__":
    main()
