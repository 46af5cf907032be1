"""Workers of the tests leave soon; and a checkout in which nothing was run."""

import os
from pathlib import Path

import pytest

from pipelines.storage import sources

ROOT = Path(__file__).parents[2]

os.environ["SAFS_IDLE_SECONDS"] = "8"


@pytest.fixture
def another_tree(monkeypatch, tmp_path):
    """The source is read from an empty folder, and from the repository again afterwards."""
    with monkeypatch.context() as patch:
        patch.setattr(sources, "ROOT", tmp_path)
        sources.forget()
        yield tmp_path
    sources.forget()


@pytest.fixture
def checkout(monkeypatch, tmp_path):
    """The working folder: parameters and pipeline of the repository, nothing run or published."""
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", "pipelines"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def published_checkout(checkout):
    """The same with everything that is published."""
    (checkout / "results").symlink_to(ROOT / "results")
    return checkout
