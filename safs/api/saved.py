"""A result as files: weights, and a sealed report that knows their digest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from torch import Tensor, nn

from safs import checked, sealed
from safs.api.export import WEIGHTS, state_of
from safs.api.report import Report
from safs.errors import SafsError
from safs.files import json_text, replacing
from safs.rows import Row

REPORT = "report.json"


class SavedSlot(Row):
    """What is needed of a slot to fill it again; the rest is in the weights."""

    model_config = ConfigDict(extra="ignore")

    name: str
    operator: str


class Saved(Report):
    """A report in its file: with the digest of the weights' file, and of its own content."""

    slots: Annotated[list[SavedSlot], Field(min_length=1)]  # type: ignore[assignment]
    weights: str
    digest: str


def write(place: Path, network: nn.Module, report: Report) -> Path:
    """Both files; a report of one saving never meets weights of another.

    What was saved there before stays whole until both are written.

    Raises:
        SafsError: the folder cannot be written to.
    """
    try:
        with replacing(place / REPORT) as told, replacing(place / WEIGHTS) as weights:
            weights.write_bytes(state_of(network))
            content = {**report.to_plain(), "weights": sealed.file_digest(weights)}
            told.write_text(json_text(sealed.seal(content)), encoding="utf-8")
    except OSError as error:
        raise SafsError(f"{place}: cannot be written: {error.strerror or error}") from error
    return place


def read_report(place: Path) -> Saved:
    """The report of a saved result.

    Raises:
        SafsError: it is missing, damaged, or of another version.
    """
    file = place / REPORT
    try:
        schema = sealed.read_object(file).get("schema")
        wanted = Report.model_fields["schema_"].default
        if schema != wanted:
            found = f"schema {schema!r}, expected {wanted}"
            raise SafsError(f"{file}: of another version ({found}); make and save the result again")
        return checked.validated(Saved, sealed.read(file), file)
    except OSError as error:
        raise _unread(file, error) from None


def read_weights(place: Path, report: Saved) -> dict[str, Tensor]:
    """The state that was saved with a report.

    Raises:
        SafsError: it is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = place / WEIGHTS
    try:
        whole = sealed.file_digest(file) == report.weights
    except OSError as error:
        raise _unread(file, error) from None
    if not whole:
        raise SafsError(f"{file}: damaged or edited: not the weights that were saved")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise SafsError(f"{file}: not safetensors: {error}") from None


def _unread(file: Path, error: OSError) -> SafsError:
    return SafsError(f"{file}: {(error.strerror or str(error)).lower()}; Result.save writes it")
