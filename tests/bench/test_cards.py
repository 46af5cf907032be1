"""Files of GPUs: sealed, read like lab files, and a page that shows what failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.labs import cards
from bench.labs.reading import CARDS, read_card, validate
from safs.errors import SafsError


def content(**changes: Any) -> dict[str, Any]:
    check = {"group": "repeats", "name": "vgg16", "status": "passed", "seconds": 1.5, "told": "ok"}
    speed = {"pair": "vgg16_cifar10", "option": "plain", "images": 1280, "seconds": 0.5,
             "launches": 160.0, "busy": 0.75, "bytes": 3 << 20, "told": ""}  # fmt: skip
    side = {"pair": "lenet5_mnist", "workers": 2, "images_per_second": 12345.6, "told": ""}
    card = {"name": "A Card", "driver": "550.1", "cuda": "13.0", "cudnn": "91000", "torch": "2.14",
            "bytes": 80 << 30, "mig": False, "mps": True}  # fmt: skip
    failed = check | {"name": "a|b", "status": "failed", "told": "off by 1"}
    whole = {"card": card, "seconds": 60.0, "checks": [check, failed], "speeds": [speed],
             "side_by_side": [side]}  # fmt: skip
    return whole | changes


def written(folder: Path, text: str) -> Path:
    path = folder / "card.json"
    path.write_text(text)
    return path


def test_a_file_is_read_as_it_was_written_and_its_page_says_what_failed(tmp_path: Path) -> None:
    path = written(tmp_path, cards.render(content()))
    assert validate(path) == []
    file = read_card(path)
    assert [check.name for check in file.failed] == ["a|b"]
    page = cards.page(file)
    assert "**2 checks: 1 passed, 1 failed.**" in page and r"a\|b" in page
    assert "80.0 GiB, with the Multi-Process Service" in page
    row = next(line for line in page.splitlines() if "| plain" in line)
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "vgg16_cifar10", "plain", "1,280", "0.500", "160", "75%", "3 MiB", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seconds": 61.0}, "digest: got "),
        ({"card_file": 2}, "card_file: got 2; expected 1"),
        ({"more": 1}, "unknown key 'more'"),
        ({"seconds": -1.0}, "seconds: got -1.0; expected"),
    ],
)
def test_a_file_that_was_changed_is_refused_by_line(
    changed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    whole = json.loads(cards.render(content())) | changed
    path = written(tmp_path, json.dumps(whole, indent=1))
    lines = validate(path)
    assert len(lines) == 1 and lines[0].startswith(f"{path}:") and told in lines[0], lines
    with pytest.raises(SafsError):
        read_card(path)


@pytest.mark.parametrize(
    ("status", "told"), [("failed", "vgg16: failed without a reason"), ("left out", "left out")]
)
def test_what_did_not_pass_says_why(status: str, told: str, tmp_path: Path) -> None:
    checks = [content()["checks"][0] | {"status": status, "told": ""}]
    path = written(tmp_path, cards.render(content(checks=checks)))
    assert told in "".join(validate(path))


def test_no_check_stands_twice(tmp_path: Path) -> None:
    checks = content()["checks"][:1] * 2
    assert "stands twice" in "".join(
        validate(written(tmp_path, cards.render(content(checks=checks))))
    )


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.json")), ids=lambda p: p.name)
def test_every_submitted_file_is_valid(path: Path) -> None:
    assert validate(path) == []
    assert path.with_suffix(".md").read_text() == cards.page(read_card(path))
