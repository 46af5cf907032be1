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
    """Both files, each whole or absent; a report of one saving never meets weights of another.

    Raises:
        SafsError: the folder cannot be written to.
    """
    plain = report.to_plain()
    try:
        with replacing(place / WEIGHTS) as temporary:
            save_state(network, temporary)
        weights = hashlib.sha256((place / WEIGHTS).read_bytes()).hexdigest()
        write_json(place / REPORT, {**plain, "sha256": {"weights": weights, "report": _of(plain)}})
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
        content: Any = json.loads(_bytes(file))
    except (ValueError, RecursionError) as error:
        raise SafsError(f"{file}: damaged, this is no whole JSON file: {error}") from None
    if not isinstance(content, dict):
        raise SafsError(f"{file}: damaged: a {type(content).__name__}, expected a JSON object")
    wanted = Report.model_fields["schema_"].default
    if content.get("schema") != wanted:
        found = f"schema {content.get('schema')!r}, expected {wanted}"
        raise SafsError(f"{file}: of another version ({found}); make and save the result again")
    digests = content.get("sha256")
    plain = {key: value for key, value in content.items() if key != "sha256"}
    if not isinstance(digests, dict) or digests.get("report") != _of(plain):
        raise SafsError(f"{file}: damaged or edited: its content is not the one that was saved")
    return checked.validated(Saved, content, file)


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


def _of(plain: dict[str, Any]) -> str:
    """The digest of plain data, as canonical JSON."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
