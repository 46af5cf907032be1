"""Digests of what the kernels compute: the same from every compiler and on every processor.

    python tests/portable/cases.py [--few | --odd | --overrun] [--flag=-O2 ...] [--run]
        [--write FILE]

prints one line of JSON, name to digest. ``--few`` are 25 of the cases, ``--odd`` those whose sizes
divide by nothing, ``--run`` adds a whole small run; every ``--flag`` is put behind the compiler's
others, and $CXX names the compiler.
``tests/portable/digests.json`` holds what must come out.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from safs import kernels, masks, slots
from safs.kernels import build, structures
from safs.kernels.plan import CODES
from safs.masks import Mask
from safs.networks import build as new_network
from safs.networks import prunable
from safs.operators import OPERATORS
from safs.pruning.prune import prune, scoring_batch
from safs.search import predictors
from safs.settings import OPTIMIZERS
from safs.spec import Recipe
from safs.training.data import BatchOrder, Fold, Images, load_fold
from safs.training.loop import train
from safs.training.start import Pruned

DIGESTS = Path(__file__).with_name("digests.json")
Case = tuple[str, Callable[[], str]]
KNOWN = [name for name in OPERATORS if name in CODES]
_SHAPES = {"lenet5": (1, 28, 28), "efficientnet_b0": (3, 16, 16)}


def digest(*arrays: Any) -> str:
    """Of numbers; all NaN are one."""
    whole = hashlib.sha256()
    for array in arrays:
        values = np.asarray(array).copy()
        if values.dtype.kind == "f":
            values[np.isnan(values)] = np.nan
        whole.update(np.ascontiguousarray(values).tobytes())
    return whole.hexdigest()[:16]


# -- the kernels ---------------------------------------------------------------------------------
def operator(code: int, name: str) -> str:
    """Values and derivatives over small, middling and large arguments."""
    steps = np.concatenate([np.linspace(-30, 30, 4096), np.geomspace(1e-6, 1e4, 2048)])
    x = np.concatenate([steps, -steps]).astype(np.float32)
    own = np.zeros(4, np.float32)
    published = list(OPERATORS[name].own.values()) if name in OPERATORS else []
    own[: len(published)] = published
    values, slopes, gradients = np.zeros_like(x), np.zeros_like(x), np.zeros((4, len(x)), x.dtype)
    own_, x_, f, d, g = (
        ctypes.c_void_p(a.ctypes.data) for a in (own, x, values, slopes, gradients)
    )
    structures.library().safs_operator(
        ctypes.c_int64(code), own_, x_, ctypes.c_int64(len(x)), f, d, g
    )
    return digest(values, slopes, gradients)


def epoch(
    name: str,
    optimizer: str,
    operators: Sequence[str],
    ratio: float,
    count: int = 80,
    batch: int = 48,
    **width: float,
) -> str:
    """An epoch of a small network: parameters, statistics, sums and logits."""
    shape = _SHAPES.get(name, (3, 32, 32))
    made, augmented = _network(name, shape, operators, width), name in ("vgg16", "resnet18")
    mask = _mask(made, ratio)
    masks.apply(mask, made)
    settings: dict[str, Any] = {"momentum": 0.9} if optimizer == "sgd" else {}
    if optimizer != "fromage":
        settings["weight_decay"] = 1e-4
    recipe = Recipe(optimizer=optimizer, lr=0.01, batch_size=batch, **settings)
    trained = kernels.compile(made, mask, recipe, shape, recipe.batch_size)
    data, rng = _images(count, shape), np.random.default_rng(3)
    moved = {
        "pad": 4,
        "shift": rng.integers(0, 9, (count, 2)),
        "mirror": rng.random(count) < 0.5,
    }
    sums = trained.train_epoch(data, rng.permutation(count), 0.01, **moved if augmented else {})
    state = trained.state()
    kept = [p[key] for p in state["parameters"].values() for key in sorted(p)]
    kept += [n[key] for n in state["norms"].values() for key in sorted(n)]
    told = [sums.loss, sums.correct, sums.flow, sums.flow_step, sums.flow_released]
    return digest(*kept, told, trained.logits(data))


def overrun() -> str:
    """A planted fault: more values than there is memory for."""
    x = np.zeros(64, np.float32)
    place = ctypes.c_void_p(x.ctypes.data)
    structures.library().safs_operator(
        ctypes.c_int64(0), place, place, ctypes.c_int64(4096), place, place, place
    )
    return digest(x)


def _network(
    name: str, shape: tuple[int, int, int], operators: Sequence[str], width: dict[str, float]
) -> fx.GraphModule:
    """Weights drawn by numpy; slots filled one operator after the other."""
    made, rng = new_network(name, shape, 10, options=width), np.random.default_rng(5)
    with torch.no_grad():
        for parameter in made.parameters():
            fan = parameter[0].numel() if parameter.dim() > 1 else 16
            values = (rng.random(tuple(parameter.shape)) - 0.5) * 2 * np.sqrt(3 / fan)
            parameter.copy_(torch.from_numpy(values))
    places = len(slots.slots(made))
    chosen = [operators[i % len(operators)] for i in range(places)]
    slots.fill(made, chosen, scaled=True, train_own=True)
    return made


def _mask(made: fx.GraphModule, ratio: float) -> Mask:
    rng, mask = np.random.default_rng(7), {}
    for name, weight in prunable(made).items():
        order = rng.permutation(weight.numel()).reshape(tuple(weight.shape))
        mask[name] = torch.from_numpy(order >= int(ratio * weight.numel()))
    return mask


def _images(count: int, shape: tuple[int, int, int]) -> Images:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    centre = torch.full((shape[0], 1, 1), 0.3)
    labels = torch.from_numpy(rng.integers(0, 10, count))
    return Images(torch.from_numpy(pixels), labels, centre, centre)


def every_case() -> Iterator[Case]:
    """All operators, layers and optimisers, sparse and dense."""
    for code, name in enumerate(CODES):
        yield f"operator {name}", lambda code=code, name=name: operator(code, name)
    for name in KNOWN:
        yield f"lenet5 {name}", lambda name=name: epoch("lenet5", "sgd", [name], 0.9)
    networks = {"lenet5": {}, "vgg16": {"width": 0.125}, "resnet18": {"width": 0.125}}
    for name, width in networks.items():
        for ratio in (0.0, 0.9):
            for optimizer in OPTIMIZERS:
                yield (
                    f"{name} {ratio} {optimizer}",
                    lambda n=name, o=optimizer, r=ratio, w=width: epoch(n, o, KNOWN, r, **w),
                )
    yield "efficientnet_b0 sgd", lambda: epoch("efficientnet_b0", "sgd", KNOWN, 0.9, 24)
    yield from odd_cases()


def odd_cases() -> Iterator[Case]:
    """The last batch is no whole block of images, nor is the number of channels."""
    networks = {"lenet5": {}, "vgg16": {"width": 0.11}, "resnet18": {"width": 0.11}}
    for name, width in networks.items():
        for ratio in (0.0, 0.97):
            yield (
                f"{name} {ratio} odd",
                lambda n=name, r=ratio, w=width: epoch(n, "adam", KNOWN, r, 53, 24, **w),
            )


def planted() -> Iterator[Case]:
    """What a sanitizer must not let pass."""
    yield "overrun", overrun


def few_cases() -> Iterator[Case]:
    """Every operator by itself, and LeNet-5 with each optimiser."""
    for name, case in every_case():
        if name.startswith("operator ") or name.startswith("lenet5 0.9 "):
            yield name, case


# -- a whole small run ---------------------------------------------------------------------------
def small_run(images: int = 256, epochs: int = 2) -> str:
    """Initialisation, dense training, mask, calibration, predictors, masked trainings, scores."""
    whole = load_fold("mnist5k", 0, 2023, torch.device("cpu"))
    parts = (Images(p.pixels[:images], p.labels[:images], p.mean, p.std) for p in
             (whole.train, whole.validation))  # fmt: skip
    fold = Fold(*parts, whole.augmentation, whole.classes)
    dense = new_network("lenet5", (1, 28, 28), 10, root=2023, replicate=0)
    recipe = Recipe(lr=0.05, batch_size=64, schedule="cosine")
    found = [_trained(dense, fold, recipe, epochs, None)]
    for ratio, chromosome, optimizer in (
        (0.9, ["srelu"] * 4, "adam"),
        (0.9, ["gelu", "symexp", "tanhsoft1", "swish"], "tadam"),
        (0.99, ["acon", "srs", "elu", "symlog"], "fromage"),
    ):
        mask = prune(dense, ratio)
        network = Pruned(dense, mask).network(chromosome, fold.train, scaled=True, train_own=True)
        batch = scoring_batch(fold.train, 64, 2023, 0)
        scores = predictors.score(list(predictors.PREDICTORS), network, **batch)
        recipe = Recipe(optimizer=optimizer, lr=0.01, batch_size=64, schedule="warm_restarts")
        found.append(digest(*mask.values(), list(scores.values())))
        found.append(_trained(network, fold, recipe, epochs, mask))
    return digest([int(each, 16) >> 1 for each in found])


def _trained(
    network: fx.GraphModule, fold: Fold, recipe: Recipe, epochs: int, mask: Mask | None
) -> str:
    order = BatchOrder(2023, 0, "final")
    outcome = train(
        network, fold, recipe, epochs, order, mask=mask, backend="auto", validate="every"
    )
    assert outcome.backend == "sparse", outcome.notice
    told = [[e.train_loss, e.validation_loss, e.flow, e.flow_step] for e in outcome.history]
    return digest(*(parameter.detach().numpy() for parameter in network.parameters()), told)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--few", dest="of", action="store_const", const=few_cases)
    parser.add_argument("--odd", dest="of", action="store_const", const=odd_cases)
    parser.add_argument("--overrun", dest="of", action="store_const", const=planted)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--flag", action="append", default=[])
    parser.add_argument("--write", type=Path, default=None)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    build.FLAGS = (*build.FLAGS, *given.flag)
    found = {name: case() for name, case in (given.of or every_case)()}
    if given.run:
        found["small run"] = small_run()
    text = json.dumps(found, indent=0 if given.write else None)
    if given.write:
        given.write.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
