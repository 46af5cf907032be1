"""The workbench of a training stage: finished work is kept, the rest runs on the pool.

DVC keeps a stage's folder over a rerun (``persist``), and the identity of each artefact
(:mod:`pipelines.storage.artefacts`) decides file by file what is still valid: an added replicate
trains alone, a changed input or a damaged file reuses nothing, and a clone that pulled the folder
reads it back.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines import compute
from pipelines.config.pair import Pair
from pipelines.config.study import Study
from pipelines.engine import recorded
from pipelines.engine.progress import EpochProgress
from pipelines.engine.starts import PrunedStart
from pipelines.storage import artefacts, folds, layout, scratch, sources
from pipelines.storage.scratch import Journal
from pipelines.tasks import training
from pipelines.tasks.jobs import Files, Job
from pipelines.tasks.shared import WEIGHTS, multiply_adds
from safs.errors import SafsError
from safs.files import copy
from safs.rows import Trace, Trained
from safs.sealed import Json, digest
from safs.seeds import Phase
from safs.spec import BackendName, Recipe

if TYPE_CHECKING:
    from safs.method.stage1 import Searched
    from safs.method.stage2 import Tuned

T = TypeVar("T")
_AT_ONCE = 512
"""Units of a stage that are under way at a time: each has a thread, and a process has few."""


class _Once(cached_property[T]):
    """A cached property of a :class:`Work` that its threads make once, one waiting for another."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        name, made = self.func.__name__, instance.__dict__
        with instance.lock:
            if name not in made:
                made[name] = self.func(instance)
            return made[name]


def place_of(pool: compute.Pool, pair: Pair, backend: BackendName) -> compute.Place | None:
    """The kind of worker that trains a pair; None where all have the same device."""
    if pool.placement is None:
        return None
    return compute.place(pool.run(multiply_adds, pair.network, pair.dataset.name), backend)


class Work:
    """One run of one stage for a pair (and a ratio).

    Args:
        study: the checked parameters.
        stage: name of the stage, and of its folder under ``runs/<profile>/``.
        pair: name of the pair.
        ratio: pruning ratio, or None for stages per pair.
        epochs: epochs that the trainings of a replicate have together, for the progress display.
        title: what the display calls it, if not by the stage's name.
    """

    def __init__(
        self,
        study: Study,
        stage: str,
        pair: str,
        ratio: float | None = None,
        epochs: int = 0,
        title: str = "",
    ) -> None:
        self.study, self.stage, self.pair_name, self.ratio = study, stage, pair, ratio
        self.pair: Pair = study.pairs[pair]
        self.out = self.folder(stage, ratio)
        self.out.mkdir(parents=True, exist_ok=True)
        self.recorded = recorded.replicates(study, pair, self.out)
        self._named: set[str] = set(recorded.note(self.out, self.recorded))
        self.lock = threading.RLock()
        self._began: dict[int, tuple[str, Path] | None] = {}
        at = f" {ratio:g}" if ratio is not None else ""
        title, total = f"{title or stage} {pair}{at}", epochs * len(self.replicates)
        self.progress = EpochProgress(title, total, dense=stage == "pretrain")
        self.pool = compute.Pool(self.progress.epoch)

    def __enter__(self) -> Work:
        self.progress.__enter__()
        self.pool.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.__exit__(*error)
        self.progress.__exit__(*error)
        if error[0] is None:
            for path in self.out.iterdir():
                if path.name not in self._named:
                    scratch.remove(path)

    def code(self, operators: Iterable[str] | None, recipe: Recipe) -> str:
        """Fingerprint of the code that a training of this pair runs; None is a dense one."""
        network, dataset = self.pair.network.name, self.pair.dataset.name
        used = (recipe.optimizer, recipe.schedule)
        return sources.training_code(network, dataset, operators or (), *used)

    @_Once
    def data(self) -> str:
        """Checksum of the training images."""
        return recorded.checksum(self.pair.dataset.name, "train")

    @_Once
    def test_data(self) -> str:
        """Checksum of the test images (their bytes; nothing is evaluated on them)."""
        return recorded.checksum(self.pair.dataset.name, "test")

    def evaluation(self, operators: Iterable[str]) -> str:
        """Fingerprint of the code that evaluates and counts a network with these operators."""
        entries = [sources.Registered("operator", name) for name in operators]
        network = sources.Registered("network", self.pair.network.name)
        files = ("safs/training/evaluation.py", "safs/pruning/compression.py")
        return sources.of(*files, entries=[network, *entries])

    @_Once
    def place(self) -> compute.Place | None:
        """The kind of worker that trains this pair; None where all have the same device."""
        return place_of(self.pool, self.pair, self.study.profile.backend)

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run one task on a worker for this pair and wait for its result."""
        return self.pool.run(function, *arguments, place=self.place)

    @_Once
    def worker(self) -> training.Worker:
        """What the workers are."""
        trained = (self.pair.network, self.pair.dataset.name, self.pair.search.operators)
        found = self.run(training.worker, self.study.profile.backend, *trained)
        wanted = compute.gpus_wanted(self.pool.where) and self.place != "cpu"
        if wanted and found.where["device"] == "cpu":
            self.progress.notice("PyTorch sees none of this host's GPUs: training on the CPU")
        return found

    def folder(self, stage: str, ratio: float | None) -> Path:
        """The folder of a stage of this pair."""
        return layout.folder(self.study.profile.profile, stage, self.pair_name, ratio)

    @property
    def replicates(self) -> list[int]:
        """The replicates to train: those whose records do not stand for them already."""
        return [r for r in range(self.study.profile.replicates) if r not in self.recorded]

    def named(self, name: str) -> Path:
        """The path of a file of this stage; what is not named is removed at the stage's end."""
        self._named.add(name)
        return self.out / name

    def each(self, function: Callable[..., T], units: Iterable[tuple[Any, ...]]) -> list[T]:
        """Call ``function`` on every unit, many at once in threads that wait for the pool.

        Every unit is carried to its end before the first error is raised: no work is lost.
        """
        units, most = list(units), max(_AT_ONCE, self.pool.where.count)
        with ThreadPoolExecutor(max_workers=min(max(1, len(units)), most)) as drivers:
            futures = [drivers.submit(function, *unit) for unit in units]
        return [future.result() for future in futures]

    def job(self, replicate: int, phase: Phase, recipe: Recipe, epochs: int, **more: Any) -> Job:
        """A job of this pair."""
        return Job(
            code=self.code(more.get("chromosome"), recipe),
            data=self.data,
            network=self.pair.network,
            dataset=self.pair.dataset.name,
            seed=self.study.profile.seed,
            replicate=replicate,
            phase=phase,
            backend=self.study.profile.backend,
            acceleration=self.study.profile.acceleration,
            recipe=recipe,
            epochs=epochs,
            **more,
        )

    def keep(self, name: str, identity: str, make: Callable[[Path], Json], epochs: int = 0) -> Json:
        """The artefact ``name``, made only if none with this identity exists.

        Args:
            name: file name without ending inside the stage's folder.
            identity: digest of everything the artefact is made from.
            make: called with a scratch folder of its own, keyed by identity and bits; writes the
                weights there, if any, and returns the content.
            epochs: what the artefact counts in the progress display where it need not be made.

        Returns:
            The artefact.
        """
        target, weights = self.named(f"{name}.json"), self.named(f"{name}.safetensors")
        found = artefacts.finished(target, identity)
        if found is None:
            self._stay_on_device(int(name.rpartition("-r")[2]))
            key = digest([identity, self.worker.bits])
            folder = layout.SCRATCH.resolve() / self.stage / key[:32]
            folder.mkdir(parents=True, exist_ok=True)
            made = folder / "artefact.json"
            with scratch.locked(folder / "lock"):  # another stage or profile may want the same
                found = artefacts.finished(made, identity)
                if found is None:
                    epochs = 0
                    found = artefacts.write(made, make(folder), identity)
            target.unlink(missing_ok=True)
            weights.unlink(missing_ok=True)
            if found["weights"] is not None:
                copy(folder / WEIGHTS, weights)
            copy(made, target)
        if epochs:
            self.progress.finished(identity, epochs, kept=True)
        return found

    def _stay_on_device(self, replicate: int) -> None:
        """Refuse to go on with a replicate on another kind of device than its arms began on.

        The tables would refuse to compare such arms, but only after they were trained.

        Raises:
            SafsError: naming a training of another kind of device.
        """
        if self.ratio is None or self.stage == "prune":
            return
        if replicate not in self._began:
            self._began[replicate] = self._first_trained(replicate)
        began, own = self._began[replicate], self.worker.where["device"]
        if began is not None and began[0] != own:
            runs = f"runs/{self.study.profile.profile}"
            raise SafsError(
                f"{self.pair_name}, replicate {replicate}: {began[1]} was trained on {began[0]}, "
                f"and the workers have {own}; a replicate stays on one kind of "
                f"device: set SAFS_DEVICE={began[0]}, or move {runs} away"
            )

    def _first_trained(self, replicate: int) -> tuple[str, Path] | None:
        """The kind of device of a final training of this replicate's dense network, if any."""
        dense = artefacts.read(self.dense(replicate))
        for stage in ("baselines", "search", "tune", "fast", "activations"):
            for path in sorted(self.folder(stage, None).glob(f"*/*-r{replicate}.json")):
                with suppress(SafsError):  # its own stage makes it again
                    content = artefacts.read(path)
                    if self._current(content, dense["weights"]) and not artefacts.died(content):
                        return str(content["result"]["bits"]["device"]), path
        return None

    def _current(self, content: Json, dense: str) -> bool:
        """Whether an artefact is a training of that dense network by today's code."""
        job = content.get("job")
        if job is None or job["dense"] != dense:
            return False
        return bool(job["code"] == self.code(job["chromosome"], Recipe(**job["recipe"])))

    def train(self, name: str, job: Job, files: Files) -> Json:
        """A dense or final training as an artefact: its job, result and weights.

        A dense one says under ``fold`` which images its replicate has
        (:func:`pipelines.storage.folds.identity`).
        """

        def make(folder: Path) -> Json:
            there = files.model_copy(update={"folder": folder, "keep_weights": True})
            result = self.trained(job, there)
            self.progress.finished(job.identity, job.epochs)
            made = {"job": job.model_dump(mode="json"), "result": result.to_plain()}
            return made if job.chromosome is not None else made | {"fold": self._fold(job)}

        return self.keep(name, job.identity, make, job.epochs)

    def trial(self, journal: Journal, job: Job, files: Files, epochs: int | None = None) -> Trained:
        """One training inside a search, answered from the journal where it stands there.

        ``epochs`` is what it counts in the progress display, if that is not all of the job's.
        """
        known = journal.get(job.identity)
        if known is not None:
            result = Trained.model_validate(known)
        else:
            there = files.model_copy(update={"folder": journal.path.parent / job.identity[:16]})
            result = self.trained(job, there)
            if not artefacts.died(result.failure):
                journal.add(job.identity, result.to_plain())
                shutil.rmtree(there.folder, ignore_errors=True)
        self.progress.finished(job.identity, epochs or job.epochs, kept=known is not None)
        return result

    def noted(
        self, found: Searched | Tuned, replicate: int, trace: type[Trace], rows: str, **head: Any
    ) -> Json:
        """What a stage of the method found: its rows as a trace, and the seconds they took."""
        cell = {"pair": self.pair_name, "ratio": self.ratio, "replicate": replicate}
        made = trace(best=found.best, **{rows: found.rows}, **cell, **head)
        return {"seconds": found.seconds, "trace": made.to_plain()}

    def trained(self, job: Job, files: Files) -> Trained:
        """One training; if its worker dies, and the next one too, its result is a failure.

        Such a failure counts as a failed run but never as finished work: a rerun tries again.
        """
        try:
            result = self.run(training.train, job, files, self.pool.topic)
        except compute.WorkerDied as death:
            self.progress.notice(f"{death}; the workers' logs are in scratch/logs")
            return self.untrained(str(death))
        self.progress.notice(result.notice)
        return result

    def _fold(self, job: Job) -> str:
        data = compute.data_directory()
        return folds.identity(job.dataset, job.replicate, job.seed, job.data, data)

    def untrained(self, failure: str) -> Trained:
        """The result of a training that did not take place."""
        return Trained(
            failure=failure,
            seconds=0.0,
            backend="none",
            history=(),
            kept=0,
            bits=self.worker.bits,
            where=self.worker.where,
        )

    def dense(self, replicate: int) -> Path:
        """The artefact of a replicate's dense network, made by the stage ``pretrain``."""
        return self.folder("pretrain", None) / f"dense-r{replicate}.json"

    def start(self, replicate: int, ratio: float | None = None) -> PrunedStart:
        """The pruned checkpoint of a replicate, at this stage's ratio or the given one."""
        at = self.ratio if ratio is None else ratio
        return PrunedStart(
            self.dense(replicate), self.folder("prune", at) / f"mask-r{replicate}.json"
        )
