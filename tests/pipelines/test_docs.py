"""The documents keep to the code: switches, defaults, named tests, links."""

import re
from pathlib import Path
from typing import get_args

import pytest

from pipelines.config.pair import Pair
from pipelines.config.profile import Profile
from pipelines.storage import sources

ROOT = Path(__file__).parents[2]
REGISTRIES = {"prune.scope": "scope"}
"""Switches whose choices are the names of a registry."""
DEVIATIONS = (ROOT / "docs/DEVIATIONS.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SWITCHES = re.findall(
    r"Switch:\s(.*?)(?:\.\s|\.\n|\n\n)", DEVIATIONS.replace("\n\n", "\n\n "), re.S
)
KEYS = sorted({key for text in SWITCHES for key in re.findall(r"`([a-z_.0-9]+)`", text)})
CHOICES = re.findall(r"`([a-z_.]+)`:\s\*\*(\w+)\*\*((?:\s\|\s\w+)+)", DEVIATIONS)


def _field(key):
    """The pydantic field behind a dotted key of a profile or a pair."""
    for model in (Profile, Pair):
        field = None
        for part in key.split("."):
            field = model.model_fields.get(part) if model else None
            if field is None:
                break
            model = field.annotation if hasattr(field.annotation, "model_fields") else None
        if field is not None:
            return field
    return None


def test_the_page_has_its_switches():
    assert len(SWITCHES) > 15 and len(CHOICES) >= 6


@pytest.mark.parametrize("key", [k for k in KEYS if "." in k or k in Profile.model_fields])
def test_every_switch_is_a_parameter(key):
    assert _field(key) is not None, key


@pytest.mark.parametrize(("key", "default", "others"), CHOICES)
def test_defaults_and_choices_are_those_of_the_code(key, default, others):
    field = _field(key)
    registry = REGISTRIES.get(key)
    choices = get_args(field.annotation) if registry is None else sources.names(registry)
    assert set(choices) == {default, *re.findall(r"\w+", others)}
    assert field.default == default


def test_every_test_that_the_protocol_cites_exists():
    text = (ROOT / "docs/PROTOCOL.md").read_text()
    files = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    cited = re.findall(r"(test_\w+\.py)(?:::(test_\w+))?", text)
    assert len(cited) > 20
    for file, name in cited:
        assert file in files, file
        assert not name or f"def {name}(" in files[file], name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_a_page_names_exist(page):
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    named = re.findall(r"`((?:safs|bench|pipelines|docs|tests)/[\w/.]+)`", text)
    for name in [n for n in (*links, *named) if not n.startswith("docs/_build/")]:
        assert (ROOT / name).exists() or (page.parent / name).exists(), name
