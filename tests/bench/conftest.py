"""Fixtures shared by the tests of bench."""

from __future__ import annotations

import pytest
import synthetic

from bench.records.collection import Collection


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """A complete synthetic collection; tests only read it."""
    return synthetic.collection(tmp_path_factory.mktemp("whole"))
