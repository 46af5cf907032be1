"""Content under its own digest: what was damaged or edited is not taken for what was written.

Everything that a run leaves is sealed the same way. A JSON object carries the SHA-256 of its own
canonical JSON under the key :data:`DIGEST`; bytes follow a first line with theirs; a file of
tensors has its digest in the JSON object beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safs.errors import SafsError
from safs.files import json_text, replacing, write_json

Json = dict[str, Any]

DIGEST = "digest"


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON of plain data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(content: Mapping[str, Any]) -> Json:
    """A JSON object with the digest of its content; one that it had before does not count."""
    rest = {key: value for key, value in content.items() if key != DIGEST}
    return {**rest, DIGEST: digest(rest)}


def write(path: Path, content: Mapping[str, Any]) -> Json:
    """Write an object as sealed JSON, atomically; returns it as :func:`read` will."""
    write_json(path, seal(content))
    return read(path)


def read(path: Path) -> Json:
    """The content of a sealed object, digest included.

    The file must be the one that :func:`write` makes: of two texts of a number one is right.

    Raises:
        SafsError: one line with the file's name, if it is no such object or was changed.
        OSError: it cannot be read.
    """
    content = read_object(path)
    if DIGEST not in content:
        raise SafsError(f"{path}: no digest; expected a file that this suite wrote")
    if not is_sealed(path.read_text(encoding="utf-8")):
        raise SafsError(f"{path}: its content does not fit its digest: damaged or edited")
    return content


def is_sealed(text: str) -> bool:
    """Whether a text is the one that :func:`write` makes of its content."""
    try:
        content = json.loads(text)
        return seal(content) == content and json_text(content) == text
    except ValueError:  # no JSON, or NaN, which is never written
        return False


def read_object(path: Path) -> Json:
    """A JSON object, sealed or not. Raises SafsError, one line, or OSError."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise SafsError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise SafsError(f"{path}: got a {type(content).__name__}; expected an object")
    return content


def write_bytes(path: Path, payload: bytes) -> None:
    """Write bytes below a line with their digest, atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)


def read_bytes(path: Path) -> bytes | None:
    """The bytes that :func:`write_bytes` wrote, or None if there are none that are whole."""
    try:
        told, _, payload = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    return payload if told == hashlib.sha256(payload).hexdigest().encode() else None
