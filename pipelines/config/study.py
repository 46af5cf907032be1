"""A profile with everything that it names: its pairs, presets and readings, ready to run.

A profile is a folder with a ``params.yaml`` (the repository's root is the default one); each pair
has a file of its own in ``pipelines/pairs/``. What a profile's protocol preset says is laid over
the pair's sections, and then the profile's ``budget``, so that a profile says only in what it
differs from the paper.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from pipelines.config.pair import Pair, load_pair, load_preset
from pipelines.config.profile import PROFILE_KEYS, Profile, Studies, in_its_place, profile_file
from pipelines.config.reading import Sections, checked, read_yaml, written_down
from pipelines.storage import layout
from safs.settings import Protocol
from safs.spec import Spec


class Study(Spec):
    """A profile with its pairs resolved, and each of its readings as a study of its own."""

    profile: Profile
    pairs: dict[str, Pair]
    readings: dict[str, Study] = Field(default_factory=dict)

    @property
    def runs(self) -> Path:
        """Where its stages leave what they make."""
        return layout.runs(self.profile.profile)

    @property
    def results(self) -> Path:
        """The folder in git of its tables, figures, report and records."""
        return layout.results(self.profile.profile)

    @property
    def every(self) -> tuple[Study, ...]:
        """The profile itself, and its readings."""
        return (self, *self.readings.values())


def load(params_file: Path, root: Path = Path()) -> Study:
    """Read and check a profile and every pair it names.

    Raises:
        SafsError: one line naming file, key, value and what was expected.
    """
    values = read_yaml(root / params_file)
    profile = checked(Profile, values, params_file)
    in_its_place(profile, params_file)
    written_down(PROFILE_KEYS, values, params_file)
    readings = {name: _reading(profile, name, root) for name in profile.readings}
    return _resolved(profile, root).model_copy(update={"readings": readings})


def named(profile: str | None) -> Study:
    """The study of a profile by name; None is the root's ``params.yaml``."""
    return load(Path("params.yaml") if profile is None else profile_file(profile))


def _resolved(profile: Profile, root: Path, sections: Sections | None = None) -> Study:
    """A profile's study: the preset's switches under its own, its pairs under all overrides."""
    preset = load_preset(profile.protocol.preset, root)
    protocol = preset.protocol | profile.protocol.given
    switches = checked(Protocol, protocol, profile.params_file)
    pairs = {}
    for name in profile.pairs:
        layers = (*preset.layers(name, root), switches.sections, sections or {}, profile.budget)
        pairs[name] = load_pair(name, layers, root, profile.params_file)
    return Study(profile=profile.model_copy(update={"protocol": switches}), pairs=pairs)


def _reading(profile: Profile, name: str, root: Path) -> Study:
    """A reading as a study, kept in the folder ``readings/<pair>/<name>`` of its profile."""
    reading = profile.readings[name]
    where = f"{profile.params_file}: readings.{name}.protocol"
    protocol = profile.protocol.given | reading.protocol
    own = profile.model_copy(
        update={
            "profile": f"{profile.profile}/readings/{reading.pair}/{name}",
            "title": reading.title,
            "pairs": (reading.pair,),
            "cells": {key: c for key, c in profile.cells.items() if c.pair == reading.pair},
            "protocol": checked(Protocol, protocol, where),
            "arms": reading.arms,
            "studies": Studies(),
            "readings": {},
        }
    )
    return _resolved(own, root, reading.sections)
