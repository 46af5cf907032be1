"""The page on architecture keeps to the code: what its walks name exists, and they stay short."""

import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/ARCHITECTURE.md").read_text()
NAMES = sorted(set(re.findall(r"`((?:safs|bench|pipelines)(?:\.\w+)+)`", PAGE)))
WALKS = {
    title: [stop.strip() for stop in re.split(r"^\d+\. ", body, flags=re.M)[1:]]
    for title, body in re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
}
CHROMOSOME, MASK, MODULE = WALKS


def test_there_are_three_walks():
    assert "chromosome" in CHROMOSOME and "mask" in MASK and "search_and_tune" in MODULE


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_names_exists(name):
    value, *rest = import_module(name.split(".")[0]), *name.split(".")[1:]
    path = value.__name__
    for part in rest:
        path = f"{path}.{part}"
        try:
            value = getattr(value, part)
        except AttributeError:
            value = import_module(path)


@pytest.mark.parametrize(("walk", "most"), [(CHROMOSOME, 12), (MASK, 10), (MODULE, 12)])
def test_a_walk_is_short_and_every_stop_starts_with_code(walk, most):
    assert 1 < len(WALKS[walk]) <= most
    for stop in WALKS[walk]:
        assert re.match(r"`(safs|bench|pipelines)\.[\w.]+\.\w+`", stop), stop


def test_a_chromosome_takes_seven_forms_at_most():
    forms = re.findall(r"\(form (\d+):", " ".join(" ".join(WALKS[CHROMOSOME]).split()))
    assert forms == list("1234567")


def test_the_folders_are_those_of_the_repository():
    folders = {path.split("/")[0] for path in re.findall(r"^\| `(\w+)/", PAGE, re.M)}
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    there = {place.split("/")[0] for place in done.stdout.splitlines() if "/" in place}
    assert {name for name in there if not name.startswith(".")} <= folders
