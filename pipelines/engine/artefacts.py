"""Reading what stages leave: an artefact's JSON, and the trace in it, checked."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pipelines.engine.scratch import Json, read_json
from safs.checked import validated
from safs.errors import SafsError
from safs.rows import Trace

T = TypeVar("T", bound=Trace)


def read(path: Path) -> Json:
    """An artefact. Raises SafsError with the file's name if it is no JSON object, or OSError."""
    try:
        content = read_json(path)
    except ValueError as error:
        raise SafsError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise SafsError(f"{path}: got a {type(content).__name__}; expected an object")
    return content


def trace(path: Path, kind: type[T]) -> T:
    """The trace in the artefact of a search. Raises SafsError, one line per fault, or OSError."""
    return validated(kind, read(path).get("trace"), path)
