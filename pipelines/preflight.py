"""What can be known to be wrong before anything trains."""

from __future__ import annotations

from pipelines.config.pair import Pair
from pipelines.config.study import Study
from pipelines.engine import compute
from safs.arms import ARMS
from safs.datasets import load_part
from safs.errors import SafsError
from safs.search.tuning_space import space


def preflight(study: Study) -> None:
    """Check settings, recipes and masks and read every data set, of a profile and its readings.

    Of the test images nothing but the bytes is read.

    Raises:
        SafsError: one line that names the pair, what is wrong with it and what was expected.
    """
    compute.settings()
    for each in (study, *study.readings.values()):
        for name, pair in each.pairs.items():
            _data(pair)
            _recipe(each, name, pair)
            _masks(each, name, pair)


def _data(pair: Pair) -> None:
    for part in ("train", "test"):
        load_part(pair.dataset.name, part, compute.data_directory())


def _recipe(study: Study, name: str, pair: Pair) -> None:
    """The dense recipe is trial 0, so it must be a point of the tuning space."""
    if any(ARMS[arm].tuned for arm in study.profile.arms):
        try:
            space(pair.recipe, 0, schedule_for=pair.tune.schedule_for)
        except SafsError as error:
            raise SafsError(f"{name}: recipe: {error}") from None


def _masks(study: Study, name: str, pair: Pair) -> None:
    """Given masks are there, and every pattern of spared layers matches one."""
    for ratio in study.profile.ratios(name):
        for replicate in range(study.profile.replicates):
            file = pair.prune.given_file(replicate, ratio)
            if file is not None and not file.is_file():
                raise SafsError(f"{name}: prune.given: no file {file}")
    if pair.prune.spare:
        from pipelines.tasks.shared import empty
        from safs.pruning.prune import spared

        try:
            spared(empty(pair.network, pair.dataset.name), pair.prune.spare)
        except SafsError as error:
            raise SafsError(f"{name}: prune.{error}") from None
