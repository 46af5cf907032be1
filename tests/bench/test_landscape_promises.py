"""What is said of a landscape before any training: how it is held against the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import synthetic
from synthetic_landscape import synthetic_landscape, synthetic_promises, text

from bench.landscape import promises
from bench.landscape.analysis import finite, losses
from bench.landscape.promises import Promised
from bench.landscape.space import BUDGETS, SAMPLE
from bench.tables.landscape import PREDICTORS, promised_rows, tables
from safs.errors import SafsError
from safs.operators import OPERATORS


@pytest.fixture(scope="module")
def table():
    return synthetic_landscape(("srs", "swish", "tanh", "elu"))


@pytest.fixture(scope="module")
def promised(table) -> Promised:
    return synthetic_promises(table)[0]


def said(table, promised: Promised) -> dict[tuple[str, int], dict[str, float]]:
    return {(row["says"], row["trained"]): row for row in promises.rows(table, promised)}


def scored(promised: Promised, **scores: np.ndarray) -> Promised:
    told = {name: text(values) for name, values in scores.items()}
    return promised.model_copy(update={"scores": told})


def test_a_predictor_that_knows_the_loss_ranks_as_training_does(table, promised):
    loss = losses(table, 0)
    row = said(table, scored(promised, known=-loss, inverse=loss))["known", 0]
    assert row["n"] == len(table.indices) == 256
    assert [row["all"], row["among_best"]] == pytest.approx([1.0, 1.0], abs=1e-4)
    assert row["regret"] == 0.0
    assert said(table, scored(promised, inverse=loss))["inverse", 0]["all"] < -0.999


def test_a_failed_training_is_worse_than_every_other(table, promised):
    """Who likes it best loses what the worst one loses; its infinite loss has a rank."""
    loss = losses(table, 0)
    assert np.isinf(loss).sum() == 2
    row = said(table, scored(promised, fond=np.isinf(loss).astype(float)))["fond", 0]
    assert row["regret"] == pytest.approx(finite(loss).max() - loss.min())
    assert row["all"] < 0


def test_the_worst_score_has_a_rank_and_a_constant_has_none(table, promised):
    scores = -losses(table, 0)
    assert np.isinf(scores).any(), "-inf is a predictor's word for the worst"
    found = said(table, scored(promised, known=scores, constant=np.zeros(256)))
    assert found["known", 0]["all"] > 0.999
    assert np.isnan(found["constant", 0]["all"])


def test_features_that_know_the_loss_beat_the_operators_names(table, promised):
    """Both see the same trained chromosomes; more of them tell more."""
    found = said(table, promised)
    few, many = BUDGETS
    assert found["fisher", few]["n"] == 256 - few
    for trained in BUDGETS:
        assert found["fisher", trained]["all"] > found["operators", trained]["all"] + 0.05
        assert found["fisher", trained]["regret"] < found["operators", trained]["regret"]
    assert found["fisher", many]["all"] > found["fisher", few]["all"] > 0.9
    assert {name for name, _ in found} == {
        "good", "blind", "operators", "fisher", "outputs", "fisher_outputs",
    }  # fmt: skip


def test_what_is_said_of_some_chromosomes_is_held_to_theirs(table, promised):
    """The regret is still to the best of the whole table."""
    some = table.indices[::3]
    loss = losses(table, 0)[::3]
    part = promised.model_copy(update={"indices": text(some).replace(".0", ""), "spectrum": {}})
    assert list(part.numbers) == list(some)
    row = said(table, scored(part, known=-loss))["known", 0]
    assert row["n"] == len(some) and row["all"] == pytest.approx(1.0, abs=1e-4)
    assert row["regret"] == pytest.approx(loss.min() - losses(table, 0).min())


def test_an_infinite_spectrum_is_far_from_the_others_and_not_endlessly(table, promised):
    layer, told = next(iter(promised.spectrum.items()))
    numbers = told.split()
    numbers[0] = "inf"
    spoilt = promised.model_copy(update={"spectrum": {layer: " ".join(numbers)}})
    distance = promises._distances(table, spoilt)["fisher"]
    assert np.isfinite(distance).all()
    assert distance[0, 1:].min() > distance[1:, 1:].max()


def test_a_regression_never_sees_what_it_is_asked_about(table, promised):
    """Without any relation between feature and loss it ranks no better than chance."""
    rng = np.random.default_rng(5)
    blind = promised.model_copy(update={"spectrum": {"conv": text(rng.normal(size=256))}})
    for trained in BUDGETS:
        assert abs(said(table, blind)["fisher", trained]["all"]) < 0.1


def test_names_are_as_far_apart_as_slots_differ(table, promised):
    near = promises._distances(table, promised)["operators"]
    found = [table.space.chromosome(int(index)) for index in promised.numbers]
    for a, b in ((0, 1), (3, 200), (17, 90)):
        differing = sum(x != y for x, y in zip(found[a], found[b], strict=True))
        # A slot that differs has one name too many and one too few.
        assert near[a, b] == pytest.approx(2 * differing / (4 * len(table.distinct)))


def test_operators_without_a_formula_or_a_spectrum_leave_their_features_out(
    table, promised, monkeypatch
):
    bare = promised.model_copy(update={"spectrum": {}})
    assert set(promises._distances(table, bare)) == {"operators", "outputs"}
    entry = replace(OPERATORS["tanh"], formula=None)
    monkeypatch.setitem(OPERATORS._entries, "tanh", entry)  # deleted, it would come back as last
    assert set(promises._distances(table, promised)) == {"operators", "fisher"}


def test_a_large_space_is_asked_about_at_random():
    every = np.arange(5000)
    some = promises.chosen(every, 1, 0)
    assert len(some) == SAMPLE and len(set(some)) == SAMPLE and (np.diff(some) > 0).all()
    assert not np.array_equal(some, promises.chosen(every, 1, 1))
    assert np.array_equal(promises.chosen(every[:7], 1, 0), every[:7])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"scores": {"flow": "1 2 3"}}, "flow: 3 scores; expected 256"),
        ({"spectrum": {"conv": "1 2 3"}}, "conv: 3 numbers of 256 chromosomes"),
        ({"indices": "1 two"}, "indices"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(promised, change, line):
    with pytest.raises(SafsError, match=line):
        Promised(**{**promised.model_dump(), **change})


def test_the_table_has_a_line_for_each_mask_and_feature(table):
    found, context = synthetic_promises(table), synthetic.context()
    made = {t.name: t for t in tables([table], [], found, context)}
    rows = list(promised_rows(table, found))
    assert len(made["landscape_predictors"].view) == len(rows) == 2 * (2 + 4 * len(BUDGETS))
    assert "Fisher spectrum" in made["landscape_predictors"].markdown()
    assert PREDICTORS.name not in {t.name for t in tables([table], [], [], context)}
