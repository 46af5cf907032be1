"""What has to hold on a GPU, by risk: what would make results wrong comes first.

A check is a function of the device that returns a line on what it saw, or raises. Nothing stops at
the first failure: :mod:`.run` writes down each.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipelines.acceptance import subjects
from pipelines.acceptance.speed import profiled
from pipelines.acceptance.subjects import CPU, NETWORKS, ORDER, Subject
from safs import slots
from safs.backends import precision
from safs.backends.base import EpochSums
from safs.backends.dense import DenseBackend
from safs.backends.graphs import WARM_UP
from safs.networks import build, prunable
from safs.operators import OPERATORS
from safs.pruning.prune import prune, scoring_batch
from safs.search import predictors
from safs.settings import OPTIMIZERS
from safs.slots import Slot
from safs.spec import Acceleration
from safs.training import calibration, evaluation


class NotMet(AssertionError):
    """A check saw something else than it must."""


class Requirement(NamedTuple):
    """``run(device)`` returns what was seen, in a line."""

    group: str
    name: str
    run: Callable[[torch.device], str]


def checks(networks: Sequence[Subject] = NETWORKS) -> Iterator[Requirement]:
    """All of them, in the order in which they run.

    Args:
        networks: LeNet-5 first; those after it have batch norm.
    """
    small = networks[0]
    yield Requirement("rounding", "products and convolutions are not rounded to TF32", rounding)
    yield Requirement(
        "rounding", "an operation without a deterministic algorithm is an error", strict
    )
    for name in OPERATORS:
        yield Requirement("operators", name, partial(operator, name))
    for network in networks:
        for title, function in _OF_A_NETWORK.items():
            yield Requirement(title, network.name, partial(function, network))
    for optimizer in OPTIMIZERS:
        yield Requirement("optimisers", optimizer, partial(repeats, small, optimizer=optimizer))
    for network in networks:
        yield Requirement("graphs", network.name, partial(replays, network))
    for optimizer in OPTIMIZERS:
        title = f"{small.name}, {optimizer}"
        yield Requirement("graphs", title, partial(replays, small, optimizer=optimizer))
    yield Requirement("method", "masks are the CPU's", same_masks)
    yield Requirement("method", "predictors are the CPU's", same_predictors)
    yield Requirement("method", "SReLU's thresholds are the CPU's", same_thresholds)
    yield Requirement("method", "search_and_tune, saved and loaded", public_api)
    yield Requirement("method", "test images of MNIST-5k are scored as on the CPU", same_scores)
    for options in ACCELERATIONS:
        title = ", ".join(f"{key}={value}" for key, value in options.items())
        tried = networks[-1] if "channels_last" in options else small
        yield Requirement("arithmetic", title, partial(learns_as_well, options, tried))


ACCELERATIONS: tuple[dict[str, Any], ...] = (
    {"tf32": True}, {"bf16": True}, {"channels_last": True},
    {"bf16": True, "channels_last": True}, {"compile": "on"}, {"compile": "cuda_graphs"},
)  # fmt: skip
BUDGETS = {"lenet5": 142, "vgg16": 411, "resnet18": 553, "efficientnet_b0": 1307}
"""Kernels that a step with SGD may start: a tenth more than on an H200 (torch 2.11, cuDNN 9.19).

The tests count torch's operations, which are fewer: cuDNN takes several kernels for a convolution.
"""
_COARSE = {"hardswish": 1e-7}
"""Errors in float64 of what torch computes on CUDA with constants of float32."""


# -- rounding ------------------------------------------------------------------------------------
def rounding(device: torch.device) -> str:
    """Against float64: TF32 would be wrong in the fourth digit."""
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=rng) for _ in range(2))
    x, w = torch.randn(8, 32, 16, 16, generator=rng), torch.randn(64, 32, 3, 3, generator=rng)
    seen = [
        ("product", _error(a.to(device) @ b.to(device), a.double() @ b.double())),
        ("convolution", _error(
            functional.conv2d(x.to(device), w.to(device)), functional.conv2d(x.double(), w.double())
        )),
    ]  # fmt: skip
    _must(not precision.tf32(), "a switch of torch allows TF32")
    for name, error in seen:
        _must(error < 1e-5, f"{name}: off by {error:.1e} of the largest value")
    return ", ".join(f"{name} off by {error:.1e}" for name, error in seen)


def strict(device: torch.device) -> str:
    """Of the operations without one, the gradient of adaptive pooling."""
    _must(torch.are_deterministic_algorithms_enabled(), "deterministic algorithms are off")
    pooled = functional.adaptive_avg_pool2d(
        torch.ones(1, 1, 5, 5, device=device).requires_grad_(), 2
    )
    try:
        pooled.sum().backward()
    except RuntimeError as error:
        told = str(error).splitlines()[0][:200]
        _must("deterministic" in told, told)
        return told
    raise NotMet("the gradient of adaptive pooling ran")


# -- operators -----------------------------------------------------------------------------------
def operator(name: str, device: torch.device) -> str:
    """Values and gradients in float64 and float32, and float32 under bfloat16."""
    x = torch.linspace(-6, 6, 4 * 3 * 64).reshape(4, 3, 64)
    seen = []
    for kind, given, limit in (
        ("float64", x.double(), _COARSE.get(name, 1e-10)), ("float32", x, 1e-4),
        ("bfloat16", x.bfloat16(), 5e-2),
    ):  # fmt: skip
        found, wanted = _pass(name, given, device), _pass(name, given.double(), CPU)
        _must(kind != "bfloat16" or found[0].dtype == torch.float32, "bfloat16: not in float32")
        error = max(_error(f, w) for f, w in zip(found, wanted, strict=True))
        _must(error < limit, f"{kind}: off by {error:.1e} of the largest value")
        seen.append(f"{kind} {error:.1e}")
    return ", ".join(seen)


def _pass(name: str, x: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    slot = Slot(name, x.shape[1])
    slot.fill(name, scaled=True)
    slot = slot.to(device, torch.float64 if x.dtype == torch.float64 else torch.float32)
    there = x.to(device).requires_grad_()
    output = slot(there)
    output.sum().backward()
    assert there.grad is not None
    return output.detach(), there.grad


# -- networks ------------------------------------------------------------------------------------
def repeats(network: Subject, device: torch.device, optimizer: str = "sgd") -> str:
    """Twice the same, and resumed after the first epoch from bytes: bit for bit."""
    whole, again = (subjects.trained(network, device, optimizer) for _ in range(2))
    _same(whole, again, "a second run")
    buffer = io.BytesIO()
    torch.save(whole.states[0], buffer)
    buffer.seek(0)
    state = torch.load(buffer, map_location="cpu", weights_only=True)
    _same(whole, subjects.trained(network, device, optimizer, resume=state), "a resumed run")
    return f"loss {whole.outcome.last.train_loss:.6f}"


def _same(whole: subjects.Attempt, other: subjects.Attempt, what: str) -> None:
    _must(whole.outcome.failure is None, f"failed: {whole.outcome.failure}")
    _must(other.outcome.history == whole.outcome.history, f"{what} has another history")
    for name, value in whole.weights.items():
        _must(torch.equal(other.weights[name], value), f"{what} ends with another {name}")


def prunes(network: Subject, device: torch.device) -> str:
    """Pruned weights stay exactly 0, survivors are as many as the mask has."""
    _, mask = subjects.pruned(network)
    weights = subjects.trained(network, device).weights
    for name, keep in mask.items():
        left = weights[f"{name}.weight"][~keep]
        _must(not left.any(), f"{name}: {int(left.count_nonzero())} pruned weights are not 0")
    return f"{sum(int(keep.sum()) for keep in mask.values())} survivors"


def as_on_the_cpu(network: Subject, device: torch.device) -> str:
    """The same batches, and losses that differ by rounding."""
    there, here = (
        list(ORDER.batches(subjects.fold(network, place), 0, subjects.BATCH))
        for place in (device, CPU)
    )
    for (images, labels), (expected, names) in zip(there, here, strict=True):
        _must(_error(images, expected) < 1e-6, "other images")
        _must(torch.equal(labels.cpu(), names), "other labels")
    ours, theirs = (subjects.trained(network, place).outcome.last for place in (device, CPU))
    difference = abs(ours.train_loss - theirs.train_loss) / theirs.train_loss
    _must(difference < 1e-3, f"the loss differs by {difference:.1e} of its size")
    return f"the loss differs by {difference:.1e}"


def launches(network: Subject, device: torch.device) -> str:
    """No synchronisation inside a step, and no more kernels than the budget."""
    backend = step_of(network, device, 2 * subjects.BATCH)
    backend.train_epoch(0, 1e-4)
    backend.begin(1, 1e-4)
    batches = ORDER.batches(backend.fold, 1, subjects.BATCH)
    first = next(batches)  # with it the epoch's order goes to the device
    with _no_waiting():
        backend.advance(*first)
        for batch in batches:
            backend.advance(*batch)
    totals = backend.totals
    _must(totals.sums().failed_step is None, "the loss was not finite")
    kernels = profiled(backend)
    _must(kernels is not None, "torch's profiler tells no kernels")
    assert kernels is not None
    count = kernels.number / totals.steps
    most = BUDGETS[network.name]
    _must(count <= most, f"{count:.0f} kernels per step, at most {most} are allowed")
    return f"{count:.0f} kernels per step of at most {most}"


def step_of(
    network: Subject,
    device: torch.device,
    images: int,
    how: Acceleration | None = None,
    optimizer: str = "sgd",
) -> DenseBackend:
    """A network on a device, and images to train it on."""
    made, mask = subjects.pruned(network)
    fold = subjects.fold(network, device, images)
    return DenseBackend(made.to(device), fold, subjects.recipe(optimizer), ORDER, mask, how)


def replays(network: Subject, device: torch.device, optimizer: str = "sgd") -> str:
    """Steps from a graph are the steps themselves, bit for bit; plain ones differ by rounding."""
    images = (WARM_UP + 2) * subjects.BATCH + subjects.BATCH // 2  # the last batch is not full
    graphs = Acceleration(graphs=True)
    replayed, eager, plain = (
        step_of(network, device, images, how, optimizer) for how in (graphs, graphs, None)
    )
    eager.captured = None
    ours, theirs, others = (_two_epochs(backend) for backend in (replayed, eager, plain))
    _must(ours == theirs, f"a replayed epoch has the sums {ours[-1]}, its steps {theirs[-1]}")
    expected = eager.network.state_dict()
    for name, value in replayed.network.state_dict().items():
        _must(torch.equal(value, expected[name]), f"replays end with another {name}")
    difference = abs(ours[-1].loss - others[-1].loss) / others[-1].loss
    _must(difference < 1e-3, f"the plain steps' loss differs by {difference:.1e}")
    return f"the same bits; the plain steps' loss differs by {difference:.1e}"


def _two_epochs(backend: DenseBackend) -> list[EpochSums]:
    return [backend.train_epoch(epoch, lr) for epoch, lr in enumerate((1e-3, 5e-4))]


@contextmanager
def _no_waiting() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


_OF_A_NETWORK: dict[str, Callable[[Subject, torch.device], str]] = {
    "repeats": repeats, "pruned": prunes, "as on the CPU": as_on_the_cpu, "launches": launches,
}  # fmt: skip


# -- the method ----------------------------------------------------------------------------------
def same_masks(device: torch.device) -> str:
    """Magnitude exactly; gradient pruners choose nearly the same weights."""
    told = []
    for method in ("magnitude", "snip", "synflow"):
        here, there = (_mask(method, place) for place in (CPU, device))
        total = sum(keep.numel() for keep in here.values())
        differ = sum(int((keep != there[name]).sum()) for name, keep in here.items()) / total
        _must(differ <= (0 if method == "magnitude" else 1e-3), f"{method}: {differ:.2%} differ")
        told.append(f"{method} {differ:.3%} differ")
    return ", ".join(told)


def _mask(method: str, device: torch.device) -> dict[str, Tensor]:
    network = NETWORKS[0]
    made = build(network.name, network.shape, network.classes).to(device)
    batch: Any = scoring_batch(subjects.fold(network, device).train, 64, 1, 0)
    rng = np.random.default_rng(0)
    found = prune(made, 0.9, method, shape=network.shape, rng=rng, **batch)
    return {name: keep.cpu() for name, keep in found.items()}


def same_predictors(device: torch.device) -> str:
    """To a hundredth of their size."""
    values = []
    for place in (CPU, device):
        made, _ = subjects.pruned(NETWORKS[0])
        batch = scoring_batch(subjects.fold(NETWORKS[0], place).train, 64, 1, 0)
        values.append(predictors.score(list(predictors.PREDICTORS), made.to(place), **batch))
    for name, value in values[0].items():
        error = abs(values[1][name] - value) / max(abs(value), 1e-9)
        _must(error < 1e-2, f"{name}: {values[1][name]:g}, on the CPU {value:g}")
    return ", ".join(values[0])


def same_thresholds(device: torch.device) -> str:
    """Those that SReLU reads off the images."""
    found = []
    for place in (CPU, device):
        made, _ = subjects.pruned(NETWORKS[0])
        made = made.to(place)
        seen = calibration.inputs(made, subjects.fold(NETWORKS[0], place).train)
        slots.fill(made, ["srelu"] * len(seen))
        calibration.calibrate(made, seen)
        found.append([slot.own["t_right"].detach() for slot in slots.slots(made).values()])
    error = max(_error(ours, theirs) for theirs, ours in zip(*found, strict=True))
    _must(error < 1e-5, f"off by {error:.1e} of the largest")
    return f"off by {error:.1e}"


def public_api(device: torch.device) -> str:
    """A user's model on the device: tuned, saved, loaded again with the same outputs."""
    import tempfile

    import safs

    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(96, 1, 8, 8, generator=rng), torch.arange(96) % 3
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(216, 3)
    ).to(device)
    model.to(memory_format=torch.channels_last)
    budget = safs.Budget(moves=1, search_epochs=1, trials=2, tune_epochs=1)
    found = safs.search_and_tune(model, (x, y), (x, y), ratio=0.5, budget=budget)
    place = next(found.module.parameters()).device
    _must(place.type == device.type, f"the tuned network is on {place}")
    with tempfile.TemporaryDirectory() as folder:
        again = safs.load(found.save(folder), copy.deepcopy(model))
    few = x[:8].to(device)
    difference = _error(again.eval()(few), found.module.eval()(few))
    _must(difference == 0, f"outputs differ by {difference:.1e}")
    return "the same outputs"


def same_scores(device: torch.device) -> str:
    """Top-1 within two images of a thousand."""
    made, _ = subjects.pruned(NETWORKS[0])
    here = evaluation.test([copy.deepcopy(made)], "mnist5k", CPU)[0].top1
    there = evaluation.test([made.to(device)], "mnist5k", device)[0].top1
    _must(abs(here - there) <= 0.002, f"{there:.4f}, on the CPU {here:.4f}")
    return f"{there:.4f} and {here:.4f}"


def learns_as_well(options: dict[str, Any], network: Subject, device: torch.device) -> str:
    """A loss within a twentieth of the plain one's, parameters in float32, pruned weights 0."""
    how = Acceleration(**options)
    plain = subjects.trained(network, device).outcome.last.train_loss
    found = subjects.trained(network, device, acceleration=how)
    _must(found.outcome.failure is None, f"failed: {found.outcome.failure}")
    difference = abs(found.outcome.last.train_loss - plain) / plain
    _must(difference < 0.05, f"the loss differs by {difference:.1%}")
    kept = prunable(subjects.pruned(network)[0])
    wrong = [n for n in kept if found.weights[f"{n}.weight"].dtype != torch.float32]
    _must(not wrong, f"{wrong} are not float32")
    return f"the loss differs by {difference:.1e}"


def _error(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, as a share of the largest wanted value."""
    found, wanted = found.detach().cpu().double(), wanted.detach().cpu().double()
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotMet(otherwise)
