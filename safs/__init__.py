"""SAFS, usable alone: learn the activation functions of any sparse network.

``import safs`` imports no torch: the public names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# By name and not by statement, so that what a training depends on is not all of this.
# A name that ends its module's stands for the module.
_PUBLIC = {
    "Budget": "safs.api.report",
    "OPERATORS": "safs.operators",
    "PRUNERS": "safs.pruning.pruners",
    "Recipe": "safs.spec",
    "Result": "safs.api.tune",
    "SEARCHES": "safs.search",
    "SafsError": "safs.errors",
    "Augmentation": "safs.datasets.base",
    "adopt": "safs.api.adopt",
    "load": "safs.api.tune",
    "operator": "safs.operators",
    "search_and_tune": "safs.api.tune",
    "to_onnx": "safs.api.export",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'safs' has no attribute {name!r}")
    module = import_module(_PUBLIC[name])
    return module if _PUBLIC[name].endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
