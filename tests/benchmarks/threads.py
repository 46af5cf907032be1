"""What a second thread brings to one training, beside a second training of its own.

    python tests/benchmarks/threads.py [--network vgg16] [--ratio 0.99] [--threads 2] [--rounds 5]

In turn, round by round: one training with one thread, one with several, and as many trainings with
one thread each, all at once. Wall time, for threads cost processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from statistics import median

import numpy as np
import torch
from kernels import CASES, images

from safs import kernels, masks
from safs.networks import build
from safs.pruning.prune import prune
from safs.spec import Recipe

_SECONDS = 4.0


def rate(network: str, ratio: float, threads: int, seconds: float = _SECONDS) -> float:
    """Images per second of wall time of one training."""
    torch.set_num_threads(1)
    case = CASES[network]
    made = build(network, case.shape, 10)
    mask = prune(made, ratio)
    masks.apply(mask, made)
    recipe = Recipe(lr=1e-3, momentum=0.9, batch_size=case.batch)
    compiled = kernels.compile(made, mask, recipe, case.shape, case.batch, threads)
    data, order = images(case.batch, case.shape), np.arange(case.batch)
    compiled.train_epoch(data, order, 1e-3)
    steps, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        compiled.train_epoch(data, order, 1e-3)
        steps += 1
    return steps * case.batch / passed


@contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """That many, all of them started."""
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        list(pool.map(rate, ["lenet5"] * count, [0.99] * count, [1] * count, [0.1] * count))
        yield pool


def main() -> None:
    """Print each round and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=CASES, default="vgg16")
    parser.add_argument("--ratio", type=float, default=0.99)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    cell, many, shares = (given.network, given.ratio), given.threads, []
    with processes(many) as pool:
        for _ in range(given.rounds):
            one = pool.submit(rate, *cell, 1).result()
            threads = pool.submit(rate, *cell, many).result() / one
            apart = sum(pool.map(rate, *([x] * many for x in (*cell, 1)))) / one
            shares.append(threads / apart)
            print(
                f"one thread {one:.0f} images/s, {many} threads {threads:.2f} times, "
                f"{many} trainings {apart:.2f} times, share {shares[-1]:.2f}", flush=True,
            )  # fmt: skip
    print(f"share, median of {given.rounds}: {median(shares):.2f}")


if __name__ == "__main__":
    main()
