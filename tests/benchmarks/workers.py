"""How much faster two workers are than one: the same twelve trainings on either, in turn.

    python tests/benchmarks/workers.py [--rounds 5]

Trains LeNet-5 on MNIST-5k pruned to 95 %, as a search does, on workers that have started already.
Means something on an otherwise idle machine with two cores or more. Exit code 1 if the median ratio
of the times exceeds :data:`GOAL`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from pipelines.compute import Compute, Pool, clusters
from pipelines.config.pair import load_pair
from pipelines.tasks import pruning, training
from pipelines.tasks.jobs import Files, Job
from pipelines.tasks.shared import WEIGHTS

GOAL = 0.56
TRAININGS, EPOCHS = 12, 120
PAIR = "lenet5_mnist5k"


def main(arguments: list[str] | None = None) -> int:
    """Print the times of every round and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="paired runs (default: 5)")
    rounds = parser.parse_args(arguments).rounds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        one, two = (_runner(stack, workers, folder) for workers in (1, 2))
        pairs = [(one(), two()) for _ in range(rounds)]
    for first, second in pairs:
        print(f"one worker {first:6.2f} s   two {second:6.2f} s   ratio {second / first:.3f}")
    ratio = statistics.median(second / first for first, second in pairs)
    print(f"median ratio of {rounds}: {ratio:.3f} (goal: at most {GOAL})")
    return int(ratio > GOAL)


def _runner(stack: ExitStack, workers: int, folder: Path) -> Callable[[], float]:
    """A function that runs the trainings on warm workers and returns the seconds."""
    running = stack.enter_context(clusters.local(workers))
    where = Compute(kind="address", address=running.scheduler_address)
    pool = stack.enter_context(Pool(lambda identity, epoch: None, where))
    files = _start(pool, folder / str(workers))

    def run(epochs: int) -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(max_workers=TRAININGS) as threads:
            for result in threads.map(
                lambda number: pool.run(training.train, _job(number, epochs), files, pool.topic),
                range(TRAININGS),
            ):
                assert result["failure"] is None
        return time.perf_counter() - started

    run(1)
    return lambda: run(EPOCHS)


def _start(pool: Pool, folder: Path) -> Files:
    """A dense network, trained for one epoch, and its mask."""
    folder.mkdir()
    pair = load_pair(PAIR, {})
    dense, mask = folder / WEIGHTS, folder / "mask.safetensors"
    job = _job(0, 1).model_copy(update={"chromosome": None, "backend": "dense", "phase": "dense"})
    pool.run(training.train, job, Files(folder=folder, keep_weights=True), pool.topic)
    pool.run(
        pruning.prune, pair.network, pair.dataset.name, dense, 0.95, pair.prune, (0, 0), mask, None
    )
    return Files(folder=folder, dense=dense, mask=mask)


def _job(number: int, epochs: int) -> Job:
    """One training of the run; the identities differ, the work does not."""
    pair = load_pair(PAIR, {})
    return Job(
        code="",
        data=str(number),
        network=pair.network,
        dataset=pair.dataset.name,
        seed=0,
        replicate=0,
        phase="search",
        backend="auto",
        recipe=pair.recipe,
        epochs=epochs,
        chromosome=("relu",) * 4,
    )


if __name__ == "__main__":
    sys.exit(main())
