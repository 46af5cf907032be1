"""What stages leave: a sealed JSON object, beside a safetensors file where there are weights.

An artefact carries the ``identity`` of everything it was made from and the digest of its weights'
file. What does not fit its digests is made again by its own stage and refused, with its name, by
every other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from safs import sealed
from safs.checked import parsed, validated
from safs.errors import SafsError
from safs.rows import Trace, Trained
from safs.sealed import Json

T = TypeVar("T", bound=Trace)
M = TypeVar("M", bound=BaseModel)

DIED = "its worker died twice"
"""What the failure of a training says whose workers died."""


def write(path: Path, content: Mapping[str, Any], identity: str) -> Json:
    """Write the artefact ``path``, whose weights, if it has any, are there already."""
    weights = weights_of(path)
    has = sealed.file_digest(weights) if weights.exists() else None
    return sealed.write(path, {**content, "identity": identity, "weights": has})


def weights_of(path: Path) -> Path:
    """Where the weights of the artefact ``path`` are."""
    return path.with_suffix(".safetensors")


def read(path: Path) -> Json:
    """An artefact, its weights unread.

    Raises:
        SafsError: one line with the file's name: it is not there, or not what was written.
    """
    try:
        return sealed.read(path)
    except OSError as error:
        raise SafsError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def whole(path: Path) -> Json:
    """An artefact whose weights are those that it was written with. Raises SafsError, one line."""
    content, weights = read(path), weights_of(path)
    expected = content.get("weights")
    if expected is not None and not weights.is_file():
        raise SafsError(f"{weights}: no such file; {path.name} was written with it")
    if expected is not None and sealed.file_digest(weights) != expected:
        raise SafsError(f"{weights}: not the weights that {path.name} was written with")
    return content


def died(content: object) -> bool:
    """Whether plain data tell of a failure that is a dead worker's: such work is not finished."""
    return DIED in json.dumps(content)


def finished(path: Path, identity: str) -> Json | None:
    """The artefact if it was made from these inputs, is whole, and nobody died of it."""
    try:
        content = whole(path)
    except SafsError:
        return None
    return content if content.get("identity") == identity and not died(content) else None


def outcome(path: Path) -> str:
    """What the training in an artefact computed, its weights included."""
    content = read(path)
    return Trained.model_validate(content["result"]).outcome(content["weights"])


def trace(path: Path, kind: type[T]) -> T:
    """The trace in the artefact of a search. Raises SafsError, one line per fault."""
    return validated(kind, read(path).get("trace"), path)


def held(path: Path, kind: type[M], but: str = "") -> M:
    """The model that a sealed file holds beside its digest and the key ``but``.

    Raises SafsError, one line per fault, or OSError.
    """
    content = sealed.read(path)
    rest = {key: value for key, value in content.items() if key not in (sealed.DIGEST, but)}
    return parsed(kind, json.dumps(rest), path)
