"""A pair: one network on one data set, ``pipelines/pairs/<pair>.yaml``, and presets of readings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from bench.context import PairInfo
from pipelines.config.reading import Sections, checked, known, read_yaml, written_down
from pipelines.storage import sources
from safs.errors import SafsError, did_you_mean, shown
from safs.settings import Fast, Search, Tune
from safs.spec import Distinct, Epochs, NetworkSpec, Recipe, Spec

PAIRS = Path("pipelines/pairs")
PRESETS = Path("pipelines/presets")
PAIR_KEYS = ("network", "dataset", "recipe", "pretrain", "prune", "finetune", "search", "tune")
"""Keys that must stand in the file, though a default or an override would do: DVC follows them."""


class DatasetSpec(Spec):
    name: str


class Training(Spec):
    """Length of a dense training, or of a final fine-tuning, in epochs."""

    epochs: Epochs


class Prune(Spec):
    """How the mask of a (replicate, ratio) is made; see :mod:`safs.pruning.prune`.

    ``method`` is a name in ``safs/pruning/pruners.py``, ``scope`` says which weights compete with
    each other; the layers that ``spare`` names or matches stay dense. ``images`` is the size of the
    batch of training images that SNIP and GraSP score on. ``given`` is the file of the method
    ``given``, relative to the repository's root, in which ``{replicate}`` and ``{ratio}`` are
    filled in. DVC watches the name only: a changed mask needs a new one.
    """

    method: str = "magnitude"
    scope: str = "layerwise"
    spare: Distinct[str] = ()
    images: Annotated[int, Field(ge=1, le=65_536)] = 256
    given: str | None = None

    @model_validator(mode="after")
    def _checked(self) -> Prune:
        known("pruning method", self.method, sources.names("pruner"))
        known("scope", self.scope, sources.names("scope"))
        if (self.method == "given") != (self.given is not None):
            raise ValueError("given is the mask file of the method 'given', and of no other")
        try:
            self.given_file(0, 0.0)
        except (LookupError, ValueError, AttributeError, TypeError):
            raise ValueError(f"{self.given!r} takes {{replicate}} and {{ratio}} only") from None
        return self

    def given_file(self, replicate: int, ratio: float) -> Path | None:
        """The mask file of a (replicate, ratio), if the masks are given."""
        if self.given is None:
            return None
        return Path(self.given.format(replicate=replicate, ratio=ratio))


class Pair(Spec):
    """One network on one data set: everything in ``pipelines/pairs/<pair>.yaml``."""

    about: PairInfo
    network: NetworkSpec
    dataset: DatasetSpec
    recipe: Recipe
    pretrain: Training
    prune: Prune = Field(default_factory=Prune)
    finetune: Training
    search: Search
    tune: Tune
    fast: Fast = Fast()

    @model_validator(mode="after")
    def _names_exist(self) -> Pair:
        for kind, words, name in (
            ("network", "network", self.network.name),
            ("dataset", "data set", self.dataset.name),
            ("search", "search algorithm", self.search.algorithm),
            *(("operator", "operator", name) for name in self.search.operators),
        ):
            _registered(kind, words, name)
        kinds = sources.options("network", self.network.name, 2)
        for name, value in self.network.options.items():
            known(f"option of the network {self.network.name}", name, kinds)
            if not _is(value, kinds[name]):
                raise ValueError(f"network.options.{name}: got {value!r}; expected {kinds[name]}")
        known("predictor", self.fast.predictor, sources.names("predictor"))
        return self


_NUMBERS = {"int": (int,), "float": (int, float)}


def _is(value: object, kind: str) -> bool:
    """Whether a value is of the type that a network's function names; of others nothing is said."""
    if kind in _NUMBERS:
        return isinstance(value, _NUMBERS[kind]) and not isinstance(value, bool)
    return {"bool": isinstance(value, bool), "str": isinstance(value, str)}.get(kind, True)


class Preset(Spec):
    """A named reading of the paper, ``pipelines/presets/<name>.yaml``; ``paper`` changes nothing.

    ``protocol`` are fields of :class:`safs.settings.Protocol`, ``every`` sections of every pair,
    and ``published`` sections of the pairs that stand for one of the paper's.
    """

    protocol: dict[str, Any] = Field(default_factory=dict)
    every: Sections = Field(default_factory=dict)
    published: dict[str, Sections] = Field(default_factory=dict)

    def layers(self, pair: str, root: Path) -> tuple[Sections, Sections]:
        """What to lay over a pair, in this order; its file need not have been checked."""
        file = root / PAIRS / f"{pair}.yaml"
        about = read_yaml(file).get("about") if file.is_file() else None
        published = about.get("published") if isinstance(about, dict) else None
        key = published if isinstance(published, str) else ""
        return self.every, self.published.get(key, {})


def load_pair(
    name: str,
    layers: Iterable[Sections] = (),
    root: Path = Path(),
    asked_by: str = "pairs",
) -> Pair:
    """A pair's file with overrides laid over its sections.

    Args:
        name: a file in ``pipelines/pairs/``, without its ending.
        layers: overrides by section, the last wins; none for the pair as it stands.
        root: the repository's root.
        asked_by: the file that names the pair, for error messages.
    """
    known = sorted(path.stem for path in (root / PAIRS).glob("*.yaml"))
    if name not in known:
        raise SafsError(f"{asked_by}: unknown pair {shown(name)}{did_you_mean(name, known)}")
    file = PAIRS / f"{name}.yaml"
    values = read_yaml(root / file)
    written_down(PAIR_KEYS, values, file)
    pair = checked(Pair, values, file)
    overridden = False
    for layer in layers:
        for section, override in layer.items():
            values[section] = values.get(section, {}) | override
            overridden = overridden or bool(override)
    return (
        checked(Pair, values, f"{file} with what {asked_by} lays over it") if overridden else pair
    )


def load_preset(name: str, root: Path = Path()) -> Preset:
    """The preset of that name; ``paper`` has no file and changes nothing."""
    if name == "paper":
        return Preset()
    file = PRESETS / f"{name}.yaml"
    return checked(Preset, read_yaml(root / file), file)


def _registered(kind: str, words: str, name: str) -> None:
    """Refuse an unknown name, and one that its package does not import: no process knows it."""
    names = sources.names(kind)
    known(words, name, names)
    file, package = names[name], sources.ROOT / sources.KINDS[kind].place
    if file.parent == package and file not in sources.imports(package / "__init__.py"):
        where = f"{package.name}/__init__.py"
        raise ValueError(f"{name!r} is in {file.name}, which {where} must import")
