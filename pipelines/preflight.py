"""What can be known to be wrong before anything trains."""

from __future__ import annotations

from collections.abc import Collection

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
    everything = (study, *study.readings.values())
    _data({pair.dataset.name for each in everything for pair in each.pairs.values()})
    for each in everything:
        for name, pair in each.pairs.items():
            _recipe(each, name, pair)
            _masks(each, name, pair)


def _data(names: Collection[str]) -> None:
    """Every data set, so that all that is missing is told at once."""
    problems: dict[str, None] = {}
    for name in sorted(names):
        try:
            for part in ("train", "test"):
                load_part(name, part, compute.data_directory())
        except SafsError as error:
            problems[str(error)] = None
    if problems:
        raise SafsError("\n".join(problems))


def _recipe(study: Study, name: str, pair: Pair) -> None:
    """The dense recipe is trial 0, so it must be a point of the tuning space."""
    if any(ARMS[arm].tuned for arm in study.profile.arms):
        try:
            space(pair.recipe, 0, schedule_for=pair.tune.schedule_for)
        except SafsError as error:
            raise SafsError(f"{name}: recipe: {error}") from None


def _masks(study: Study, name: str, pair: Pair) -> None:
    """Given masks are there and fit, and every pattern of spared layers matches one."""
    if not pair.prune.given and not pair.prune.spare:
        return
    from pipelines.tasks.shared import empty
    from safs.pruning.prune import prune, spared

    network = empty(pair.network, pair.dataset.name)
    try:
        spared(network, pair.prune.spare)
    except SafsError as error:
        raise SafsError(f"{name}: prune.{error}") from None
    for ratio in study.profile.ratios(name):
        for replicate in range(study.profile.replicates):
            file = pair.prune.given_file(replicate, ratio)
            if file is None:
                continue
            if not file.is_file():
                raise SafsError(f"{name}: prune.given: no file {file}")
            try:
                prune(network, ratio, "given", given=file)
            except SafsError as error:
                raise SafsError(f"{name}: prune.given: {file}: {error}") from None
