"""What a training starts from: the dense network and the mask of a replicate, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines import compute
from pipelines.storage import artefacts, layout
from pipelines.tasks.jobs import Files


class PrunedStart:
    """Dense network and mask that every arm of a (replicate, ratio) starts from.

    Attributes:
        inputs: the digests that identify both, as fields of a job.
        paths: where they are, as fields of a job's files.
        default: the operators of the dense network, one per slot.
        slots: the names of its slots.
        failure: why there is no checkpoint, or None.
    """

    def __init__(self, dense: Path, mask: Path) -> None:
        trained, pruned = artefacts.whole(dense), artefacts.whole(mask)
        places: list[dict[str, Any]] = trained["result"]["slots"]
        self.slots = tuple(str(slot["name"]) for slot in places)
        self.default = tuple(str(slot["operator"]) for slot in places)
        self.failure: str | None = pruned["failure"]
        self.inputs = {"dense": trained["weights"], "mask": pruned["weights"]}
        self.paths = {
            "dense": artefacts.weights_of(dense).resolve(),
            "mask": artefacts.weights_of(mask).resolve(),
        }

    def files(self) -> Files:
        """Files of a job that starts here; the scratch folder is set when it runs."""
        return files(**self.paths)


def files(**paths: Path) -> Files:
    """Files of a job; the scratch folder is set when it runs."""
    shared = layout.SCRATCH.resolve() / "folds"
    return Files(folder=Path(), data=compute.data_directory(), folds=shared, **paths)
