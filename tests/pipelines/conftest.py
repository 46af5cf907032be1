"""Workers of the tests leave soon."""

import os

import pytest

from pipelines.storage import sources

os.environ["SAFS_IDLE_SECONDS"] = "8"


@pytest.fixture
def another_tree(monkeypatch, tmp_path):
    """The source is read from an empty folder, and from the repository again afterwards."""
    with monkeypatch.context() as patch:
        patch.setattr(sources, "ROOT", tmp_path)
        sources.forget()
        yield tmp_path
    sources.forget()
