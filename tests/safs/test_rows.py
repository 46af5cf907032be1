"""The outcome of a training: what decides it, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from safs.rows import Trained

EPOCH = {"epoch": 1, "train_loss": 0.5, "validation_loss": 0.6, "validation_accuracy": 0.8}
ENDED: dict[str, Any] = {
    "failure": None,
    "seconds": 1.0,
    "backend": "sparse",
    "history": (EPOCH, EPOCH | {"epoch": 2}),
    "kept": 2,
}
DIVERGED = ENDED | {"failure": "training loss became nan in epoch 3", "kept": 0}
AT = {"failed_epoch": 3, "failed_step": 17}
OLD_ENDED = "eb47d7729cb89ade9de6010eb43065ae"
OLD_DIVERGED = "135bc36940dcd3df02198f75f29fd1f9"
"""Outcomes of the same rows before a failure had an epoch and a step."""


def outcome(row: dict[str, Any], weights: str | None = None, **changes: Any) -> str:
    return Trained.model_validate(row | changes).outcome(weights)


def test_older_rows_keep_their_outcomes():
    assert outcome(ENDED, "w") == OLD_ENDED
    assert outcome(DIVERGED) == OLD_DIVERGED


@pytest.mark.parametrize(
    "change",
    [{"kept": 1}, {"history": (EPOCH | {"train_loss": 0.25}, EPOCH)}, {"history": (EPOCH,)}, AT],
    ids=str,
)
def test_what_was_computed_decides(change):
    row = DIVERGED if change is AT else ENDED
    assert outcome(row, **change) != outcome(row)


def test_what_it_took_and_where_it_ran_do_not():
    same = {"seconds": 9.0, "backend": "dense", "bits": {"processor": "another"}, "notice": "slow"}
    assert outcome(ENDED, "w", **same) == outcome(ENDED, "w")
    before = (EPOCH | {"validation_loss": None, "validation_accuracy": None}, ENDED["history"][1])
    assert outcome(ENDED, "w", history=before) == outcome(ENDED, "w")


def test_a_failure_is_its_epoch_and_step_in_whatever_words():
    one = outcome(DIVERGED | AT)
    assert outcome(DIVERGED | AT, failure="training loss became inf in epoch 3") == one
    assert outcome(DIVERGED | AT, failed_step=18) != one
    assert outcome(DIVERGED | AT, failed_epoch=4) != one
    after = outcome(DIVERGED | AT, failed_step=None)
    assert after not in (one, outcome(DIVERGED))


def test_the_weights_of_a_failed_run_mean_nothing():
    assert outcome(ENDED, "w") != outcome(ENDED, "v")
    assert outcome(DIVERGED | AT, "w") == outcome(DIVERGED | AT, "v") == outcome(DIVERGED | AT)
