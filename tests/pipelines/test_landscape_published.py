"""The published landscape: whole, as its card says, and what its trainings come to here."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.landscape import load
from bench.landscape.card import card
from bench.landscape.promises import values
from bench.landscape.table import times_of
from pipelines.config.study import load as load_study
from pipelines.engine.work import Work
from pipelines.results import landscapes, promises
from pipelines.results.recomputed import job
from pipelines.tasks.prediction import predict
from pipelines.verification import landscape_sample
from safs.search.predictors import PREDICTORS
from safs.settings import PROTOCOL_VERSION

ROOT = Path(__file__).parents[2]
PAIR, RATIO = "lenet5_mnist5k", 0.99
STUDY = load_study(Path("pipelines/profiles/landscape/params.yaml"), ROOT)
PLACE = landscapes.path(STUDY, PAIR, RATIO)
BYTES = 5_000_000
"""That table, times, predictors, races and records may have together."""


@pytest.fixture(scope="module")
def table():
    return load(ROOT / PLACE)


def test_it_has_all_that_the_profile_asks_for(table):
    asked = STUDY.profile.landscape(PAIR, RATIO)
    assert table.distinct[: len(asked)] == asked
    assert table.replicates == tuple(range(STUDY.profile.replicates))
    assert len(table.indices) == len(table.distinct) ** len(table.meta.slots)
    assert table.meta.protocol == PROTOCOL_VERSION
    wanted = {i for shell in table.space.shells(asked) for i in shell}
    for replicate in table.replicates:
        again = landscapes.again(STUDY, table.space, replicate) & wanted
        assert again <= table.trained(replicate, order=1)


def test_its_card_is_about_it(table):
    assert (ROOT / PLACE).with_suffix(".md").read_text() == card(table)


def test_it_is_small_and_timed(table):
    sizes = [path.stat().st_size for path in (ROOT / PLACE).parent.iterdir()]
    assert sum(sizes) < BYTES
    assert times_of(ROOT / PLACE).is_file()
    assert (table.seconds > 0).all()


def test_it_has_what_is_said_of_every_chromosome(table):
    said = promises.read(STUDY, table)
    assert tuple(each.replicate for each in said) == table.replicates
    for each in said:
        start = table.meta.starts[str(each.replicate)]
        assert promises.holds(STUDY, PAIR, RATIO, each, table.space, start)
        assert set(each.scores) == set(PREDICTORS)


def test_rows_come_out_here_as_published(tmp_path, monkeypatch):
    """A random sample of replicate 0, from the training of its dense network on: every bit.

    So does what is said of its chromosomes before they are trained.
    """
    monkeypatch.setenv("SAFS_WORKERS", "0")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / PLACE.parent, tmp_path / PLACE.parent)
    profile = STUDY.profile.model_copy(update={"replicates": 1})
    of = STUDY.model_copy(update={"profile": profile})
    seed = secrets.randbelow(1000)
    found = landscape_sample.retrain_sample(of, load(PLACE), 5, seed=seed)
    assert len(found) == 5
    assert all(each.same for each in found), (seed, [each.words for each in found])
    chromosomes = [each.chromosome for each in found]
    with Work(of, "landscape", PAIR, RATIO) as work:
        start, names, images = work.start(0), list(PREDICTORS), work.pair.fast.images
        asked = (job(work, start, 0, 0, chromosomes[0]), start.files(), chromosomes, names, images)
        told = promises.content([work.run(predict, *asked, True)])
    (said, *_) = promises.read(of, load(PLACE))
    places = np.searchsorted(said.numbers, [load(PLACE).space.index(c) for c in chromosomes])
    for part in ("scores", "spectrum"):
        for name, numbers in getattr(said, part).items():
            rows = values(numbers).reshape(len(said.numbers), -1)
            assert np.array_equal(rows[places].ravel(), values(told[part][name])), (seed, name)
