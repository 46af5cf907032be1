"""Which source files a piece of work depends on, found by reading imports, not by running them."""

from __future__ import annotations

import ast
import hashlib
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_PACKAGES = ("safs", "bench", "pipelines")


# CPython 3.11's parser keeps a depth counter that threads share: one at a time.
_PARSER = threading.Lock()


@cache
def closure(path: Path) -> frozenset[Path]:
    """``path`` and every project file it imports, directly or not, lazily or not.

    Of the packages of networks and of data sets only the base: adding another leaves work valid.
    """
    added_to = {ROOT / f"safs/{name}/__init__.py" for name in ("networks", "datasets")}
    seen: set[Path] = set()
    waiting = [path.resolve()]
    while waiting:
        file = waiting.pop()
        if file in added_to:
            file = file.with_name("base.py")
        if file not in seen:
            seen.add(file)
            waiting.extend(imports(file))
    return frozenset(seen)


@cache
def fingerprint(files: frozenset[Path]) -> str:
    """Digest of what ``files`` do: comments, layout and docstrings of Python's do not count.

    So an edited docstring makes DVC look at a stage again, and the stage then finds that all its
    finished work is still valid.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.relative_to(ROOT).as_posix().encode())
        python = file.suffix == ".py"
        text = ast.unparse(_without_docstrings(_tree(file))) if python else file.read_text()
        digest.update(text.encode())
    return digest.hexdigest()


@cache
def training_code(network: str, dataset: str) -> str:
    """Fingerprint of the code that one training runs, the kernels' C++ included.

    Of the networks and data sets the files count that define the ones in use, with their imports.
    """
    starts = (
        ROOT / "safs/training.py",
        ROOT / "safs/pruned.py",
        _defining(ROOT / "safs/networks", "network", network),
        _defining(ROOT / "safs/datasets", "dataset", dataset),
    )
    files = frozenset[Path]().union(*map(closure, starts))
    return fingerprint(files | set((ROOT / "safs/kernels/src").iterdir()))


@cache
def registered(path: Path, decorator: str) -> dict[str, Path]:
    """Names that a file, or the files of a folder, register with ``@decorator(name, ...)``.

    Read from the source, so that names can be checked where torch is not installed.
    """
    return {name: file for name, file, _ in _registrations(path, decorator)}


@cache
def options(path: Path, decorator: str, name: str, positional: int) -> tuple[str, ...]:
    """The arguments, after the first ``positional``, of the function registered under a name."""
    (found,) = (node for known, _, node in _registrations(path, decorator) if known == name)
    assert isinstance(found, ast.FunctionDef)
    return tuple(a.arg for a in (*found.args.args[positional:], *found.args.kwonlyargs))


def _registrations(path: Path, decorator: str) -> Iterator[tuple[str, Path, ast.AST]]:
    """Name, file and definition of everything that is registered."""
    for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
        for node in ast.walk(_tree(file)):
            for call in getattr(node, "decorator_list", []):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == decorator:
                    yield str(ast.literal_eval(call.args[0])), file, node


def _defining(folder: Path, decorator: str, name: str) -> Path:
    known = registered(folder, decorator)
    if name not in known:
        raise LookupError(f"no file in {folder.name}/ registers the {decorator} {name!r}")
    return known[name]


def imports(file: Path) -> Iterator[Path]:
    """The project files that a file imports itself."""
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            yield from _files(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from _files([node.module, *(f"{node.module}.{a.name}" for a in node.names)])


def _files(modules: Iterable[str]) -> Iterator[Path]:
    for module in modules:
        parts = module.split(".")
        if parts[0] not in _PACKAGES:
            continue
        for depth in range(1, len(parts) + 1):
            base = ROOT.joinpath(*parts[:depth])
            for file in (base.with_suffix(".py"), base / "__init__.py"):
                if file.is_file():
                    yield file


def _tree(file: Path) -> ast.Module:
    with _PARSER:
        return ast.parse(file.read_text())


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree
