"""What was written comes back; what was changed since does not."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safs import sealed
from safs.errors import SafsError

CONTENT = {
    "loss": 0.1 + 0.2,
    "tiny": 5e-324,
    "count": 3,
    "rows": [{"status": "ok", "cost": None}, {"status": "failed", "cost": 1.0}],
    "text": "α",
}


def test_digest_ignores_the_order_of_keys_and_sees_every_value() -> None:
    assert sealed.digest({"a": 1, "b": [2]}) == sealed.digest({"b": [2], "a": 1})
    assert sealed.digest({"a": 1}) != sealed.digest({"a": 1.5})


def test_an_object_comes_back_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "object.json"
    assert sealed.write(path, CONTENT) == {**CONTENT, "digest": sealed.digest(CONTENT)}
    assert sealed.read(path) == sealed.seal(sealed.read(path))


def edits(value: Any) -> Iterator[Any]:
    """The value with one number, text or key changed, each in turn."""
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            yield from ({**value, key: changed} for changed in edits(value[key]))
    elif isinstance(value, list):
        yield value[:-1]
        for i, each in enumerate(value):
            yield from ([*value[:i], changed, *value[i + 1 :]] for changed in edits(each))
    elif isinstance(value, str):
        yield value + " "
    else:
        yield 1 if value is None else value + 1 if value else 0.5


def test_every_edit_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "object.json"
    changed = list(edits(sealed.write(path, CONTENT)))
    assert len(changed) > 15
    for content in changed:
        path.write_text(json.dumps(content))
        with pytest.raises(
            SafsError, match=r"object\.json: (no|its content does not fit its) digest"
        ):
            sealed.read(path)


@pytest.mark.parametrize(
    "old, new",
    [("0.30000000000000004", "0.30000000000000005"), ("3", "3.0"), ("\n", " "), ("\\u03b1", "α")],
)
def test_another_text_of_the_same_content_is_seen(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "object.json"
    sealed.write(path, CONTENT)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(SafsError, match="does not fit its digest"):
        sealed.read(path)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"digest": NaN}', b"\xff\xfe", b"null", b"[" * 100_000, b"{}"]
)
def test_what_is_no_sealed_object_is_refused_in_a_line(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "object.json"
    path.write_bytes(damage)
    with pytest.raises(SafsError, match=r"^[^\n]*object\.json: [^\n]*$"):
        sealed.read(path)


def test_bytes_come_back_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    payload = random.Random(0).randbytes(300) + b"\n" + b"x"
    assert sealed.read_bytes(path) is None
    sealed.write_bytes(path, payload)
    assert sealed.read_bytes(path) == payload
    written = path.read_bytes()
    for damaged in (b"", written[:-1], written + b" ", written[:100] + b"!" + written[101:]):
        path.write_bytes(damaged)
        assert sealed.read_bytes(path) is None
