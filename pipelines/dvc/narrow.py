"""A part of a profile: some of its pairs or pruning ratios, in ``runs/`` alone.

The stages of a cell are DVC's own and are there for a whole run later. A pair's stages, which take
all its ratios together, run where all of them are wanted; else the records of the ratios wanted are
written outside of DVC, and the arm ``safs_fast`` and the studies are left for a whole run.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from pipelines.config.profile import Studies
from pipelines.config.study import Study, load
from pipelines.stages import PER_CELL, PER_PAIR
from safs.errors import SafsError, UnknownName


def narrowed(study: Study, pair: str | None, ratio: float | None) -> Study:
    """The study of one pair, one pruning ratio or both; the same one where neither is given.

    Raises:
        SafsError: the profile has no such pair or ratio.
    """
    if pair is not None and pair not in study.pairs:
        raise UnknownName("pair", pair, study.pairs)
    cells = {
        name: cell
        for name, cell in study.profile.cells.items()
        if pair in (None, cell.pair) and ratio in (None, cell.ratio)
    }
    if not cells:
        there = {c.ratio for c in study.profile.cells.values() if pair in (None, c.pair)}
        of = f" for {pair}" if pair else ""
        raise SafsError(
            f"--ratio: {ratio}: not in the profile {study.profile.profile}{of}; expected one of "
            f"{', '.join(map(str, sorted(there)))}"
        )
    if len(cells) == len(study.profile.cells):
        return study
    pairs = {
        name: of for name, of in study.pairs.items() if name in {c.pair for c in cells.values()}
    }
    studies = _within(study.profile.studies, cells)
    update = {"cells": cells, "pairs": tuple(pairs), "studies": studies}
    profile = study.profile.model_copy(update=update)
    return study.model_copy(update={"profile": profile, "pairs": pairs, "readings": {}})


def _within(studies: Studies, cells: Collection[str]) -> Studies:
    """Studies in those of their cells that are among ``cells``."""
    update = {
        name: part.model_copy(update={"cells": tuple(c for c in part.cells if c in cells)})
        for name, part in studies
    }
    return studies.model_copy(update=update)


def stages(study: Study) -> set[str]:
    """The names of DVC's stages that a part of a profile needs."""
    halved = _halved(study)
    names = {f"{stage}@{cell}" for stage in PER_CELL for cell in study.profile.cells}
    for pair in study.pairs:
        names |= {f"{stage}@{pair}" for stage in (("pretrain",) if pair in halved else PER_PAIR)}
    return names - {f"readings@{pair}" for pair in study.pairs}


def evaluate(study: Study, environment: Mapping[str, str]) -> int:
    """Write the records of pairs that are there with some of their ratios; 1 if that failed."""
    codes = [0]
    for pair in _halved(study):
        ratios = map(str, study.profile.ratios(pair))
        place = ("evaluate", study.profile.params_file, pair, *ratios)
        command = [sys.executable, "-m", "pipelines", *place]
        codes.append(subprocess.run(command, env=dict(environment), check=False).returncode)
    return int(any(codes))


def _halved(study: Study) -> list[str]:
    """The pairs that the part has with some of the ratios that the profile's file has."""
    whole = load(Path(study.profile.params_file)).profile
    return [pair for pair in study.pairs if study.profile.ratios(pair) != whole.ratios(pair)]
