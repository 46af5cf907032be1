"""Run a profile through DVC, stage by stage or side by side."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipelines import compute
from pipelines.config.study import Study
from pipelines.dvc import narrow, plan, side_by_side
from pipelines.dvc import process as dvc_process
from pipelines.dvc.alone import alone
from pipelines.dvc.preflight import preflight
from pipelines.dvc.project import note_code
from pipelines.engine import progress, recorded
from pipelines.storage import artefacts, layout, repository
from safs import sealed
from safs.errors import SafsError

MOST_JOBS = 4
"""Stages side by side by default: each has a process of its own beside the workers."""
PROGRESS = layout.SCRATCH / "progress"
"""Where the stages of a run tell how far they are."""


@dataclass(frozen=True)
class Options:
    """How to run; nothing here changes a result.

    Attributes:
        workers: processes that train; by default what file and environment say.
        jobs: stages that run side by side, where they are independent; by default one per worker,
            :data:`MOST_JOBS` at most.
        quiet: print errors alone.
        narrow: the study is a part of its profile: fill ``runs/`` and publish nothing.
        from_records: leave out replicates whose published records have the current identity.
    """

    workers: int | None = None
    jobs: int | None = None
    quiet: bool = False
    narrow: bool = False
    from_records: bool = False


def launch(study: Study, options: Options = Options()) -> int:
    """Reproduce a profile; returns 0, or 1 if a stage failed.

    The same as a plain ``dvc repro``, but that data and settings are checked before anything
    starts, that what a dead worker left undone is tried again, and that stages run side by side.

    Raises:
        SafsError: something is wrong that can be known before anything trains.
    """
    if options.jobs is not None and options.jobs < 1:
        raise SafsError(f"--jobs: {options.jobs}: expected 1 or more")
    if options.workers is not None:
        os.environ["SAFS_WORKERS"] = str(options.workers)
    target = Path(study.profile.params_file).with_name("dvc.yaml")
    if not target.is_file():
        raise SafsError(f"{target}: no such file; expected a copy of another profile's dvc.yaml, "
                        "which `make graph` makes")  # fmt: skip
    repository.commit()  # refused here rather than recorded as unknown
    preflight(study)
    jobs = options.jobs or max(1, min(MOST_JOBS, compute.settings().count))
    started = time.monotonic()
    with alone(f"safs-bench run {study.profile.profile}") as held:
        dvc_process.mend(target.with_name("dvc.lock"))
        note_code()
        forget_the_dead(study.runs)
        variables = _environment(study, options)
        only = narrow.stages(study) if options.narrow else None
        _forget(study, only, options.from_records)
        code = side_by_side.run(
            str(target), jobs, variables, [held], only, partial(_begin, study, options)
        )
        if options.narrow and not code:
            code = narrow.evaluate(study, variables)
    if not options.quiet:
        print(
            f"{study.profile.profile}: {progress.clock(time.monotonic() - started)}",
            file=sys.stderr,
        )
    return code


def threads_each(study: Study) -> int:
    """Threads of a worker: more than one where there are more cores than trainings at a time."""
    trainings = study.profile.replicates * max(1, len(study.profile.cells))
    workers = max(1, min(compute.settings().count, trainings))
    return max(1, len(os.sched_getaffinity(0)) // workers)


def forget_the_dead(runs: Path) -> None:
    """Remove what is not finished work, so that DVC runs its stage again.

    Not finished are trainings whose workers died, and files that do not fit their digest.
    """
    for path in runs.rglob("*.json"):
        try:
            finished = not artefacts.died(sealed.read(path))
        except SafsError as error:
            print(f"{error}; it is made again", file=sys.stderr)
            finished = False
        if not finished:
            path.unlink()


def _forget(study: Study, only: Collection[str] | None, from_records: bool) -> None:
    """Remove notes of what stands that are not to be relied on, in the stages that will run.

    These are all, or in a run that goes on from records those of inputs that have changed.
    """
    folders = [study.runs] if only is None else [_folder(study, *name.split("@")) for name in only]
    known = set[Path]()
    if from_records:
        standing = (recorded.standing(each, pair) for each in study.every for pair in each.pairs)
        known = {path for found in standing for path in found.values()}
        known.update(layout.records(study.profile.profile).rglob("landscape-*.parquet"))
    for folder in folders:
        recorded.forget(folder, known)


def _folder(study: Study, stage: str, place: str) -> Path:
    """The folder of a stage of DVC, which is named by a cell or a pair."""
    cell = study.profile.cells.get(place)
    of = (cell.pair, cell.ratio) if cell else (place,)
    return layout.folder(study.profile.profile, stage, *of)


def _environment(study: Study, options: Options) -> dict[str, str]:
    """Of DVC and its stages, which say ``python``: this interpreter comes first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    told = {progress.QUIET: "1"} if options.quiet else {progress.WHOLE_RUN: str(PROGRESS.resolve())}
    told["SAFS_THREADS"] = str(compute.settings().threads or threads_each(study))
    told[recorded.ASKED] = "1" if options.from_records else ""
    return {**os.environ, "PATH": path, "PYTHONHASHSEED": "0", **told}


def _begin(study: Study, options: Options, stages: Collection[str]) -> None:
    """Say how much the stages that will run have to train.

    Where pairs differ an epoch of one says nothing of the others', so no time left is told.
    """
    total = epochs(study, stages, options.from_records)
    progress.begin(PROGRESS, total, alike=len(study.pairs) == 1)


def left_out(study: Study) -> dict[str, int]:
    """How many replicates of each pair a run that goes on from records does not train."""
    return {pair: len(recorded.standing(study, pair)) for pair in study.pairs}


def epochs(study: Study, stages: Collection[str], from_records: bool = False) -> int:
    """Epochs that stages of DVC have together, by their names: ``pretrain@PAIR``, ``tune@CELL``.

    Args:
        study, stages: what runs.
        from_records: leave out the replicates whose published records stand. A landscape goes on
            from rows: it counts whole unless all of its replicates stand.
    """
    known = {name.partition("@")[::2] for name in stages}
    total = _epochs(study, known, left_out(study) if from_records else {})
    for reading in study.readings.values():
        read = {(step.stage, step.pair) for step in plan.steps(reading)}
        mine = {place for place in read if ("readings", place[1]) in known}
        total += _epochs(reading, mine, left_out(reading) if from_records else {})
    return total


def _epochs(study: Study, known: Set[tuple[str, str]], without: Mapping[str, int]) -> int:
    """Epochs of stages, by name and cell or pair, with some replicates of each pair left out."""
    every, total = study.profile.replicates, 0
    planned = {(step.pair, step.stage): step.epochs for step in plan.steps(study)}
    for stage, place in known:
        cell = study.profile.cells.get(place)
        pair = cell.pair if cell else place
        share = len(study.profile.ratios(pair)) if cell else 1
        left = every - without.get(pair, 0)
        if stage == "landscape" and left:
            left = every
        if stage != "readings":
            total += planned.get((pair, stage), 0) // share * left // every
    return total
