"""The longest files start first, so that no process is left alone with one of them at the end.

And the simulated CUDA device, a fixture; torch is imported with the first test that asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from simulated.cuda import Simulated

settings.register_profile("suite", deadline=None)  # a slow machine is no failure
settings.load_profile("suite")

LONGEST = ("test_end_to_end", "test_side_by_side", "test_fast", "test_compute_workers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files for ``make test``, which hands out whole files in this order."""

    def place(item: pytest.Item) -> int:
        return LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture
def simulated() -> Iterator[Simulated]:
    """Two simulated CUDA devices (:mod:`simulated`); everything is as before after the test."""
    from simulated.cuda import installed

    with installed(devices=2) as devices:
        yield devices
