"""What one training reads (a job), and where the files are."""

from __future__ import annotations

from pathlib import Path

from safs.sealed import digest
from safs.seeds import Phase
from safs.spec import Acceleration, BackendName, KeptEpoch, NetworkSpec, Recipe, Spec


class Job(Spec):
    """One training: exactly the inputs that decide its result, and so its identity.

    ``code`` and ``data`` are fingerprints; ``dense`` and ``mask`` are digests of the files' bytes.
    ``chromosome`` is None for a dense training. ``scaled`` learns alpha and beta, ``train_own`` the
    own parameters of Acon, SRS and TanhSoft-1. ``keep`` is the epoch whose weights are left;
    ``until`` ends a training early, under the schedule of all its epochs. ``final`` numbers the
    final trainings of an arm, which differ in batch order alone.
    """

    code: str
    data: str
    network: NetworkSpec
    dataset: str
    seed: int
    replicate: int
    phase: Phase
    backend: BackendName
    acceleration: Acceleration = Acceleration()
    recipe: Recipe
    epochs: int
    until: int | None = None
    validate_every: bool = False
    keep: KeptEpoch = "last"
    dense: str | None = None
    mask: str | None = None
    chromosome: tuple[str, ...] | None = None
    scaled: bool = False
    train_own: bool = False
    final: int = 0

    @property
    def identity(self) -> str:
        """Digest of all fields; the same on every machine."""
        return digest(self.model_dump(mode="json"))


class Files(Spec):
    """Where a job's inputs and scratch lie; changes no result and so is no part of the job.

    ``folder`` takes checkpoints and, where ``keep_weights``, the final weights. ``resume`` is the
    state that a shorter training of the same candidate left, from which this one goes on; ``state``
    is where this one leaves its own. ``folds`` is where workers share the images of a replicate;
    None shares none. ``data`` has the downloaded data sets.
    """

    dense: Path | None = None
    mask: Path | None = None
    folder: Path
    keep_weights: bool = False
    resume: Path | None = None
    state: Path | None = None
    data: Path | None = None
    folds: Path | None = None
