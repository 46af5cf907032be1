"""What runs on workers: the only functions of the pipeline that touch torch.

Each imports torch inside, so a stage that submits them stays light.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.engine import compute
from pipelines.engine.jobs import Files, Job, Result
from pipelines.engine.scratch import write_atomically
from safs.spec import Acceleration, BackendName, NetworkSpec, Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pipelines.config import Prune
    from safs.data import Fold
    from safs.pruned import Pruned
    from safs.slots import Slot
    from safs.training import Snapshot

WEIGHTS = "weights.safetensors"
_CHECKPOINT = "checkpoint.pt"
_CHECKPOINT_SECONDS = 20.0
_ANNOUNCE_SECONDS = 0.5
_FEW_IMAGES, _LONG_ENOUGH = 32, 0.5  # of a timed epoch: images, seconds


def bits(backend: BackendName) -> dict[str, str]:
    """What decides the bits of a result on this worker, in plain strings.

    PyTorch's version is a class of PyTorch's: a stage that received it would import all of PyTorch.
    """
    from safs.device import bit_identity

    return {key: str(value) for key, value in bit_identity(_device(), backend).items()}


def train(job: Job, files: Files, topic: str) -> Result:
    """Run one training, from its checkpoint if a killed run left one.

    Args:
        job: what to train.
        files: where inputs and scratch are.
        topic: where finished epochs are announced.
    """
    from safs.data import BatchOrder
    from safs.device import peak_memory, reset_peak
    from safs.slots import slots
    from safs.training import train as run

    device = _device()
    fold = _fold(job, files)
    foreign = reset_peak(device) - fold.bytes  # images of other replicates, kept on the device
    network, mask = _starting_point(job, files, fold)
    checkpoint = _Checkpoint(job, files, topic)
    outcome = run(
        network.to(device),
        fold,
        job.recipe,
        job.epochs,
        BatchOrder(job.seed, job.replicate, job.phase),
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
        _save(network.state_dict(), files.folder / WEIGHTS)
    checkpoint.done()
    return {
        "failure": outcome.failure,
        "seconds": outcome.seconds,
        "backend": outcome.backend,
        "notice": outcome.notice,
        "history": [_finite(asdict(entry)) for entry in outcome.history],
        "kept": outcome.kept,
        "memory": peak_memory(device, foreign),
        "slots": [
            {"name": name, **_described(slot, outcome.failure)}
            for name, slot in slots(network).items()
        ],
        "bits": bits(job.backend),
    }


def predict(
    job: Job,
    files: Files,
    chromosomes: Sequence[Sequence[str]],
    names: Sequence[str],
    images: int,
) -> dict[str, Any]:
    """What predictors say of chromosomes, without training any.

    Args:
        job: a training of the pruned checkpoint that the chromosomes are for.
        files: where its dense network and mask are.
        chromosomes: operators per slot.
        names: registered predictors.
        images: size of the batch of training images that they look at.

    Returns:
        ``scores``, a dict by predictor for each chromosome (None is the worst), ``epochs``, the
        images passed over those of a training epoch, and ``seconds``.
    """
    from safs.device import clock
    from safs.predictors import score
    from safs.pruning import scoring_batch

    now = clock(_device())
    started = now()
    fold = _fold(job, files)
    batch = scoring_batch(fold.train, images, job.seed, job.replicate)
    scores = []
    for chromosome in chromosomes:
        candidate = job.model_copy(update={"chromosome": tuple(chromosome)})
        network, _ = _starting_point(candidate, files, fold)
        scores.append(_finite(score(names, network, **batch)))
    return {
        "scores": scores,
        "epochs": len(scores) * len(batch["labels"]) / len(fold.train),
        "seconds": now() - started,
    }


def prune(
    network: NetworkSpec,
    dataset: str,
    dense: Path,
    ratio: float,
    settings: Prune,
    key: tuple[int, int],
    target: Path,
    given: Path | None = None,
) -> dict[str, Any]:
    """Write the mask of a dense network; return its counts and connectivity.

    Args:
        network, dataset, dense: the trained network.
        ratio: pruning ratio.
        settings: method, scope and what they need.
        key: root seed and replicate, for methods that look at training images or draw numbers.
        target: where the mask goes.
        given: the mask file of the method ``given``.
    """
    import torch

    from safs import pruning, seeds
    from safs.datasets import DATASETS, load_part

    model = load_dense(network, dataset, dense)
    seed, replicate = key
    mask = pruning.prune(
        model,
        ratio,
        settings.method,
        scope=settings.scope,
        spare=settings.spare,
        shape=DATASETS[dataset].shape,
        rng=seeds.generator(seed, "prune", replicate),
        given=given,
        **_scoring_batch(dataset, settings, seed, replicate),
    )
    _save({name: keep.to(torch.uint8) for name, keep in mask.items()}, target)
    labels = load_part(dataset, "train", compute.data_directory()).labels
    links = pruning.connectivity(model, mask, DATASETS[dataset].shape, labels)
    return {
        "layers": {
            name: {"total": keep.numel(), "kept": int(keep.sum())} for name, keep in mask.items()
        },
        "connectivity": {
            "connected": list(links.connected),
            "classes": links.classes,
            "cap": links.cap,
        },
    }


def _scoring_batch(
    dataset: str, settings: Prune, seed: int, replicate: int
) -> dict[str, torch.Tensor]:
    """Training images of the replicate and their labels, for a method that looks at any."""
    from safs.data import load_fold
    from safs.pruners import PRUNERS, needs
    from safs.pruning import scoring_batch

    if "images" not in needs(PRUNERS[settings.method]):
        return {}
    train = load_fold(dataset, replicate, seed, _device(), compute.data_directory()).train
    return scoring_batch(train, settings.images, seed, replicate)


def evaluate(
    network: NetworkSpec,
    dataset: str,
    weights: Path,
    chromosome: tuple[str, ...],
    learned: dict[str, bool],
    data: Path | None,
) -> dict[str, Any]:
    """Open the test images once for one trained network; count what it is made of.

    Args:
        network, dataset, weights: the trained network.
        chromosome: the operators in its slots.
        learned: which activation parameters were learned (``scaled``, ``train_own``).
        data: folder of downloaded data sets.
    """
    from safs import compression, evaluation, slots
    from safs.datasets import DATASETS
    from safs.networks import prunable

    device = _device()
    model = empty(network, dataset)
    slots.fill(model, chromosome, **learned)
    model.load_state_dict(_load(weights))
    result = evaluation.test(model.to(device), dataset, device, data)
    kept = {name: weight.detach().cpu() != 0 for name, weight in prunable(model).items()}
    size = compression.account(model, kept, DATASETS[dataset].shape)
    return {
        "test": {
            "images": len(result.correct),
            "top1": result.top1,
            "top5": result.top5,
            "loss": result.loss if math.isfinite(result.loss) else None,
            "correct": result.correct.tolist(),
        },
        "parameters": {
            "total": size.parameters + size.activation,
            "nonzero": size.nonzero + size.activation,
            "prunable": sum(layer.weights for layer in size.layers),
            "activation": size.activation,
            "layers": {
                layer.name: {"total": layer.weights, "kept": layer.kept} for layer in size.layers
            },
        },
        "macs": {"dense": size.macs, "sparse": size.sparse_macs},
    }


def epoch_seconds(
    network: NetworkSpec,
    dataset: str,
    recipe: Recipe,
    ratio: float | None,
    backend: BackendName,
    acceleration: Acceleration,
    images: int,
) -> float:
    """Measured seconds of one training epoch of ``images`` images here, for plans.

    Random images of the right shape do, so the data set need not be here. A few images are timed,
    two batches where those take less than half a second, and twenty where these do, each after a
    first epoch that is not.

    Args:
        network, dataset, recipe: of the pair.
        ratio: pruning ratio, None for dense training.
        backend: who trains.
        acceleration: how PyTorch computes its steps.
        images: size of the fold's training part, to which the measured time is scaled.
    """
    seconds, count = 0.0, 1
    for enough in (_FEW_IMAGES, 2 * recipe.batch_size, 20 * recipe.batch_size):
        count = min(images, enough)
        how = (recipe, ratio, backend, acceleration)
        seconds = _timed_epoch(network, dataset, *how, count)
        if seconds >= _LONG_ENOUGH:
            break
    return seconds * images / count


def _timed_epoch(
    network: NetworkSpec,
    dataset: str,
    recipe: Recipe,
    ratio: float | None,
    backend: BackendName,
    acceleration: Acceleration,
    count: int,
) -> float:
    from safs.data import BatchOrder
    from safs.pruning import apply
    from safs.pruning import prune as make_mask
    from safs.training import train as run

    device = _device()
    model = empty(network, dataset)
    still = recipe.model_copy(update={"lr": 1e-9})  # noise teaches nothing and must not diverge
    mask = None if ratio is None else make_mask(model, ratio)
    if mask is not None:
        apply(mask, model)
    ends: list[float] = []
    run(
        model.to(device),
        random_fold(dataset, count, device),
        still,
        2,
        BatchOrder(0, 0, "final"),
        mask=mask,
        backend=backend,
        acceleration=acceleration,
        on_epoch=lambda _: ends.append(time.perf_counter()),
    )
    return ends[1] - ends[0]


def random_fold(dataset: str, count: int, device: torch.device) -> Fold:
    """Noise of a data set's shape; validation is one image, so that it costs nothing."""
    import torch

    from safs.data import Fold, Images
    from safs.datasets import DATASETS

    entry = DATASETS[dataset]
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *entry.shape), dtype=torch.uint8, generator=noise)
    labels = torch.randint(0, entry.classes, (count,), generator=noise)
    centre = torch.full((entry.shape[0], 1, 1), 0.5)

    def images(chosen: slice) -> Images:
        parts = (pixels[chosen], labels[chosen], centre, centre)
        return Images(*(part.to(device) for part in parts))

    return Fold(images(slice(None)), images(slice(0, 1)), entry.augmentation, entry.classes)


def empty(network: NetworkSpec, dataset: str, *, seed: int = 0, replicate: int = 0) -> nn.Module:
    """A freshly initialised network for a data set."""
    from safs.datasets import DATASETS
    from safs.networks import build

    entry = DATASETS[dataset]
    return build(
        network.name,
        entry.shape,
        entry.classes,
        root=seed,
        replicate=replicate,
        options=network.options,
    )


def load_dense(network: NetworkSpec, dataset: str, path: Path) -> nn.Module:
    """A trained dense network with its default operators, on the CPU."""
    model = empty(network, dataset)
    model.load_state_dict(_load(path))
    return model


def _starting_point(job: Job, files: Files, fold: Fold) -> tuple[nn.Module, Any]:
    """The network a job starts from, on the fold's device, and its mask."""
    if job.chromosome is None:
        return empty(job.network, job.dataset, seed=job.seed, replicate=job.replicate), None
    assert files.dense is not None and files.mask is not None
    pruned = _pruned(job.network, job.dataset, files.dense, files.mask, str(_device()))
    network = pruned.network(job.chromosome, fold.train, scaled=job.scaled, train_own=job.train_own)
    return network, pruned.mask


def _pruned(
    network: NetworkSpec, dataset: str, dense: Path, mask_file: Path, device: str
) -> Pruned:
    from safs.pruned import Pruned

    mask = {name: keep.bool() for name, keep in _load(mask_file).items()}
    return Pruned(load_dense(network, dataset, dense).to(device), mask)


def _fold(job: Job, files: Files) -> Fold:
    """The images of a job, on this worker's device."""
    key = (job.dataset, job.replicate, job.seed, job.data)
    return _fold_of(key, str(_device()), files.data, files.folds)


@lru_cache(maxsize=2)
def _fold_of(
    key: tuple[str, int, int, str], device: str, data: Path | None, folder: Path | None
) -> Fold:
    import torch

    from pipelines.engine import folds

    return folds.load(*key, torch.device(device), data, folder)


def _device() -> torch.device:
    """This worker's device, prepared: with several GPUs each worker takes its own."""
    import torch

    from safs.device import pick, prepare

    device = pick(compute.device_name())
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", compute.worker_number() % torch.cuda.device_count())
    prepare(device)
    return device


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
        """The state to go on from: a killed run's, or that of a shorter training."""
        import torch

        for path in (self.path, self.files.resume):
            if path is not None and path.exists():
                # Optimisers keep their step counts on the CPU and take the rest to the weights.
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
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

        state = snapshot.state()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda temporary: torch.save(state, temporary))

    def done(self) -> None:
        self.path.unlink(missing_ok=True)


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: save_file(plain, temporary))


def _load(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _described(slot: Slot, failure: str | None) -> dict[str, Any]:
    """A slot for the record; a failed run's parameters may be NaN and mean nothing."""
    if failure is not None:
        return {"operator": slot.operator, "alpha": None, "beta": None, "own": {}}
    return slot.describe()


def _finite(entry: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: a flow that is not finite becomes None."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in entry.items()
    }
