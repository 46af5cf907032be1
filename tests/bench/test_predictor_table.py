"""The table of predictors: rank correlations by hand, constant scores, ties to the cell."""

import json

import numpy as np
import pytest
import synthetic

from bench.records.predictions import Predictions
from bench.tables.predictors import table
from safs import sealed
from safs.errors import SafsError

PAIR, RATIO = next(iter(synthetic.context().pairs)), 0.99


def search(replicate, scores, energies=(0.5, 0.7, 0.9)):
    rows = [
        {"chromosome": ["relu6"], "energy": energy, "scores": {"snip": score, "flat": 1.0}}
        for score, energy in zip(scores, energies, strict=True)
    ]
    return Predictions.model_validate(
        {"pair": PAIR, "ratio": RATIO, "replicate": replicate, "candidates": rows}
    )


def test_a_predictor_that_ranks_as_training_does_has_correlation_1():
    assert search(0, (3.0, 2.0, 1.0)).correlation("snip") == pytest.approx(1)
    assert search(0, (1.0, 2.0, 3.0)).correlation("snip") == pytest.approx(-1)
    assert search(0, (2.0, 3.0, 1.0)).correlation("snip") == pytest.approx(0.5)
    assert np.isnan(search(0, (3.0, 2.0, 1.0)).correlation("flat"))


def test_no_score_is_the_worst():
    assert search(0, (3.0, 2.0, None)).correlation("snip") == pytest.approx(1)
    assert search(0, (None, 2.0, 3.0)).rank("snip") == 3


def test_a_row_has_mean_and_lowest_over_searches():
    found = [search(0, (3.0, 2.0, 1.0)), search(1, (2.0, 3.0, 1.0))]
    made = table(found, synthetic.context())
    snip, flat = (made.frame.set_index("predictor").loc[name] for name in ("snip", "flat"))
    assert snip["mean"] == pytest.approx(0.75) and snip["lowest"] == pytest.approx(0.5)
    assert (snip["n"], snip["candidates"], snip["rank"]) == (2, 3, 1.5)
    assert flat["n"] == 0 and np.isnan(flat["mean"])
    assert made.view["Rank correlation"].tolist() == ["0.75 ± 0.35", "-"]


def test_a_predictor_that_came_later_has_the_searches_that_know_it():
    older = search(0, (3.0, 2.0, 1.0))
    rows = [
        {**candidate.model_dump(), "scores": {**candidate.scores, "mine": 1.0 - candidate.energy}}
        for candidate in search(1, (2.0, 3.0, 1.0)).candidates
    ]
    newer = Predictions.model_validate(older.model_dump() | {"replicate": 1, "candidates": rows})
    made = table([older, newer], synthetic.context()).frame.set_index("predictor")
    assert made["n"].to_dict() == {"snip": 2, "flat": 0, "mine": 1}
    assert made.loc["mine", "mean"] == pytest.approx(1)


def test_a_file_that_does_not_fit_is_an_error_of_one_line(tmp_path):
    path = tmp_path / "predictors-r0.json"
    content = json.loads(search(0, (1.0, 2.0, 3.0)).model_dump_json())
    sealed.write(path, content | {"identity": "x", "weights": None})
    assert Predictions.read(path) == search(0, (1.0, 2.0, 3.0))
    sealed.write(path, content | {"ratio": 2})
    with pytest.raises(SafsError, match=r"predictors-r0\.json: ratio"):
        Predictions.read(path)
