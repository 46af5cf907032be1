"""Which public models the suite adopts: torchvision's classifiers and thirty of timm.

    python tests/benchmarks/models.py [NAME ...]     # timm where it is installed

Builders of torchvision whose networks consist of the same kinds of modules are one row, for which
the smallest stands. Weights are random, images are noise of the model's own size. Activations are
counted apart from the code that adopts, by the functions that one pass of the original calls.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from models_page import page
from torch import nn
from torch.nn.modules import activation as activations
from torch.overrides import TorchFunctionMode

from safs import slots
from safs.api import adopt
from safs.errors import SafsError
from safs.networks import prunable

ROOT = Path(__file__).parents[2]
TIMM = (
    "resnet18 resnetv2_50 resnext50_32x4d seresnet50 wide_resnet50_2 densenet121 vgg11_bn vgg16 "
    "mobilenetv2_100 mobilenetv3_small_100 mobilenetv3_large_100 efficientnet_b0 "
    "tf_efficientnet_b0 efficientnetv2_rw_t mnasnet_100 regnety_002 regnetx_002 ghostnet_100 "
    "repvgg_a0 convnext_atto convnextv2_atto vit_tiny_patch16_224 deit_tiny_patch16_224 "
    "swin_tiny_patch4_window7_224 mixer_b16_224 gmlp_s16_224 poolformer_s12 hardcorenas_a "
    "cspresnet50 inception_v3"
)
CALLED = {name.lower() for name in activations.__all__} - {
    "multiheadattention", "softmin", "softmax", "softmax2d", "logsoftmax",
}  # fmt: skip


class Counted(TorchFunctionMode):
    """Counts the calls of functions that torch.nn has as activation modules."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.calls += getattr(func, "__name__", "").replace("_", "") in CALLED
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def called(model: nn.Module, x: torch.Tensor) -> int:
    """Activations of a pass in evaluation mode; slots count as one for each use."""
    probe, counted = copy.deepcopy(model).eval(), Counted()
    for slot in slots.slots(probe).values() if hasattr(probe, "slots") else ():
        slot.forward = nn.functional.relu  # type: ignore[method-assign]
    with counted:
        probe(x.clone())
    return counted.calls


def tried(model: nn.Module, size: int, default: str | None) -> dict[str, Any]:
    """What became of a model."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, size, size)
    try:
        taken = adopt.take(model, x, default)
    except SafsError as error:
        return {"adopted": False, "why": str(error)}
    network = taken.network
    weights = prunable(network)
    named = {name.removesuffix(".weight") for name, p in network.named_parameters() if p.dim() > 1}
    return {
        "adopted": True,
        "graph": isinstance(network, torch.fx.GraphModule),
        "called": called(model, x),
        "found": called(network, x),
        "slots": len(slots.slots(network)),
        "left": Counter(why for why in taken.left.values()),
        "pruned": len(weights),
        "weights": sum(weight.numel() for weight in weights.values()),
        "dense": Counter(layer.why for layer in taken.dense.values()),
        "others": Counter(name.rpartition(".")[2] for name in named - {*weights, *taken.dense}),
    }


def weightless(make: Callable[[], nn.Module]) -> nn.Module:
    """A network for its structure alone, without memory where its builder computes nothing.

    torch raises NotImplementedError for a builder that reads a value of a tensor without data.
    """
    try:
        with torch.device("meta"):
            return make()
    except NotImplementedError:
        return make()


def torchvision_models(chosen: list[str]) -> Iterator[tuple[dict[str, Any], Callable[[], Any]]]:
    """A row for each group of builders, and the smallest network of the group."""
    import torchvision
    from torchvision import models

    groups: dict[Any, list[tuple[int, str]]] = {}
    for name in models.list_models(module=torchvision.models):
        network = weightless(lambda name=name: models.get_model(name, weights=None))
        kinds = frozenset(type(module) for module in network.modules())
        size = sum(parameter.numel() for parameter in network.parameters())
        groups.setdefault((type(network), kinds), []).append((size, name))
    for members in groups.values():
        name = min(members)[1]
        if not chosen or name in chosen:
            size = models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
            others = sorted(other for _, other in members if other != name)
            row = {"library": "torchvision", "model": name, "like": others, "size": size}
            yield row, lambda name=name: models.get_model(name, weights=None)


def timm_models(chosen: list[str]) -> Iterator[tuple[dict[str, Any], Callable[[], Any]]]:
    """A row for each of the thirty."""
    timm = import_module("timm")
    for name in TIMM.split():
        if not chosen or name in chosen:
            size = timm.get_pretrained_cfg(name).input_size[-1]
            row = {"library": "timm", "model": name, "like": [], "size": size}
            yield row, lambda name=name: timm.create_model(name, pretrained=False)


def measure(chosen: list[str]) -> Iterator[dict[str, Any]]:
    """Every model as it comes; one with unknown activations again with ``default="relu"``."""
    for source in (torchvision_models, *[timm_models] * (find_spec("timm") is not None)):
        for row, make in source(chosen):
            started = time.perf_counter()
            found = tried(make(), row["size"], None)
            if "no operator equals" in found.get("why", ""):
                found = {**tried(make(), row["size"], "relu"), "default": "relu"}
            print(f"{row['model']}: {found}, {time.perf_counter() - started:.0f} s", flush=True)
            yield row | found


def main() -> None:
    """Measure, and write ``results/models.json`` and ``docs/MODELS.md``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help="only these, and write nothing")
    chosen = parser.parse_args().name
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = list(measure(chosen))
    if not chosen:
        libraries = {row["library"] for row in rows} | {"torch"}
        measured = {"versions": {name: version(name) for name in libraries}, "models": rows}
        text = json.dumps(measured, indent=1, sort_keys=True) + "\n"
        (ROOT / "results/models.json").write_text(text)
        (ROOT / "docs/MODELS.md").write_text(page(json.loads(text)))


if __name__ == "__main__":
    main()
