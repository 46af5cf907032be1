"""Today's code makes of the published records the tables that are published, byte for byte."""

import shutil
from pathlib import Path

import pytest

from pipelines.config.study import named
from pipelines.stages import compare, tables

ROOT = Path(__file__).parents[2]
WITH_RECORDS = sorted(path.parent.name for path in (ROOT / "results").glob("*/records"))


@pytest.mark.parametrize("name", WITH_RECORDS)
def test_published_tables_are_what_their_records_make(name, checkout):
    shutil.copytree(ROOT / "results" / name, f"results/{name}")
    of = named(name)
    folders = [of.results / "tables", of.results / "comparisons"]
    before = {p: p.read_bytes() for folder in folders for p in sorted(folder.iterdir())}
    for path in before:
        path.unlink()
    tables.run(of)
    compare.run(of)
    made = {p: p.read_bytes() for folder in folders for p in sorted(folder.iterdir())}
    assert made.keys() == before.keys()
    assert [path for path in made if made[path] != before[path]] == []
