"""A profile: a ``params.yaml`` with pairs, ratios, replicates, arms, studies and budgets."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from bench.contrasts import Preregistration
from bench.landscape.space import BUDGETS
from pipelines.config.reading import Sections, known, read_yaml
from safs.arms import ARMS, everywhere
from safs.errors import SafsError, did_you_mean, shown
from safs.search import SEARCHES
from safs.settings import Protocol
from safs.spec import Acceleration, BackendName, Count, Distinct, Name, Spec

PROFILES = Path("pipelines/profiles")
N = TypeVar("N", bound=Collection[str])

PruningRatio = Annotated[float, Field(gt=0, lt=1, description="a pruning ratio in (0, 1)")]
Names = Distinct[str]
Some = Annotated[Names, Field(min_length=1)]
"""Names of which there must be one."""


class Cell(Spec):
    """One pruning ratio of a pair."""

    pair: Name
    ratio: PruningRatio


class InCells(Spec):
    """A study, and the cells in which it runs."""

    cells: Names = ()

    @model_validator(mode="after")
    def _something_somewhere(self) -> Self:
        fields = type(self).model_fields
        for name in (n for n in fields if n != "cells" and fields[n].default == ()):
            if bool(getattr(self, name)) != bool(self.cells):
                raise ValueError(f"{name} and cells go together; one of them is empty")
        return self


def _each(kind: str, names: Callable[[], Collection[str]]) -> AfterValidator:
    """Names of which each is one of those that a call of ``names`` gives."""

    def check(values: N) -> N:
        for name in values:
            known(kind, name, names())
        return values

    return AfterValidator(check)


class ActivationStudy(InCells):
    """Figure 4a: the pruned network with one operator everywhere, trained with the dense recipe.

    The network's default operator is the arm ``vanilla`` and need not be listed.
    """

    operators: Annotated[
        Names, _each("operator", lambda: [a.operator for a in ARMS.values() if a.operator])
    ] = ()


class AlgorithmStudy(InCells):
    """Figure 6: stage 1 by further algorithms, at the budget of the profile's own."""

    algorithms: Annotated[Names, _each("search algorithm", lambda: SEARCHES)] = ()


class LandscapeStudy(InCells):
    """Every chromosome of some of the candidates, trained as stage 1 trains it.

    ``operators`` are in the order in which they are added: one more leaves all that is trained
    valid (:meth:`bench.landscape.space.Space.shells`). On the table the searches are raced, so
    many ``runs`` of each at each of :data:`bench.landscape.space.BUDGETS`; ``surrogate_runs`` are
    those of a search that fits a surrogate, budget by budget.
    """

    operators: Names = ()
    runs: Annotated[int, Field(ge=2, le=100_000)] = 1000
    surrogate_runs: tuple[Annotated[int, Field(ge=2, le=100_000)], ...] = (1000, 50)

    @field_validator("surrogate_runs")
    @classmethod
    def _one_per_budget(cls, runs: tuple[int, ...]) -> tuple[int, ...]:
        if len(runs) != len(BUDGETS):
            listed = ", ".join(map(str, BUDGETS))
            raise ValueError(f"a number for each budget ({listed} evaluations), got {list(runs)}")
        return runs


class Studies(Spec):
    """Which studies beside the main comparison run, and in which cells."""

    activations: ActivationStudy = ActivationStudy()
    algorithms: AlgorithmStudy = AlgorithmStudy()
    landscape: LandscapeStudy = LandscapeStudy()


PROFILE_KEYS = (
    "backend", "acceleration", "protocol", "studies", "readings",
    "budget.pretrain", "budget.finetune", "budget.search", "budget.tune",
)  # fmt: skip
"""Keys that must stand in a file, though a default or an override would do: DVC follows them."""


class Reading(Spec):
    """One reading of the paper beside the profile's own, for one pair and a table of readings.

    ``protocol`` are fields of :class:`safs.settings.Protocol`, ``sections`` overrides of the pairs'
    sections, which come before the profile's budget; ``arms`` are those it affects.
    """

    title: str
    pair: str
    protocol: dict[str, Any] = Field(default_factory=dict)
    sections: Sections = Field(default_factory=dict)
    arms: Some


class Profile(Spec):
    """A ``params.yaml``: which pairs, ratios, replicates and arms, and at what budget.

    ``preregistered`` are the contrasts that it confirms; a profile without explores.
    """

    profile: Name
    title: str
    root: str
    params_file: str
    notes: tuple[str, ...] = ()
    seed: Count
    replicates: Annotated[int, Field(ge=1, le=1000)]
    backend: BackendName = "auto"
    acceleration: Acceleration = Acceleration()
    protocol: Protocol = Protocol()
    pairs: Some
    cells: Annotated[dict[Name, Cell], Field(min_length=1)]
    arms: Annotated[
        Some,
        _each("arm", lambda: [n for n, arm in ARMS.items() if not arm.operator and n != "dense"]),
    ]
    studies: Studies = Studies()
    preregistered: Preregistration = Preregistration()
    readings: dict[Name, Reading] = Field(default_factory=dict)
    budget: Annotated[
        Sections,
        _each("budget section", lambda: ("pretrain", "finetune", "search", "tune", "fast")),
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _cells_match_pairs(self) -> Profile:
        places: dict[Cell, str] = {}
        for name, cell in self.cells.items():
            if cell.pair not in self.pairs:
                listed = ", ".join(self.pairs)
                raise ValueError(f"cells.{name}: pair {cell.pair!r} is not under pairs: {listed}")
            told = re.fullmatch(r".*-([01]?\.\d+)", name)
            if told and float(told[1]) != cell.ratio:
                raise ValueError(f"cells.{name}: ratio {cell.ratio:g} is not the name's; expected "
                                 f"{cell.pair}-{cell.ratio:g}")  # fmt: skip
            if name in self.pairs:
                raise ValueError(f"cells.{name} is named as a pair; expected {name}-{cell.ratio:g}")
            if (first := places.setdefault(cell, name)) != name:
                raise ValueError(f"cells.{name} says the same as cells.{first}; expected once")
        for pair in self.pairs:
            if not any(cell.pair == pair for cell in self.cells.values()):
                raise ValueError(f"pair {pair!r} has no cell; add one under cells")
        for name, reading in self.readings.items():
            known(f"pair of reading {name}", reading.pair, self.pairs)
            for arm in reading.arms:
                known(f"arm of reading {name}", arm, self.arms)
        s = self.studies
        for study in (s.activations, s.algorithms, s.landscape):
            for name in study.cells:
                known("cell of a study", name, self.cells)
        return self

    @model_validator(mode="after")
    def _preregistered_is_run(self) -> Profile:
        ratios = {cell.ratio for cell in self.cells.values()}
        said = self.preregistered
        if said.ratio is not None and said.ratio not in ratios:
            listed = ", ".join(map(str, sorted(ratios)))
            raise ValueError(f"preregistered.ratio {said.ratio} has no cell; ratios: {listed}")
        if said.replicates is not None and said.replicates < self.replicates:
            raise ValueError(
                f"replicates {self.replicates}: no more than the {said.replicates} preregistered"
            )
        for name in said.contrasts:
            missing = [arm for arm in name.split("-") if arm not in self.arms]
            if missing:
                listed = f"{missing[0]} is not among arms: {', '.join(self.arms)}"
                raise ValueError(f"preregistered contrast {name} is not run; {listed}")
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
        return tuple(everywhere(name) for name in study.operators) if here else ()

    def every_arm(self, pair: str, ratio: float) -> tuple[str, ...]:
        """Everything that is trained to the end in a cell: the arms and those of the studies."""
        return (*self.arms, *self.swept(pair, ratio))

    def runs(self, pair: str) -> list[tuple[str, float]]:
        """Arm and ratio of every run of a replicate, the dense one (ratio 0) first."""
        pruned = [(arm, x) for x in self.ratios(pair) for arm in self.every_arm(pair, x)]
        return [("dense", 0.0), *pruned]

    def algorithms(self, pair: str, ratio: float) -> tuple[str, ...]:
        """The further algorithms of stage 1 in a cell."""
        study = self.studies.algorithms
        return study.algorithms if self._studied(study.cells, pair, ratio) else ()

    def landscape(self, pair: str, ratio: float) -> tuple[str, ...]:
        """The operators of which every chromosome is trained in a cell; none elsewhere."""
        study = self.studies.landscape
        return study.operators if self._studied(study.cells, pair, ratio) else ()

    def _studied(self, cells: tuple[str, ...], pair: str, ratio: float) -> bool:
        return any((self.cells[c].pair, self.cells[c].ratio) == (pair, ratio) for c in cells)


def every_profile(root: Path = Path()) -> list[str | None]:
    """The profiles by name; the root's own, None, comes first."""
    return [None, *sorted(path.parent.name for path in (root / PROFILES).glob("*/params.yaml"))]


def in_its_place(profile: Profile, file: Path) -> None:
    """Refuse a profile that says to be another: DVC would run that one, over its results.

    Args:
        profile: what stands in the file.
        file: the file, relative to the repository's root.

    Raises:
        SafsError: one line with all that is wrong, and what it should be.
    """
    folder = file.parent
    wanted = {"params_file": file.as_posix(), "root": Path(*[".."] * len(folder.parts)).as_posix()}
    if folder != Path():
        wanted["profile"] = folder.name
    wrong = {key: value for key, value in wanted.items() if getattr(profile, key) != value}
    if wrong:
        texts = [f"{key}: got {shown(getattr(profile, key))}; expected {shown(value)}"
                 for key, value in wrong.items()]  # fmt: skip
        raise SafsError(f"{file}: {'; '.join(texts)}, as the file lies there")


def profile_file(name: str, root: Path = Path()) -> Path:
    """The params file of a profile by name: the root's own, or one under ``pipelines/profiles``."""
    default = Path("params.yaml")
    if read_yaml(root / default).get("profile") == name:
        return default
    known = sorted(path.name for path in (root / PROFILES).iterdir() if path.is_dir())
    if name not in known:
        known = [str(read_yaml(root / default).get("profile")), *known]
        raise SafsError(f"unknown profile {shown(name)}{did_you_mean(name, known)}")
    return PROFILES / name / "params.yaml"
