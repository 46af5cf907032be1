"""Timed epochs of every phase of every pair: `make bench`, or `make bench-full`.

A round is a training through the production loop; what counts is the seconds that the loop itself
counts for an epoch, as in the runs' records. `safs-bench cost` reads the JSON.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import pytest
import torch

from bench.cost.energy import Meter
from pipelines.config.pair import PAIRS, Pair, load_pair
from pipelines.dvc.plan import training_images
from pipelines.tasks import timing
from pipelines.tasks.shared import empty
from safs import slots
from safs.backends.device import clock, name, peak_memory, pick, prepare, reset_peak
from safs.pruning.prune import prune
from safs.settings import OPTIMIZERS
from safs.spec import Recipe
from safs.training.data import BatchOrder, Fold, load_fold
from safs.training.evaluation import score
from safs.training.loop import train
from safs.training.start import Pruned

SMALL = "lenet5_mnist5k"
LARGE = ("vgg16_cifar10", "resnet18_cifar10", "efficientnetb0_imagenet16", "resnet18_imagenet16")
ROUNDS = 5
MASKED = "sparse" if pick("auto").type == "cpu" else "dense"
"""What trains masked networks here: the kernels are for CPUs."""
FEW = 32
"""Images of a round of the large networks on a CPU without the kernels: two seconds."""
ORDER = BatchOrder(1, 0, "final")
MIXED = (
    ("relu6", "symlog", "swish", "gelu"),
    ("tanh", "srs", "elu", "hardswish"),
    ("acon", "softplus", "tanhsoft1", "sigmoid"),
)
"""Chromosomes that hold twelve of the thirteen candidates once (Symexp diverges too often)."""


@dataclass(frozen=True)
class Case:
    """A pair, what is timed of it, and how often its protocol does that."""

    pair: str
    phase: str
    ratio: float
    backend: str

    @property
    def spec(self) -> Pair:
        return load_pair(self.pair)

    @property
    def epochs(self) -> int:
        spec = self.spec
        counts = {
            "dense": spec.pretrain.epochs,
            "final": spec.finetune.epochs,
            "search": spec.search.evaluations * spec.search.epochs,
            "tune": spec.tune.trials * spec.tune.epochs,
            "evaluation": 0,
        }
        return counts[self.phase]

    @property
    def epochs_a_round(self) -> int:
        """As many as one training of quick has, where that takes a second or two."""
        if self.pair != SMALL or not self.ratio:
            return 1
        return 15 if self.backend == MASKED else 2


def cases(masked: str = MASKED) -> list[object]:
    """LeNet-5 in full; of the others what a minute each allows, the rest marked slow.

    Where PyTorch trains masked networks, final trainings on either backend are one case.
    """
    small = [Case(SMALL, "dense", 0.0, "dense"), Case(SMALL, "evaluation", 0.0, "dense")]
    for ratio in (0.90, 0.95, 0.99):
        small += [Case(SMALL, phase, ratio, masked) for phase in ("final", "search", "tune")]
        small += [Case(SMALL, "final", ratio, "dense")]
    found: list[object] = [pytest.param(case, id=_id(case)) for case in dict.fromkeys(small)]
    for pair in LARGE:
        quick = [Case(pair, "final", 0.99, "dense"), Case(pair, "final", 0.99, masked)]
        rest = [Case(pair, "dense", 0.0, "dense"), Case(pair, "evaluation", 0.0, "dense")]
        rest += [Case(pair, phase, 0.99, masked) for phase in ("search", "tune")]
        rest += [Case(pair, "final", ratio, masked) for ratio in (0.90, 0.95)]
        found += [pytest.param(case, id=_id(case)) for case in dict.fromkeys(quick)]
        found += [pytest.param(case, id=_id(case), marks=pytest.mark.slow) for case in rest]
    return found


def _id(case: Case) -> str:
    at = f"-{case.ratio:g}" if case.ratio else ""
    return f"{case.pair}-{case.phase}{at}-{case.backend}"


def fold_of(case: Case, device: torch.device) -> Fold:
    """The real fold of MNIST-5k; noise of the right shape for what would have to be downloaded."""
    if case.pair == SMALL:
        return load_fold("mnist5k", 0, 1, device)
    few = 2 * case.spec.recipe.batch_size if case.backend == MASKED else FEW
    return timing.random_fold(case.spec.dataset.name, few, device)


class Round:
    """The trainings of one round of a case, or its evaluation; remembers the seconds of an epoch.

    A search tries every operator and a tuning every optimiser, so a round of either trains several
    networks, and what counts is their mean.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.device = case, pick("auto")
        prepare(self.device)
        self.fold = fold_of(case, self.device)
        self.dense = trained(case, self.fold) if case.ratio else untrained(case, self.device)
        self.mask = prune(self.dense, case.ratio) if case.ratio else None
        self.epoch_seconds: list[float] = []

    def __call__(self) -> None:
        if self.case.phase == "evaluation":
            now = clock(self.device)
            started = now()
            score(self.dense, self.fold.train)
            self.epoch_seconds.append(now() - started)
        else:
            seconds = [self._train(genes, recipe) for genes, recipe in self._trainings()]
            self.epoch_seconds.append(statistics.mean(seconds))

    def _train(self, genes: Sequence[str], recipe: Recipe) -> float:
        """Seconds of an epoch, as the loop counts them."""
        every = self.case.phase in ("final", "dense")
        fold = self.fold
        if not every:
            fold = replace(fold, validation=_one(fold.validation))
        outcome = train(
            self._network(genes), fold, recipe, self.case.epochs_a_round, ORDER, mask=self.mask,
            backend=self.case.backend, validate="every" if every else "last",
        )  # fmt: skip
        assert outcome.failure is None and outcome.backend == self.case.backend, outcome
        return outcome.seconds / self.case.epochs_a_round

    def _trainings(self) -> list[tuple[Sequence[str], Recipe]]:
        """Operators and recipes of a round, at a rate that cannot diverge."""
        own = self.case.spec.recipe.model_copy(update={"lr": 1e-5})
        places = slots.slots(self.dense).values()
        if self.case.phase in ("final", "dense"):
            return [([slot.operator for slot in places], own)]
        mixed = [[chosen[i % len(chosen)] for i in range(len(places))] for chosen in MIXED]
        if self.case.phase == "search":
            return [(genes, own) for genes in mixed]
        recipes = [
            Recipe(
                optimizer=name,
                lr=1e-5,
                weight_decay=0.0 if name == "fromage" else 1e-4,
                batch_size=own.batch_size,
            )
            for name in OPTIMIZERS
        ]
        return [(mixed[i % len(mixed)], recipe) for i, recipe in enumerate(recipes)]

    def _network(self, genes: Sequence[str]) -> torch.nn.Module:
        if self.mask is None:
            return untrained(self.case, self.device)
        pruned = Pruned(self.dense, self.mask)
        return pruned.network(genes, self.fold.train, scaled=self.case.phase == "tune")


def untrained(case: Case, device: torch.device) -> torch.nn.Module:
    return empty(case.spec.network, case.spec.dataset.name).to(device)


@lru_cache(maxsize=1)
def _trained_small() -> torch.nn.Module:
    case = Case(SMALL, "dense", 0.0, "dense")
    device = pick("auto")
    network = untrained(case, device)
    train(network, fold_of(case, device), case.spec.recipe, 5, ORDER)
    return network


def trained(case: Case, fold: Fold) -> torch.nn.Module:
    """A dense network to prune: trained weights leave other paths than random ones."""
    if case.pair == SMALL:
        return copy.deepcopy(_trained_small())
    return untrained(case, fold.train.labels.device)


def _one(images):
    return replace(images, pixels=images.pixels[:1], labels=images.labels[:1])


@pytest.mark.bench
@pytest.mark.parametrize("case", cases())
def test_epoch(benchmark, case):
    timed = Round(case)
    timed()  # compiles kernels, fills caches
    timed.epoch_seconds.clear()
    reset_peak(timed.device)
    meter = Meter()
    rounds = ROUNDS if case.pair == SMALL else 3
    benchmark.pedantic(timed, rounds=rounds, iterations=1)
    joules = meter.joules()
    images, whole = len(timed.fold.train), training_images(case.spec.dataset.name)
    scale = whole / images
    seconds = [scale * value for value in timed.epoch_seconds]
    share = sum(timed.epoch_seconds) / benchmark.stats.stats.total
    benchmark.extra_info.update(
        pair=case.pair,
        phase=case.phase,
        ratio=case.ratio,
        backend=case.backend,
        images=images,
        epoch_images=whole,
        epoch_seconds=seconds,
        protocol_epochs=case.epochs,
        peak_memory=peak_memory(timed.device)["bytes"],
        joules=None if joules is None else scale * joules * share / rounds,
        device=name(timed.device) if timed.device.type == "cuda" else None,
    )


def test_the_cases_cover_every_phase_of_the_papers_pairs():
    pairs = {case.values[0].pair for case in cases()}
    assert pairs == {SMALL, *LARGE} and all((PAIRS / f"{pair}.yaml").exists() for pair in pairs)


@pytest.mark.parametrize("masked", ["sparse", "dense"])
def test_every_phase_that_safs_adds_up_is_timed_on_what_trains_masked_networks(masked):
    """On a GPU that is PyTorch, and nothing is timed twice."""
    found = [case.values[0] for case in cases(masked)]
    timed = {(c.pair, c.phase, c.ratio) for c in found if c.backend == masked}
    cells = {(SMALL, ratio) for ratio in (0.90, 0.95, 0.99)} | {(pair, 0.99) for pair in LARGE}
    phases = ("final", "search", "tune")
    assert timed >= {(pair, phase, ratio) for pair, ratio in cells for phase in phases}
    assert len(set(found)) == len(found)
    assert masked == "sparse" or {case.backend for case in found} == {"dense"}
