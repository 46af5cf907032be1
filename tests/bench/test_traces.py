"""Traces of the searches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import synthetic

from bench.records.traces import (
    best_so_far,
    candidate_frame,
    operator_frequency,
    search_frame,
    trial_frame,
)
from safs.checked import read
from safs.errors import SafsError
from safs.rows import SearchTrace, TuneTrace


def test_traces_are_read_back(tmp_path: Path) -> None:
    search, tune = synthetic.search_trace(), synthetic.tune_trace()
    paths = [tmp_path / "search.json", tmp_path / "tune.json"]
    for path, trace in zip(paths, (search, tune), strict=True):
        path.write_text(trace.model_dump_json(by_alias=True))
    assert read(SearchTrace, paths[0]) == search
    assert read(TuneTrace, paths[1]) == tune
    with pytest.raises(SafsError, match=r"tune\.json: missing key 'evaluations'"):
        read(SearchTrace, paths[1])
    assert read(TuneTrace, paths[1]).trials[2].cost == 1.0


def test_best_so_far_passes_over_failures() -> None:
    found = best_so_far([None, 3.0, 4.0, None, 2.0])
    assert np.isnan(found[0])
    assert found[1:] == [3.0, 3.0, 3.0, 2.0]
    assert best_so_far([]) == []


def test_the_frame_keeps_failed_candidates() -> None:
    frame = search_frame([synthetic.search_trace()])
    assert len(frame) == 21
    assert np.isnan(frame.loc[4, "energy"])
    assert frame["best"].is_monotonic_decreasing
    assert search_frame([]).empty


def test_every_candidate_and_trial_is_told() -> None:
    trace = synthetic.search_trace()
    frame = candidate_frame(iter([trace, trace]))
    assert len(frame) == 2 * len(trace.evaluations)
    for row, e in zip(frame.itertuples(), trace.evaluations, strict=False):
        assert tuple(row.chromosome.split()) == e.chromosome and row.epochs == e.epochs
        assert row.reason == (e.reason or "") and row.status == e.status
    tuning = synthetic.tune_trace()
    trials = trial_frame([tuning])
    assert list(trials["cost"]) == [trial.cost for trial in tuning.trials]
    for key, value in tuning.trials[0].config.model_dump().items():
        assert trials.loc[0, key] == value
    assert candidate_frame([]).empty and trial_frame([]).empty


def test_operators_never_drawn_are_counted_as_zero() -> None:
    own = [trace for trace in synthetic.traces().search if trace.algorithm == "lahc"]
    frame = operator_frequency(own)
    assert len(frame) == 3 * len(synthetic.SLOTS) * len(synthetic.OPERATORS)
    totals = frame.groupby(["ratio", "slot"])["count"].sum()
    assert (totals == 3 * 21).all()
    assert operator_frequency([]).empty


def test_a_chromosome_must_fit() -> None:
    data = synthetic.search_trace().model_dump(by_alias=True)
    data["evaluations"][3]["chromosome"] = ("relu6",)
    with pytest.raises(ValueError, match="evaluation 3: 4 operators, one per slot"):
        SearchTrace.model_validate(data)
    data["evaluations"][3]["chromosome"] = ("ReLU6",) * 4
    with pytest.raises(ValueError, match="only operators of the list"):
        SearchTrace.model_validate(data)
