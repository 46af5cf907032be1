"""What a piece of work depends on in the source, found by reading it and not by running it.

The unit is the definition, not the file: of what is registered (operators, networks, data sets,
pruners, searches, ...) only the entries that a piece of work names count, and what these use. So an
added entry, wherever it stands, leaves all finished work of others valid.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from safs.errors import SafsError, UnknownName

ROOT = Path(__file__).resolve().parent.parent.parent
_PACKAGES = ("safs", "bench", "pipelines")
_FOR_PEOPLE = {"label", "formula"}
"""Keywords of a registering decorator that change no result."""

# CPython 3.11's parser keeps a depth counter that threads share: one at a time.
_PARSER = threading.Lock()


@dataclass(frozen=True)
class Kind:
    """A registry: the decorator that fills it, where its entries stand, and its module and name."""

    decorator: str
    place: str
    registry: str


KINDS = {
    "operator": Kind("operator", "safs/operators", "safs.operators.base:OPERATORS"),
    "network": Kind("network", "safs/networks", "safs.networks.base:NETWORKS"),
    "dataset": Kind("dataset", "safs/datasets", "safs.datasets.base:DATASETS"),
    "pruner": Kind("PRUNERS.register", "safs/pruning", "safs.pruning.pruners:PRUNERS"),
    "scope": Kind("SCOPES.register", "safs/pruning", "safs.pruning.scopes:SCOPES"),
    "search": Kind("SEARCHES.register", "safs/search", "safs.search.base:SEARCHES"),
    "predictor": Kind("PREDICTORS.register", "safs/search", "safs.search.predictors:PREDICTORS"),
    "optimizer": Kind(
        "OPTIMIZERS.register", "safs/training", "safs.training.optimizers:OPTIMIZERS"
    ),
    "schedule": Kind("SCHEDULES.register", "safs/training", "safs.training.schedules:SCHEDULES"),
}
# Importing these packages registers all of their entries; only their base counts.
_REGISTERING = {
    ROOT / f"safs/{n}/__init__.py" for n in ("operators", "networks", "datasets", "search")
}


class Registered(NamedTuple):
    """Something registered: ``("operator", "swish")``."""

    kind: str
    name: str


class Definition(NamedTuple):
    """A registered definition of a file, by the name of its function or class; "" is the rest."""

    file: Path
    definition: str


def names(kind: str) -> dict[str, Path]:
    """The names of a registry and their files, also those that no file of the project registers."""
    found = {entry.name: part.file for entry, part in _scanned(kind).items()}
    return found | {name: part.file for name, part in _running(kind) if name not in found}


def options(kind: str, name: str, positional: int) -> dict[str, str]:
    """The arguments, after the first ``positional``, of the function registered under a name, each
    with its type as the function names it, empty where it names none."""
    node = _defined(find(Registered(kind, name)))
    assert isinstance(node, ast.FunctionDef)
    arguments = (*node.args.args[positional:], *node.args.kwonlyargs)
    return {a.arg: ast.unparse(a.annotation) if a.annotation else "" for a in arguments}


def find(entry: Registered) -> Definition:
    """Where an entry is defined. Raises UnknownName."""
    running = dict(_running(entry.kind))
    part = _scanned(entry.kind).get(entry) or running.get(entry.name)
    if part is None:
        raise UnknownName(entry.kind, entry.name, names(entry.kind))
    return part


@cache
def fingerprint(starts: frozenset[Path], entries: frozenset[Registered] = frozenset()) -> str:
    """Digest of what the files ``starts`` and the entries do, with everything that they import.

    Comments, layout, docstrings, labels and formulas do not count: after such an edit DVC looks at
    a stage again, and the stage then finds that all its finished work is still valid.
    """
    digest = hashlib.sha256()
    for part in sorted(parts(starts, entries)):
        digest.update(f"{_place(part.file)} {part.definition} {_digest(part)}\n".encode())
    return digest.hexdigest()


def of(*starts: str, entries: Iterable[Registered] = ()) -> str:
    """:func:`fingerprint` of files given relative to the project's root."""
    return fingerprint(frozenset(ROOT / start for start in starts), frozenset(entries))


@cache
def parts(
    starts: frozenset[Path], entries: frozenset[Registered] = frozenset()
) -> frozenset[Definition]:
    """The definitions that files and entries depend on, directly or not, lazily or not."""
    seen: set[Definition] = set()
    waiting = [Definition(file, "") for file in starts] + [find(entry) for entry in entries]
    while waiting:
        part = waiting.pop()
        if part not in seen:
            seen.add(part)
            waiting += _needs(part)
    return frozenset(seen)


KERNELS = tuple(
    f"safs/kernels/src/{path.name}" for path in sorted((ROOT / "safs/kernels/src").iterdir())
)
"""The kernels' C++ sources, which no import shows."""


def training_code(
    network: str, dataset: str, operators: Iterable[str], optimizer: str, schedule: str
) -> str:
    """Fingerprint of the code that one training runs, the kernels' C++ included.

    Args:
        network, dataset, optimizer, schedule: the entries in use.
        operators: those in the slots; none for a dense training, which has the network's own.
    """
    chosen = frozenset(operators) or {default(network)}
    entries = {Registered("operator", name) for name in chosen} | {
        Registered("network", network), Registered("dataset", dataset),
        Registered("optimizer", optimizer), Registered("schedule", schedule),
    }  # fmt: skip
    return of("safs/training/loop.py", "safs/training/start.py", *KERNELS, entries=entries)


def default(network: str) -> str:
    """The operator of a dense network: the keyword ``default`` of its decorator."""
    call = _registration(_defined(find(Registered("network", network))))
    keywords = {k.arg: k.value for k in call.keywords} if call else {}
    return str(ast.literal_eval(keywords["default"])) if "default" in keywords else "relu"


@cache
def _scanned(kind: str) -> dict[Registered, Definition]:
    """The entries that the project's files register."""
    folder = ROOT / KINDS[kind].place
    return {
        entry: Definition(file, definition)
        for file in sorted(folder.glob("*.py"))
        for definition, entry in _registered(file).items()
        if entry.kind == kind
    }


def _running(kind: str) -> Iterator[tuple[str, Definition]]:
    """The entries that this process has registered, if it has loaded the registry."""
    module, _, attribute = KINDS[kind].registry.partition(":")
    if module in sys.modules:
        for name, definition in getattr(import_module(module), attribute).definitions.items():
            file = inspect.getsourcefile(definition)
            if file is not None:
                yield name, Definition(Path(file).resolve(), definition.__name__)


@cache
def _registered(file: Path) -> dict[str, Registered]:
    """The registered definitions of a file, by the name of the function or class."""
    found = {}
    for node in _nodes(file):
        if (call := _registration(node)) is not None:
            entry = Registered(_kind(call), str(ast.literal_eval(call.args[0])))
            found[str(getattr(node, "name", ""))] = entry
    return found


def _registration(node: ast.AST) -> ast.Call | None:
    """The decorator that registers a definition, or None."""
    for call in getattr(node, "decorator_list", []):
        if isinstance(call, ast.Call) and _kind(call):
            return call
    return None


def _kind(call: ast.Call) -> str:
    """The kind of entry that a decorator registers, whatever module it is taken from, or ""."""
    name = f".{ast.unparse(call.func)}"
    return next((kind for kind, k in KINDS.items() if name.endswith(f".{k.decorator}")), "")


@cache
def _needs(part: Definition) -> frozenset[Definition]:
    """What a part uses itself: the rest of its file, registered definitions, other files."""
    nodes, own = [n for top in _nodes_of(part) for n in _walk(top)], _registered(part.file)
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    found = {Definition(part.file, name) for name in own if name in used} | {
        Definition(part.file, "")
    }
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {Definition(file, "") for alias in node.names for file in _files(alias.name)}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= set(_imported(node.module, [alias.name for alias in node.names]))
    return frozenset(found - {part})


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """A node and everything in it, but not what only the type checker sees."""
    yield node
    typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    for inner in () if typing else ast.iter_child_nodes(node):
        yield from _walk(inner)


def _imported(module: str, names: list[str]) -> Iterator[Definition]:
    """The parts behind ``from module import names``."""
    for file in _files(module):
        yield Definition(file, "")
        yield from (
            Definition(file, name) for name in names if file.suffix and name in _registered(file)
        )
    for name in names:
        yield from (Definition(file, "") for file in _files(f"{module}.{name}"))


def imports(file: Path) -> frozenset[Path]:
    """The project files that a file imports itself."""
    everything = [Definition(file, name) for name in ("", *_registered(file))]
    return frozenset(part.file for whole in everything for part in _needs(whole)) - {file}


@cache
def _files(module: str) -> tuple[Path, ...]:
    """The files that importing a module of the project runs."""
    steps = module.split(".")
    if steps[0] not in _PACKAGES:
        return ()
    bases = [ROOT.joinpath(*steps[: depth + 1]) for depth in range(len(steps))]
    files = [file for base in bases for file in (base.with_suffix(".py"), base / "__init__.py")]
    return tuple(
        file.with_name("base.py") if file in _REGISTERING else file
        for file in files
        if file.is_file()
    )


@cache
def _digest(part: Definition) -> str:
    """Digest of a part's code."""
    if part.file.suffix != ".py":
        return hashlib.sha256(part.file.read_bytes()).hexdigest()
    text = "\n".join(ast.unparse(node) for node in _nodes_of(part))
    return hashlib.sha256(text.encode()).hexdigest()


def _nodes_of(part: Definition) -> list[ast.stmt]:
    """A registered definition, or everything else in the file."""
    if part.file.suffix != ".py":
        return []
    if part.definition:
        return [_defined(part)]
    registered = _registered(part.file)
    return [n for n in _nodes(part.file) if getattr(n, "name", "") not in registered]


def _defined(part: Definition) -> ast.stmt:
    """The function or class of a definition; a process may register one inside a function."""
    for top in _nodes(part.file):
        for node in ast.walk(top):
            if getattr(node, "name", "") == part.definition and isinstance(node, ast.stmt):
                return node
    raise SafsError(f"{part.file} has no function or class {part.definition!r}")


@cache
def _nodes(file: Path) -> tuple[ast.stmt, ...]:
    """The statements of a file, bare."""
    if file.suffix != ".py":
        return ()
    with _PARSER:
        tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        _strip(node)
    return tuple(tree.body)


def _strip(node: ast.AST) -> None:
    """Take away docstrings, and what a registration says to people."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        node.body = [n for n in node.body if not _is_text(n)] or [ast.Pass()]
    if (call := _registration(node)) is not None:
        call.keywords = [k for k in call.keywords if k.arg not in _FOR_PEOPLE]


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a text alone: a docstring, of whatever it follows."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def forget() -> None:
    """Read the source anew from now on (for tests that change it)."""
    for known in (fingerprint, parts, _scanned, _registered, _needs, _files, _digest, _nodes):
        known.cache_clear()


def _place(file: Path) -> str:
    """A file relative to the project, or its name where it lies elsewhere."""
    return file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name
