"""The final network of a run, found from its record or artefact, as safetensors and ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.engine import layout, scratch
from pipelines.tasks.shared import empty
from safs.errors import SafsError
from safs.files import write_json
from safs.spec import NetworkSpec

if TYPE_CHECKING:
    from safs.api.export import Exported

ABOUT = "about.json"


def export(source: Path, folder: Path) -> Exported:
    """Write ``model.safetensors``, ``model.onnx`` and ``about.json`` of a run.

    Args:
        source: a record, or the artefact of a final or dense training; run from the repository's
            root, where the artefact of a record is looked for.
        folder: where to write.

    Raises:
        SafsError: the file is neither, the run failed, or its weights are not there.
    """
    from safetensors.torch import load_file

    from safs import slots
    from safs.api.export import export as write
    from safs.datasets import DATASETS

    place = artefact(source)
    content = _read(place)
    weights = _weights(place, content)
    # Read field by field: artefacts outlive changes of what a job consists of.
    job, result = content["job"], content["result"]
    network = empty(NetworkSpec.model_validate(job["network"]), job["dataset"])
    operators = [slot["operator"] for slot in result["slots"]]
    slots.fill(network, operators, scaled=job["scaled"])
    network.load_state_dict(load_file(weights))
    done = write(network, DATASETS[job["dataset"]].shape, folder)
    about = {"job": job, "slots": result["slots"], "weights": content["weights"]}
    write_json(folder / ABOUT, about | {"difference": done.difference})
    return done


def artefact(source: Path) -> Path:
    """The artefact's JSON file behind ``source``, which is one already or a record.

    Raises:
        SafsError: ``source`` is neither, or the record's artefact is not here.
    """
    content = _read(source)
    if {"job", "result", "weights"} <= set(content):
        return source
    if not {"profile", "pair", "ratio", "replicate", "method"} <= set(content):
        raise SafsError(f"{source}: neither a record nor the artefact of a training")
    arm = content["method"]
    ratio = None if arm == "dense" else content["ratio"]
    place = layout.folder(content["profile"], layout.trained_in(arm), content["pair"], ratio)
    return place / f"{arm}-r{content['replicate']}.json"


def _weights(place: Path, content: dict[str, Any]) -> Path:
    failure, weights = content["result"]["failure"], place.with_suffix(".safetensors")
    if failure is not None:
        raise SafsError(f"{place}: the run failed, it has no network: {failure}")
    if not weights.is_file():
        raise SafsError(f"{weights}: no such file; it lies beside the artefact where a run made it")
    if scratch.file_digest(weights) != content["weights"]:
        raise SafsError(f"{weights}: not the weights that {place.name} was written with")
    return weights


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SafsError(f"{path}: no such file")
    try:
        content = scratch.read_json(path)
    except ValueError as error:
        raise SafsError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise SafsError(f"{path}: neither a record nor the artefact of a training")
    return content
