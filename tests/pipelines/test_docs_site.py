"""The site of the documents: complete, without a machine's path, and without a stale reference."""

import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bench
import pipelines
import safs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MODULES = sorted(
    module.name
    for package in (safs, bench, pipelines)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


def test_the_reference_has_every_module_once():
    pages = "".join(page.read_text() for page in sorted((DOCS / "api").glob("*.rst")))
    named = re.findall(r"^\.\. automodule:: (\S+)$", pages, re.M)
    every = {*MODULES, "safs", "bench", "pipelines"}
    assert set(named) ^ every == set(), "these are to be added to docs/api/, or taken out"
    assert len(named) == len(every), "one stands twice"


def test_the_public_page_has_every_public_name():
    page = (DOCS / "api/public.rst").read_text()
    assert set(re.findall(r"safs\.(\w+)$", page, re.M)) == set(safs._PUBLIC)


def test_every_page_is_in_a_table_of_contents():
    for folder, index in ((DOCS, "index.md"), (DOCS / "api", "index.rst")):
        listed = re.findall(r"^ *(\w+)$", (folder / index).read_text(), re.M)
        pages = {page.stem for page in folder.iterdir() if page.suffix in (".md", ".rst")}
        assert pages - {"index"} <= set(listed)


def test_the_configuration_names_no_place_on_a_machine():
    text = (DOCS / "conf.py").read_text()
    assert not re.search(r"""["'](/|~|[A-Z]:\\)""", text)


def test_pre_commit_has_the_ruff_that_is_pinned():
    pinned = re.search(r"^ruff==(\S+)$", (ROOT / "requirements.lock").read_text(), re.M)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (ruff,) = (repo for repo in hooks if repo["repo"].endswith("/ruff-pre-commit"))
    assert ruff["rev"] == f"v{pinned[1]}"


def test_the_lock_has_all_that_the_project_asks_for():
    """But the extras that have an environment of their own, or none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", "\n".join(lines), re.M))
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    extras = project["optional-dependencies"]
    asked = {name: extras[name] for name in extras.keys() - {"compiler", "landscape"}}
    for extra, entries in {"core": project["dependencies"], **asked}.items():
        for entry in map(Requirement, entries):
            assert pinned.get(canonicalize_name(entry.name)) in entry.specifier, (extra, entry)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    """A reference to a name of the project that is not there any more is a warning."""
    strict = ("--fail-on-warning", "--keep-going", "--quiet")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *strict, str(DOCS), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
