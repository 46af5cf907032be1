"""The final network of a run, found from its record or artefact, as safetensors and ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pipelines.storage import artefacts
from pipelines.storage.behind import Behind
from pipelines.tasks.shared import empty
from safs import sealed
from safs.checked import MAX_BYTES, validated
from safs.errors import SafsError
from safs.files import read_text, write_json
from safs.spec import Count, Fraction, Name, NetworkSpec, Spec, Text

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
    content = artefacts.whole(place)
    if (failure := content["result"]["failure"]) is not None:
        raise SafsError(f"{place}: the run failed, it has no network: {failure}")
    # Read field by field: artefacts outlive changes of what a job consists of.
    job, result = content["job"], content["result"]
    network = empty(NetworkSpec.model_validate(job["network"]), job["dataset"])
    operators = [slot["operator"] for slot in result["slots"]]
    slots.fill(network, operators, scaled=job["scaled"])
    network.load_state_dict(load_file(artefacts.weights_of(place)))
    done = write(network, DATASETS[job["dataset"]].shape, folder)
    about = {"job": job, "slots": result["slots"], "weights": content["weights"]}
    write_json(folder / ABOUT, about | {"difference": done.difference})
    return done


def artefact(source: Path) -> Path:
    """The artefact's JSON file behind ``source``, which is one already or a record.

    Of a record's final trainings it is the first.

    Raises:
        SafsError: ``source`` is neither.
    """
    read_text(source, MAX_BYTES)  # no pipe, which would never end
    if "records_file" in sealed.read_object(source):
        raise SafsError(f"{source}: records of many runs, without weights; expected one of runs/")
    content = artefacts.read(source)
    if {"job", "result", "weights"} <= set(content):
        return source
    if not set(_Run.model_fields) <= set(content):
        raise SafsError(f"{source}: neither a record nor the artefact of a training")
    run = validated(_Run, {key: content[key] for key in _Run.model_fields}, source)
    return Behind(run.profile, run.pair, run.ratio, run.arm, run.replicate).finals[0]


_PART = "[A-Za-z0-9][-._A-Za-z0-9]*"
"""Of a profile's name: those of readings have several."""


class _Run(Spec):
    """Which run a record is of: older ones too, of which no more is read."""

    profile: Annotated[str, Field(pattern=rf"^{_PART}(/{_PART})*$")]
    pair: Name
    ratio: Fraction
    replicate: Count
    arm: Text
