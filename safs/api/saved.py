"""A result as files: weights, and a sealed report that knows their digest."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from safs import checked, sealed
from safs.api.export import WEIGHTS, save_state
from safs.api.report import Report
from safs.errors import SafsError

REPORT = "report.json"


class Saved(Report):
    """A report in its file: with the digest of the weights' file, and of its own content."""

    weights: str
    digest: str


def write(place: Path, network: nn.Module, report: Report) -> Path:
    """Both files, each whole or absent; a report of one saving never meets weights of another.

    Raises:
        SafsError: the folder cannot be written to.
    """
    try:
        save_state(network, place / WEIGHTS)
        weights = sealed.file_digest(place / WEIGHTS)
        sealed.write(place / REPORT, {**report.to_plain(), "weights": weights})
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
    from safetensors.torch import load_file

    file = place / WEIGHTS
    try:
        whole = sealed.file_digest(file) == report.weights
    except OSError as error:
        raise _unread(file, error) from None
    if not whole:
        raise SafsError(f"{file}: damaged or edited: not the weights that were saved")
    return load_file(file)


def _unread(file: Path, error: OSError) -> SafsError:
    return SafsError(f"{file}: {(error.strerror or str(error)).lower()}; Result.save writes it")
