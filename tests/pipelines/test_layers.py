"""Data flow one way: no ring of modules, none of folders, and ``pipelines`` in its order."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from pipelines.storage.sources import ROOT

PACKAGES = ("safs", "bench", "pipelines")
UNIT = {f"safs.{name}": "safs.training" for name in ("backends", "kernels")}
"""The training of a masked network: its folders know each other."""
ORDER = (
    "storage", "config", "compute", "tasks", "engine", "results", "stages", "verification", "dvc",
    "acceptance", "cli",
)  # fmt: skip


def modules(root: Path) -> dict[str, Path]:
    """Every module of the three packages by its full name."""
    files = [file for package in PACKAGES for file in (root / package).rglob("*.py")]
    parts = {file: file.relative_to(root).with_suffix("").parts for file in files}
    return {".".join(p[:-1] if p[-1] == "__init__" else p): file for file, p in parts.items()}


def imported(file: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules that a file imports, inside functions as well; not for the type checker alone."""
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from (name for name in (inner, node.module) if name in known)


def graph(root: Path = ROOT) -> dict[str, set[str]]:
    known = modules(root)
    return {name: set(imported(file, known)) - {name} for name, file in known.items()}


def folders(of: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same imports between folders, and between the modules of a package's own folder."""
    found: dict[str, set[str]] = {}
    for name, others in of.items():
        found.setdefault(_folder(name), set()).update(_folder(other) for other in others)
    return {name: others - {name, *PACKAGES} for name, others in found.items()}


def _folder(name: str) -> str:
    place = ".".join(name.split(".")[:2])
    return UNIT.get(place, place)


def in_order(of: dict[str, set[str]]) -> list[str]:
    """What is imported before what imports it. Raises CycleError."""
    return list(TopologicalSorter(of).static_order())


def test_no_module_and_no_folder_imports_what_imports_it():
    of = graph()
    # A package's own file names its modules (safs's public names, the tables); that is no ring.
    whole = {name: others for name, others in of.items() if modules(ROOT)[name].stem != "__init__"}
    in_order({name: {o for o in others if o in whole} for name, others in whole.items()})
    in_order(folders(of))


def test_a_ring_is_found(tmp_path):
    for name, text in (("a", "def f():\n    import bench.x.b"), ("x/b", "from bench import a")):
        file = tmp_path / f"bench/{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    of = graph(tmp_path)
    assert of["bench.a"] == {"bench.x.b"}
    with pytest.raises(CycleError):
        in_order(of)
    with pytest.raises(CycleError):
        in_order(folders(of))


def test_the_folders_of_pipelines_stand_on_each_other_as_the_page_says():
    of = folders(graph())
    for place, name in enumerate(ORDER):
        used = {other.partition(".")[2] for other in of[f"pipelines.{name}"]}
        assert used & set(ORDER) <= set(ORDER[:place]), name
    page = (ROOT / "docs/ARCHITECTURE.md").read_text()
    told = page[page.index("stand on each other in this order") :]
    places = [told.index(f"| `{name}` |") for name in ORDER]
    assert places == sorted(places)
