"""Trainings, resumed where a killed run left them."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines import compute
from pipelines.tasks.jobs import Files, Job
from pipelines.tasks.shared import WEIGHTS, empty, images_of, own_device, save, starting_point
from safs import sealed
from safs.errors import SafsError
from safs.rows import Trained
from safs.spec import BackendName, NetworkSpec

if TYPE_CHECKING:
    from torch import nn

    from safs.slots import Slot
    from safs.training.loop import Outcome, Snapshot

_CHECKPOINT = "checkpoint.pt"
_CHECKPOINT_SECONDS = 20.0
_ANNOUNCE_SECONDS = 0.5


class Worker(NamedTuple):
    """What decides the bits of trainings on a worker, and what it is.

    See :func:`safs.backends.device.bit_identity` and :func:`safs.backends.device.whereabouts`.
    """

    bits: dict[str, str]
    where: dict[str, str]


def worker(
    backend: BackendName, network: NetworkSpec, dataset: str, operators: Sequence[str]
) -> Worker:
    """This worker.

    Args:
        backend: what was asked for.
        network, dataset: what trains.
        operators: that the network's slots may get beside their own.

    Raises:
        SafsError: it trains on the kernels, which would train this network wrongly.
    """
    from safs import kernels
    from safs.backends.device import bit_identity, whereabouts
    from safs.datasets import DATASETS
    from safs.kernels.misread import misread

    device, trains = own_device(), "dense"
    if backend != "dense" and device.type == "cpu":
        model, shape = empty(network, dataset), DATASETS[dataset].shape
        if wrong := misread(model, shape):
            raise SafsError(
                f"network {network.name!r}: {wrong}, which they get wrong; expected "
                "`backend: dense`"
            )
        reason = kernels.why_not(model, shape, operators)
        trains = "mixed" if reason else "sparse"
    return Worker(bit_identity(device, trains), whereabouts(device, "none"))


def train(job: Job, files: Files, topic: str) -> Trained:
    """Run one training, from its checkpoint if a killed run left one.

    Args:
        job: what to train.
        files: where inputs and scratch are.
        topic: where finished epochs are announced.
    """
    from safs.backends.device import bit_identity, peak_memory, reset_peak, whereabouts
    from safs.training.data import BatchOrder
    from safs.training.loop import train as run

    device = own_device()
    fold = images_of(job, files)
    foreign = reset_peak(device) - fold.bytes  # images of other replicates, kept on the device
    network, mask = starting_point(job, files, fold)
    checkpoint = _Checkpoint(job, files, topic)
    outcome = run(
        network.to(device),
        fold,
        job.recipe,
        job.epochs,
        BatchOrder(job.seed, job.replicate, job.phase, job.final),
        mask=mask,
        backend=job.backend,
        acceleration=job.acceleration,
        validate="every" if job.validate_every else "last",
        keep=job.keep,
        until=job.until,
        resume=checkpoint.read(),
        on_epoch=checkpoint,
    )
    if files.keep_weights and outcome.failure is None:
        save(network.state_dict(), files.folder / WEIGHTS)
    checkpoint.done()
    return told(outcome, network).model_copy(
        update={
            "memory": peak_memory(device, foreign),
            "bits": bit_identity(device, outcome.backend),
            "where": whereabouts(device, outcome.backend),
        }
    )


def told(outcome: Outcome, network: nn.Module) -> Trained:
    """What a training came to, and what its slots have become."""
    from safs.slots import slots

    return outcome.told().model_copy(
        update={
            "slots": tuple(
                {"name": name, **_described(slot, outcome.failure)}
                for name, slot in slots(network).items()
            )
        }
    )


class _Checkpoint:
    """Saves a training every few seconds and where it ends early, and announces its epochs.

    An epoch can take ten milliseconds, and word of each would keep scheduler and stage busy on a
    core that trains; so it goes out twice a second at most.
    """

    def __init__(self, job: Job, files: Files, topic: str) -> None:
        self.path, self.files, self.topic = files.folder / _CHECKPOINT, files, topic
        self.identity, self.end = job.identity, job.until or job.epochs
        self.saved = self.announced = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """The state to go on from: a killed run's, or that of a shorter training.

        None, from the beginning, where there is none that is whole.
        """
        import torch

        for path in (self.path, self.files.resume):
            payload = path and sealed.read_bytes(path)
            if payload:
                # Optimisers keep their step counts on the CPU and take the rest to the weights.
                state: dict[str, Any] = torch.load(
                    io.BytesIO(payload), map_location="cpu", weights_only=True
                )
                return state
        return None

    def __call__(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if now - self.announced > _ANNOUNCE_SECONDS:
            compute.announce(self.topic, self.identity, snapshot.epoch)
            self.announced = now
        if snapshot.epoch == self.end and self.files.state is not None:
            self._write(snapshot, self.files.state)
        elif snapshot.epoch < self.end and now - self.saved > _CHECKPOINT_SECONDS:
            self._write(snapshot, self.path)
            self.saved = now

    def _write(self, snapshot: Snapshot, path: Path) -> None:
        import torch

        buffer = io.BytesIO()
        torch.save(snapshot.state(), buffer)
        sealed.write_bytes(path, buffer.getvalue())

    def done(self) -> None:
        self.path.unlink(missing_ok=True)


def _described(slot: Slot, failure: str | None) -> dict[str, Any]:
    """A slot for the record; a failed run's parameters may be NaN and mean nothing."""
    if failure is not None:
        return {"operator": slot.operator, "alpha": None, "beta": None, "own": {}}
    return slot.describe()
