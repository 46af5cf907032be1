"""A result as files: weights, and a report that knows the digests of both."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from safs import checked
from safs.api.export import WEIGHTS, save_state
from safs.api.report import Report
from safs.errors import SafsError
from safs.files import replacing, write_json

REPORT = "report.json"


class Digests(BaseModel):
    """SHA-256 of the file of weights, and of the report as canonical JSON without these."""

    model_config = ConfigDict(extra="forbid")

    weights: str
    report: str


class Saved(Report):
    """A report in its file."""

    sha256: Digests


def write(place: Path, network: nn.Module, report: Report) -> Path:
    """Both files, each whole or absent; a report of one saving never meets weights of another."""
    with replacing(place / WEIGHTS) as temporary:
        save_state(network, temporary)
    plain = report.to_plain()
    digests = {"weights": _sha256(place / WEIGHTS), "report": _canonical(plain)}
    write_json(place / REPORT, {**plain, "sha256": digests})
    return place


def read_report(place: Path) -> Saved:
    """The report of a saved result.

    Raises:
        SafsError: it is missing, damaged, or of another version.
    """
    file = place / REPORT
    try:
        content: Any = json.loads(_bytes(file))
    except ValueError as error:
        raise SafsError(f"{file}: damaged, this is no whole JSON file: {error}") from None
    wanted = Report.model_fields["schema_"].default
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != wanted:
        found = f"schema {schema}, expected {wanted}"
        raise SafsError(f"{file}: of another version ({found}); save the result again")
    report = checked.parsed(Saved, json.dumps(content), file)
    if _canonical({k: v for k, v in content.items() if k != "sha256"}) != report.sha256.report:
        raise SafsError(f"{file}: damaged or edited: its content is not the one that was saved")
    return report


def read_weights(place: Path, report: Saved) -> dict[str, Tensor]:
    """The state that was saved with a report.

    Raises:
        SafsError: it is missing or damaged.
    """
    from safetensors.torch import load

    file = place / WEIGHTS
    content = _bytes(file)
    if hashlib.sha256(content).hexdigest() != report.sha256.weights:
        raise SafsError(f"{file}: damaged: its content is not the one that was saved")
    return load(content)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise SafsError(f"{file}: {reason}; Result.save writes it") from None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _canonical(plain: dict[str, Any]) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
