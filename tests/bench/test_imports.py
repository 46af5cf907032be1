"""bench works where torch is not installed, also what it reads of safs, and knows no pipeline."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import bench

ROOT = Path(bench.__file__).parent
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(ROOT)], "bench."))
BLOCKED = ("torch", "torchvision", "pipelines", "dvc", "smac", "distributed")


def test_every_module_imports_without_torch() -> None:
    code = (
        "import importlib, sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {BLOCKED!r}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"for name in {['bench', *MODULES]!r}: importlib.import_module(name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: p.name)
def test_no_module_reaches_across(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
    names += [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    assert not {name.split(".")[0] for name in names} & set(BLOCKED)


def test_the_schema_is_light() -> None:
    """Validating a file needs no plotting library and no statistics."""
    heavy = "{'matplotlib', 'pandas'} & set(sys.modules)"
    code = f"import sys, bench.records.record; print(int(bool({heavy})))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "0"
