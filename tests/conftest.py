"""The longest files start first, so that no process is left alone with one of them at the end."""

from __future__ import annotations

import pytest

LONGEST = ("test_end_to_end", "test_side_by_side", "test_fast", "test_compute_workers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files for ``make test``, which hands out whole files in this order."""

    def place(item: pytest.Item) -> int:
        return LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST)

    items.sort(key=place)
