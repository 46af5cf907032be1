"""What an arm and a stage train: how many networks, for how many epochs each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pipelines.config.pair import Pair
from pipelines.config.study import Study
from pipelines.storage import layout
from safs.arms import ARMS, finals, reports_trial
from safs.search.halving import planned
from safs.settings import Protocol

Spending = dict[str, list[tuple[int, int]]]
"""(trainings, epochs of each) by purpose: ``search``, ``tune`` and ``final``."""


def spending(pair: Pair, arm: str, protocol: Protocol | None = None) -> Spending:
    """What one replicate of an arm at one ratio trains; searches count though arms share them.

    ``protocol`` says how many finals there are and whether a selected trial stands for them;
    without one there is one final training, as Table 3 counts.
    """
    entry = ARMS[arm]
    searches = {
        "found": [(pair.search.evaluations, pair.search.epochs)],
        "best_single": [(len(pair.search.operators), pair.search.epochs)],
        "found_fast": halvings(pair, "search"),
    }
    tunings = [(trials(pair, arm), pair.tune.epochs)]
    if entry.operators == "found_fast":
        tunings = halvings(pair, "tune")
    count, length = 1, pair.pretrain.epochs if arm == "dense" else pair.finetune.epochs
    if protocol is not None:
        count = finals(arm, protocol)
        length = pair.tune.epochs if reports_trial(arm, protocol) else length
    return {
        "search": searches.get(entry.operators, []),
        "tune": tunings if entry.tuned else [],
        "final": [(count, length)],
    }


def epochs(trainings: Iterable[tuple[int, int]]) -> int:
    """Epochs that some trainings have together."""
    return sum(count * each for count, each in trainings)


def run_epochs(pair: Pair, arm: str) -> int:
    """Epochs of one replicate of an arm at one ratio, searches and one final included (Table 3)."""
    return sum(epochs(trainings) for trainings in spending(pair, arm).values())


def stage_epochs(study: Study, pair: Pair, stage: str) -> int:
    """Epochs of one replicate of a stage in a cell."""
    return epochs(trained(study, pair, stage))


def trained(study: Study, pair: Pair, stage: str) -> list[tuple[int, int]]:
    """What one replicate of a stage trains in a cell: a search that arms share counts once."""
    found = {arm: spending(pair, arm, study.profile.protocol) for arm in study.profile.arms}
    here = [arm for arm in found if layout.trained_in(arm) == stage]
    every = [run for arm in here for run in (*found[arm]["tune"], *found[arm]["final"])]
    if stage == "fast":
        return every + [run for arm in here for run in found[arm]["search"]]
    if stage == "search":
        shared = {layout.trace_names(arm).get("search"): arm for arm in found}
        own = [arm for place, arm in shared.items() if place and place[0] == stage]
        every += [run for arm in own for run in found[arm]["search"]]
    return every


def trials(pair: Pair, arm: str) -> int:
    """Trials of a tuned arm; a control with the whole budget has those of both stages of SAFS."""
    return pair.tune.trials + (pair.search.evaluations if ARMS[arm].whole_budget else 0)


def halvings(pair: Pair, stage: Literal["search", "tune"]) -> list[tuple[int, int]]:
    """(trainings, epochs each) of a stage of the cheap search; a continued one counts again."""
    candidates = pair.search.evaluations if stage == "search" else pair.tune.trials
    epochs = pair.search.epochs if stage == "search" else pair.tune.epochs
    return planned(candidates, pair.fast.epochs(epochs), pair.fast.eta)
