"""Parameters, typed and checked before anything runs.

A profile is a folder with a ``params.yaml`` (the repository's root is the default one); each pair
has a file of its own in ``pipelines/pairs/``. What a profile's protocol preset says is laid over
the pair's sections, and then the profile's ``budget``, so that a profile says only in what it
differs from the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from bench.arms import ARMS
from bench.context import PairInfo
from pipelines.engine.sources import ROOT, imports, options, registered
from safs.datasets import DATASETS
from safs.errors import SafsError, did_you_mean
from safs.operators import OPERATORS
from safs.protocol import Fast, Protocol, Search, Tune
from safs.search import SEARCHES
from safs.spec import Acceleration, BackendName, Epochs, NetworkSpec, Recipe, Spec

PAIRS = Path("pipelines/pairs")
PROFILES = Path("pipelines/profiles")
PRESETS = Path("pipelines/presets")
PRUNERS = ROOT / "safs/pruners.py"
PREDICTORS = ROOT / "safs/predictors.py"

Ratio = Annotated[float, Field(ge=0, lt=1, description="a pruning ratio in [0, 1)")]


class DatasetSpec(Spec):
    name: str


class Training(Spec):
    """Length of a dense training, or of a final fine-tuning, in epochs."""

    epochs: Epochs


class Prune(Spec):
    """How the mask of a (replicate, ratio) is made; see :mod:`safs.pruning`.

    ``method`` is a name in ``safs/pruners.py``, ``scope`` says which weights compete with each
    other; the layers that ``spare`` names or matches stay dense. ``images`` is the size of the
    batch of training images that SNIP and GraSP score on. ``given`` is the file of the method
    ``given``, relative to the repository's root, in which ``{replicate}`` and ``{ratio}`` are
    filled in. DVC watches the name only: a changed mask needs a new one.
    """

    method: str = "magnitude"
    scope: Literal["layerwise", "global", "keep_ends"] = "layerwise"
    spare: tuple[str, ...] = ()
    images: Annotated[int, Field(ge=1)] = 256
    given: str | None = None

    @model_validator(mode="after")
    def _checked(self) -> Prune:
        _known("pruning method", self.method, registered(PRUNERS, "PRUNERS.register"))
        if (self.method == "given") != (self.given is not None):
            raise ValueError("given is the mask file of the method 'given', and of no other")
        try:
            self.given_file(0, 0.0)
        except (LookupError, ValueError):
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
        networks, datasets = ROOT / "safs/networks", ROOT / "safs/datasets"
        _imported(networks, "network", self.network.name)
        _known("network", self.network.name, registered(networks, "network"))
        for name in self.network.options:
            known = options(networks, "network", self.network.name, 2)
            _known(f"option of the network {self.network.name}", name, known)
        _imported(datasets, "dataset", self.dataset.name)
        _known("data set", self.dataset.name, DATASETS)
        _known("search algorithm", self.search.algorithm, SEARCHES)
        for name in self.search.operators:
            _known("operator", name, OPERATORS)
        _known("predictor", self.fast.predictor, registered(PREDICTORS, "PREDICTORS.register"))
        return self


class Cell(Spec):
    """One pruning ratio of a pair."""

    pair: str
    ratio: Ratio


class ActivationStudy(Spec):
    """Figure 4a: the pruned network with one operator everywhere, trained with the dense recipe.

    The network's default operator is the arm ``vanilla`` and need not be listed.
    """

    operators: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()

    @field_validator("operators")
    @classmethod
    def _operators_exist(cls, operators: tuple[str, ...]) -> tuple[str, ...]:
        known = [arm.operator for arm in ARMS.values() if arm.operator]
        for name in operators:
            _known("operator", name, known)
        return operators


class AlgorithmStudy(Spec):
    """Figure 6: stage 1 by further algorithms, at the budget of the profile's own."""

    algorithms: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()

    @field_validator("algorithms")
    @classmethod
    def _algorithms_exist(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        for name in algorithms:
            _known("search algorithm", name, SEARCHES)
        return algorithms


class Studies(Spec):
    """Which studies beside the main comparison run, and in which cells."""

    activations: ActivationStudy = ActivationStudy()
    algorithms: AlgorithmStudy = AlgorithmStudy()


Sections = dict[str, dict[str, Any]]

PAIR_KEYS = ("network", "dataset", "recipe", "pretrain", "prune", "finetune", "search", "tune")
PROFILE_KEYS = (
    "backend", "acceleration", "protocol", "studies.activations", "studies.algorithms", "readings",
    "budget.pretrain", "budget.finetune", "budget.search", "budget.tune",
)  # fmt: skip
"""Keys that must stand in a file, though a default or an override would do: DVC follows them."""


class Reading(Spec):
    """One reading of the paper beside the profile's own, for one pair and a table of readings.

    ``protocol`` are fields of :class:`safs.protocol.Protocol`, ``sections`` overrides of the pairs'
    sections, which come before the profile's budget; ``arms`` are those it affects.
    """

    title: str
    pair: str
    protocol: dict[str, str] = Field(default_factory=dict)
    sections: Sections = Field(default_factory=dict)
    arms: Annotated[tuple[str, ...], Field(min_length=1)]


class Profile(Spec):
    """A ``params.yaml``: which pairs, ratios, replicates and arms, and at what budget."""

    profile: str
    title: str
    root: str
    params_file: str
    notes: tuple[str, ...] = ()
    seed: Annotated[int, Field(ge=0)]
    replicates: Annotated[int, Field(ge=1)]
    backend: BackendName = "auto"
    acceleration: Acceleration = Acceleration()
    protocol: Protocol = Protocol()
    pairs: tuple[str, ...]
    cells: dict[str, Cell]
    arms: tuple[str, ...]
    studies: Studies = Studies()
    readings: dict[str, Reading] = Field(default_factory=dict)
    budget: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("arms")
    @classmethod
    def _arms_exist(cls, arms: tuple[str, ...]) -> tuple[str, ...]:
        for arm in arms:
            known = [name for name, entry in ARMS.items() if not entry.operator]
            _known("arm", arm, [name for name in known if name != "dense"])
        return arms

    @field_validator("budget")
    @classmethod
    def _budget_sections(cls, budget: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for section in budget:
            _known("budget section", section, ("pretrain", "finetune", "search", "tune", "fast"))
        return budget

    @model_validator(mode="after")
    def _cells_match_pairs(self) -> Profile:
        for name, cell in self.cells.items():
            _known("pair of cell " + name, cell.pair, self.pairs)
        for pair in self.pairs:
            if not any(cell.pair == pair for cell in self.cells.values()):
                raise ValueError(f"pair {pair!r} has no cell; add one under cells")
        for name, reading in self.readings.items():
            _known(f"pair of reading {name}", reading.pair, self.pairs)
            for arm in reading.arms:
                _known(f"arm of reading {name}", arm, self.arms)
        for study in (self.studies.activations, self.studies.algorithms):
            for name in study.cells:
                _known("cell of a study", name, self.cells)
        return self

    @property
    def faster(self) -> dict[str, bool | str]:
        """The ways of faster arithmetic that are on."""
        return self.acceleration.model_dump(exclude_defaults=True)

    def ratios(self, pair: str) -> list[float]:
        """Pruning ratios of a pair, ascending."""
        return sorted(cell.ratio for cell in self.cells.values() if cell.pair == pair)

    def swept(self, pair: str, ratio: float) -> tuple[str, ...]:
        """The arms of the activation study in a cell."""
        study = self.studies.activations
        here = self._studied(study.cells, pair, ratio)
        return tuple(f"all_{name}" for name in study.operators) if here else ()

    def methods(self, pair: str, ratio: float) -> tuple[str, ...]:
        """Everything that is trained to the end in a cell: the arms and those of the studies."""
        return (*self.arms, *self.swept(pair, ratio))

    def algorithms(self, pair: str, ratio: float) -> tuple[str, ...]:
        """The further algorithms of stage 1 in a cell."""
        study = self.studies.algorithms
        return study.algorithms if self._studied(study.cells, pair, ratio) else ()

    def _studied(self, cells: tuple[str, ...], pair: str, ratio: float) -> bool:
        return any((self.cells[c].pair, self.cells[c].ratio) == (pair, ratio) for c in cells)


class Preset(Spec):
    """A named reading of the paper, ``pipelines/presets/<name>.yaml``; ``paper`` changes nothing.

    ``protocol`` are fields of :class:`safs.protocol.Protocol`, ``every`` sections of every pair,
    and ``published`` sections of the pairs that stand for one of the paper's.
    """

    protocol: dict[str, str] = Field(default_factory=dict)
    every: Sections = Field(default_factory=dict)
    published: dict[str, Sections] = Field(default_factory=dict)

    def layers(self, pair: str, root: Path) -> tuple[Sections, Sections]:
        """What to lay over a pair, in this order."""
        file = root / PAIRS / f"{pair}.yaml"
        about = read_yaml(file).get("about") if file.is_file() else None
        published = about.get("published") if isinstance(about, dict) else None
        return self.every, self.published.get(published or "", {})


class Study(Spec):
    """A profile with its pairs resolved, and each of its readings as a study of its own."""

    profile: Profile
    pairs: dict[str, Pair]
    readings: dict[str, Study] = Field(default_factory=dict)


def load(params_file: Path, root: Path = Path()) -> Study:
    """Read and check a profile and every pair it names.

    Raises:
        SafsError: one line naming file, key, value and what was expected.
    """
    values = read_yaml(root / params_file)
    profile: Profile = validated(Profile, values, params_file)
    _written_down(PROFILE_KEYS, values, params_file)
    readings = {name: _reading(profile, name, root) for name in profile.readings}
    return _resolved(profile, root).model_copy(update={"readings": readings})


def _resolved(profile: Profile, root: Path, sections: Sections | None = None) -> Study:
    """A profile's study: the preset's switches under its own, its pairs under all overrides."""
    preset = load_preset(profile.protocol.preset, root)
    protocol = preset.protocol | profile.protocol.model_dump(exclude_unset=True)
    pairs = {
        name: load_pair(
            name,
            (*preset.layers(name, root), sections or {}, profile.budget),
            root,
            profile.params_file,
        )
        for name in profile.pairs
    }
    checked = validated(Protocol, protocol, profile.params_file)
    return Study(profile=profile.model_copy(update={"protocol": checked}), pairs=pairs)


def _reading(profile: Profile, name: str, root: Path) -> Study:
    """A reading as a study, kept in the folder ``readings/<pair>/<name>`` of its profile."""
    reading = profile.readings[name]
    where = f"{profile.params_file}: readings.{name}.protocol"
    protocol = profile.protocol.model_dump(exclude_unset=True) | reading.protocol
    own = profile.model_copy(
        update={
            "profile": f"{profile.profile}/readings/{reading.pair}/{name}",
            "title": reading.title,
            "pairs": (reading.pair,),
            "cells": {key: c for key, c in profile.cells.items() if c.pair == reading.pair},
            "protocol": validated(Protocol, protocol, where),
            "arms": reading.arms,
            "studies": Studies(),
            "readings": {},
        }
    )
    return _resolved(own, root, reading.sections)


def _written_down(keys: Iterable[str], values: Mapping[str, Any], source: object) -> None:
    """Refuse a file without a key that stages depend on: DVC does, once the stages before ran."""
    for key in keys:
        section, _, name = key.rpartition(".")
        if name not in (values.get(section) or {} if section else values):
            raise SafsError(f"{source}: missing key {key!r}; stages follow it, so write it down")


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
        raise SafsError(f"{asked_by}: unknown pair {name!r}{did_you_mean(name, known)}")
    file = PAIRS / f"{name}.yaml"
    values = read_yaml(root / file)
    _written_down(PAIR_KEYS, values, file)
    overridden = False
    for layer in layers:
        for section, override in layer.items():
            values[section] = {**values.get(section, {}), **override}
            overridden = overridden or bool(override)
    source = f"{file} with what {asked_by} lays over it" if overridden else str(file)
    pair: Pair = validated(Pair, values, source)
    return pair


def load_preset(name: str, root: Path = Path()) -> Preset:
    """The preset of that name; ``paper`` has no file and changes nothing."""
    if name == "paper":
        return Preset()
    file = PRESETS / f"{name}.yaml"
    preset: Preset = validated(Preset, read_yaml(root / file), file)
    return preset


def profile_file(name: str, root: Path = Path()) -> Path:
    """The params file of a profile by name: the root's own, or one under ``pipelines/profiles``."""
    default = Path("params.yaml")
    if read_yaml(root / default).get("profile") == name:
        return default
    known = sorted(path.name for path in (root / PROFILES).iterdir() if path.is_dir())
    if name not in known:
        known = [str(read_yaml(root / default).get("profile")), *known]
        raise SafsError(f"unknown profile {name!r}{did_you_mean(name, known)}")
    return PROFILES / name / "params.yaml"


def read_yaml(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file; anything else is an error of one line."""
    if not path.is_file():
        raise SafsError(f"{path}: no such file")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise SafsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise SafsError(f"{path}: expected keys and values, found {type(values).__name__}")
    return values


def validated(model: type[Any], values: Mapping[str, Any], source: object) -> Any:
    """Values as a model; an error has one line per problem, each naming ``source`` and the key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(model, problem) for problem in error.errors()]
        raise SafsError("\n".join(f"{source}: {line}" for line in lines)) from None


def _explain(model: type[Spec], problem: Any) -> str:
    """One pydantic problem as one line: key, value, what was expected, the nearest valid key."""
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}{did_you_mean(problem['loc'][-1], _keys(model, problem))}"
    if problem["type"] == "missing":
        return f"missing key {where!r}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("value_error", "model_type"):
        return f"{where}: {message}" if where else message
    return f"{where}: {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _keys(model: type[Spec], problem: Any) -> list[str]:
    """The keys that are valid where an unknown one was found."""
    for part in problem["loc"][:-1]:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, Spec)]
        model = nested[0] if nested else model
    return sorted(model.model_fields)


def _imported(package: Path, decorator: str, name: str) -> None:
    """Refuse what a file registers that its package does not import: no process would know it."""
    file = registered(package, decorator).get(name)
    if file is not None and file not in imports(package / "__init__.py"):
        where = f"{package.name}/__init__.py"
        raise ValueError(f"{name!r} is in {file.name}, which {where} must import")


def _known(kind: str, name: str, known: Any) -> None:
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}{did_you_mean(name, known)}")
