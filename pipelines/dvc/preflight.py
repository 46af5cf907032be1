"""What can be known to be wrong before anything trains."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.labs.reading import LABS, by_lab
from pipelines import compute
from pipelines.compute import clusters
from pipelines.config.pair import Pair
from pipelines.config.study import Study
from pipelines.storage import sources
from safs import contracts
from safs.arms import ARMS
from safs.datasets import load_part
from safs.errors import SafsError, one_line
from safs.operators import OPERATORS
from safs.search.tuning_space import config_of, space
from safs.settings import LR, MOMENTUM, WEIGHT_DECAY

if TYPE_CHECKING:
    from torch import nn

    from safs.datasets.base import Arrays

_RANGES = {"lr": LR, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}


def preflight(study: Study) -> None:
    """Check settings, networks, recipes and masks of a profile and its readings.

    Every data set is read, of the test images the bytes alone, and every lab's file that the report
    will show.

    Raises:
        SafsError: one line that names the pair, what is wrong with it and what was expected.
    """
    _device(compute.settings())
    by_lab(LABS, study.profile.profile)
    _data({pair.dataset.name for each in study.every for pair in each.pairs.values()})
    fits(study)


def fits(study: Study) -> None:
    """The part of :func:`preflight` that needs no data: what pairs and profile say together."""
    for each in study.every:
        for name, pair in each.pairs.items():
            _operators(each, name, pair)
            network = fitting(name, pair)
            _backend(each, name, pair, network)
            _recipe(each, name, pair)
            _pruner(name, pair, network)
            _masks(each, name, pair, network)


def _device(where: compute.Compute) -> None:
    """The queue is there, and so is the device, as far as this machine can say."""
    from safs.backends.device import pick

    clusters.check(where)
    if where.kind == "local":
        pick(where.device)


def _data(names: Collection[str]) -> None:
    """Every data set, so that all that is missing is told at once."""
    problems: dict[str, None] = {}
    for name in sorted(names):
        try:
            for part in ("train", "test"):
                _labelled(name, load_part(name, part, compute.data_directory()))
        except SafsError as error:
            problems[str(error)] = None
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            told = f"{type(error).__name__}: {one_line(error)}"
            problems[f"data set {name!r}: its loader fails: {told}"] = None
    if problems:
        raise SafsError("\n".join(problems))


def _labelled(name: str, arrays: Arrays) -> None:
    """Every image has a label of the type that trainings and checksums take."""
    images, labels = len(arrays.images), arrays.labels
    if labels.shape != (images,) or labels.dtype != "int64":
        raise SafsError(
            f"data set {name!r}: labels are {labels.dtype} {labels.shape}; expected int64 "
            f"({images},), one for each image"
        )


def _operators(study: Study, name: str, pair: Pair) -> None:
    """Operators are what their registry promises."""
    used = {*pair.search.operators, *study.profile.studies.activations.operators}
    for each in sorted({*used, sources.default(pair.network.name)} & {*OPERATORS}):
        with _told_of(name):
            contracts.operator(each)


def _pruner(name: str, pair: Pair, network: nn.Module) -> None:
    """The pruning method scores the network, by images that are none."""
    import numpy as np
    import torch

    from safs.datasets import DATASETS

    if pair.prune.method != "given":
        shape = DATASETS[pair.dataset.name].shape
        batch = {"images": torch.zeros(2, *shape), "labels": torch.zeros(2, dtype=torch.int64)}
        offered = {**batch, "shape": shape, "rng": np.random.default_rng(0)}
        with _told_of(name):
            contracts.pruner(network, pair.prune.method, offered)


@contextmanager
def _told_of(name: str) -> Iterator[None]:
    """A fault found inside names the pair."""
    try:
        yield
    except SafsError as error:
        raise SafsError(f"{name}: {error}") from error


def fitting(name: str, pair: Pair) -> nn.Module:
    """The untrained network of a pair: it takes its images and has a logit for each class.

    Raises:
        SafsError: it does not; names the pair, the network, the data set and the shape.
    """
    import torch

    from pipelines.tasks.shared import empty
    from safs.datasets import DATASETS

    entry = DATASETS[pair.dataset.name]
    given = f"images of {pair.dataset.name!r}, {entry.shape}"
    try:
        network = empty(pair.network, pair.dataset.name).eval()
        with torch.no_grad():
            logits = network(torch.zeros(1, *entry.shape))
    except (SafsError, RuntimeError, TypeError, ValueError) as error:
        told = str(error).splitlines()[0].rstrip(":")
        raise SafsError(f"{name}: network {pair.network.name!r} on {given}: {told}") from None
    if logits.shape != (1, entry.classes):
        raise SafsError(
            f"{name}: network {pair.network.name!r} on {given}: logits of shape "
            f"{tuple(logits.shape)}; expected (1, {entry.classes})"
        )
    return network


def _backend(study: Study, name: str, pair: Pair, network: nn.Module) -> None:
    """The kernels train the network as it is, and no operator takes some trainings off them."""
    from safs import kernels
    from safs.datasets import DATASETS
    from safs.kernels.misread import misread

    if study.profile.backend == "dense" or not _on_cores(study, pair):
        return
    shape = DATASETS[pair.dataset.name].shape
    if reason := misread(network, shape):
        raise SafsError(f"{name}: {reason}, which they get wrong; expected `backend: dense`")
    if study.profile.backend != "auto":
        return
    if kernels.why_not(network, shape, ()):
        return  # all of them run on PyTorch
    own = sources.default(pair.network.name)
    asked = {own, *pair.search.operators, *study.profile.studies.activations.operators}
    for operator in sorted(asked):
        if reason := kernels.why_not(network, shape, (operator,)):
            raise SafsError(
                f"{name}: {reason}, and others of its arms have one: a replicate would mix "
                "backends; expected `backend: dense`"
            )


def _on_cores(study: Study, pair: Pair) -> bool:
    """Whether it is cores that train a pair, as far as this machine can say."""
    import torch

    from pipelines.tasks.shared import multiply_adds

    device = compute.settings().device
    if device == "cpu" or not torch.cuda.is_available():
        return True
    size = multiply_adds(pair.network, pair.dataset.name)
    return device == "auto" and compute.place(size, study.profile.backend) == "cpu"


def _recipe(study: Study, name: str, pair: Pair) -> None:
    """The dense recipe is trial 0, so it must be a point of the tuning space."""
    if any(ARMS[arm].tuned for arm in study.profile.arms):
        dense = config_of(pair.recipe)
        for key, (low, high) in _RANGES.items():
            value = dense.get(key)
            if isinstance(value, float) and not low <= value <= high:
                raise SafsError(
                    f"{name}: recipe.{key}: {value}: outside of the tuning space, "
                    f"expected {low} to {high}"
                )
        try:
            space(pair.recipe, 0, schedule_for=pair.tune.schedule_for)
        except SafsError as error:
            raise SafsError(f"{name}: recipe: {error}") from None


def _masks(study: Study, name: str, pair: Pair, network: nn.Module) -> None:
    """Given masks are there and fit, and every pattern of spared layers matches one."""
    if not pair.prune.given and not pair.prune.spare:
        return
    from safs.networks import prunable
    from safs.pruning.prune import prune, spared

    try:
        if spared(network, pair.prune.spare) == {*prunable(network)}:
            raise SafsError(f"spare: {list(pair.prune.spare)} matches every layer; expected some")
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
