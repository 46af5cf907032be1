"""Files that older editions wrote, as plain data of today's form.

What one of them says stays as it was; only its shape changes. A digest is checked before.
"""

from __future__ import annotations

from typing import Any

from safs import sealed
from safs.errors import shown

_OF_FINAL = ("reason", "test", "validation", "train")
"""Keys that a record of version 1, which had one final training, had at its top."""


def record(values: object) -> object:
    """A record (:class:`bench.records.record.Record`) of version 1 as one of version 2.

    Under the protocol of its time a run that failed had no value, so that it is told no number of
    classes from which chance would follow.

    Raises:
        ValueError: what was written was changed, or says neither that it failed nor that it is ok.
    """
    if not isinstance(values, dict) or values.get("schema") != 1:
        return values
    if values.get(sealed.DIGEST) is not None and sealed.seal(values) != values:
        raise ValueError("digest: not the digest of the content: damaged or edited")
    if (status := values.get("status")) not in ("ok", "failed"):
        raise ValueError(f"status: got {shown(status)}; expected 'ok' or 'failed'")
    parts = _renamed(values, "method", "arm") | {"schema": 2}
    final = {name: parts.pop(name, None) for name in _OF_FINAL}
    if status == "failed":
        final["reason"] = final["reason"] or ""
    if isinstance(digests := parts.get("digests"), dict):
        final["weights"] = None if status == "failed" else digests.get("weights")
        parts["digests"] = {key: value for key, value in digests.items() if key != "weights"}
    reach = parts.get("connectivity")
    known = reach.get("classes") if isinstance(reach, dict) else None
    parts["classes"] = known if status == "ok" else None
    return _without(parts, "status", sealed.DIGEST) | {"finals": [final]}


def chain(values: object) -> object:
    """A chain (:class:`bench.records.schema.Chain`) with one ``final`` as one with ``finals``."""
    if not isinstance(values, dict) or "final" not in values or "finals" in values:
        return values
    return _without(values, "final") | {"finals": [values["final"]]}


def lab_file(values: object) -> object:
    """A lab file of version 1 as one of version 2."""
    if not isinstance(values, dict) or values.get("lab_file") != 1:
        return values
    return _renamed(values, "methods", "arms") | {"lab_file": 2}


def _renamed(values: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if key == old else key: value for key, value in values.items()}


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}
