"""The landscapes of a profile: what belongs to one, and its table in the open.

The table of a cell is ``results/<profile>/records/<pair>/landscape-<ratio>.parquet``
(:mod:`bench.landscape.table`), made of the parts in ``runs/`` and of the rows that were in it
already, where they start from the same networks and masks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.landscape.space import Space, each_once
from bench.landscape.table import KEYS, Begun, Landscape, Meta, load, loss_at, name_of
from pipelines.config.study import Study
from pipelines.engine import recorded
from pipelines.storage import artefacts, layout
from safs.datasets import DATASETS
from safs.errors import SafsError
from safs.sealed import Json
from safs.settings import PROTOCOL_VERSION

LARGEST = 1_000_000
"""Chromosomes of a space, of which every one is to be trained."""


def space(study: Study, pair: str, slots: Sequence[str]) -> Space:
    """The space of stage 1 of a pair whose network has these slots.

    Raises:
        SafsError: it is too large, own parameters are learned (so that Acon is not Swish), or the
            study names an operator that stage 1 does not search.
    """
    profile, of = study.profile, study.pairs[pair]
    where = f"{profile.params_file}: studies.landscape"
    if profile.protocol.own_parameters == "both":
        raise SafsError(f"{where}: candidates learn own parameters under own_parameters: both; "
                        "expected frozen or stage2")  # fmt: skip
    found = Space(of.search.operators, tuple(slots))
    unknown = sorted({*profile.studies.landscape.operators} - {*of.search.operators})
    if unknown:
        raise SafsError(f"{where}.operators: {unknown[0]!r} is no candidate of {pair}; candidates: "
                        f"{', '.join(of.search.operators)}")  # fmt: skip
    if len(found) > LARGEST:
        raise SafsError(f"{where}.cells: {pair} has {len(found.distinct)}^{len(found.slots)} "
                        f"chromosomes; expected at most {LARGEST:,}")  # fmt: skip
    return found


def marks(epochs: int) -> tuple[int, ...]:
    """The epochs after which losses are noted: an eighth, a quarter, half and all of them."""
    return tuple(sorted({max(1, epochs // part) for part in (8, 4, 2, 1)}))


def again(study: Study, of: Space, replicate: int) -> frozenset[int]:
    """The chromosomes of a replicate that are trained under a second batch order too."""
    return of.sample(study.profile.seed, replicate)


def trainings(study: Study, of: Space, pair: str, ratio: float) -> int:
    """All trainings of a cell."""
    wanted = {i for shell in of.shells(study.profile.landscape(pair, ratio)) for i in shell}
    seconds = (len(wanted & again(study, of, r)) for r in range(study.profile.replicates))
    return len(wanted) * study.profile.replicates + sum(seconds)


def path(study: Study, pair: str, ratio: float) -> Path:
    """The table of a cell."""
    return layout.records(study.profile.profile) / pair / name_of(ratio)


def published(study: Study, pair: str, ratio: float) -> Landscape | None:
    """The table of a cell as it stands in the open; None where there is none.

    Raises:
        SafsError: it is damaged, or of another profile, pair or ratio.
    """
    place = path(study, pair, ratio)
    if not place.is_file():
        return None
    found = load(place)
    of = found.meta
    if (of.profile, of.pair, of.ratio) != (study.profile.profile, pair, ratio):
        raise SafsError(
            f"{place}: a landscape of {of.pair} at {of.ratio} in profile {of.profile!r}; "
            f"expected {pair} at {ratio} in {study.profile.profile!r}"
        )
    return found


def every(study: Study) -> Iterator[Landscape]:
    """The published tables of a study, cell by cell. Raises SafsError for a damaged one."""
    for pair in study.profile.pairs:
        for ratio in study.profile.ratios(pair):
            wanted = study.profile.landscape(pair, ratio)
            if wanted and (table := published(study, pair, ratio)) is not None:
                yield table


def note_of(replicate: int | str) -> str:
    """The note (:mod:`pipelines.engine.recorded`) that a replicate's published rows stand."""
    return f"recorded-rows-r{replicate}.json"


def going_on(study: Study, pair: str, ratio: float) -> Landscape | None:
    """The published table where rows of it may stand: that is asked for, or they did before."""
    noted = any(_folder(study, pair, ratio).glob(note_of("*")))
    return published(study, pair, ratio) if noted or os.environ.get(recorded.ASKED) else None


def standing(study: Study, pair: str, ratio: float) -> Landscape | None:
    """Of the published table what stands for trainings that the profile asks for; None for nothing.

    It is of replicates whose records stand, or of which the stage has noted that their rows do.

    Raises:
        SafsError: the table or a replicate's record is damaged.
    """
    table, profile = published(study, pair, ratio), study.profile
    if table is None or not alike(study, pair, table):
        return None
    folder, frame = _folder(study, pair, ratio), table.frame
    wanted = {i for shell in table.space.shells(profile.landscape(pair, ratio)) for i in shell}
    stay = pd.Series(False, index=frame.index)
    for replicate in table.replicates:
        noted = (folder / note_of(replicate)).exists()
        if replicate < profile.replicates and (noted or recorded.stands(study, pair, replicate)):
            second = wanted & again(study, table.space, replicate)
            for order, indices in enumerate((wanted, second)):
                own = (frame["replicate"] == replicate) & (frame["order"] == order)
                stay |= own & frame["index"].isin(indices)
    if not stay.any():
        return None
    starts = {r: table.meta.starts[r] for r in map(str, frame["replicate"][stay].unique())}
    trained = each_once(profile.landscape(pair, ratio))
    meta = table.meta.model_copy(update={"starts": starts, "trained": trained})
    return Landscape(meta, frame[stay].reset_index(drop=True), table.seconds[stay])


def parts(study: Study, pair: str, ratio: float) -> Iterator[tuple[int, Json]]:
    """Replicate and content of every part in ``runs/``. Raises SafsError for a damaged one."""
    for place in sorted(_folder(study, pair, ratio).glob("rows-*-r*.json")):
        yield int(place.stem.rpartition("-r")[2]), artefacts.read(place)


def _folder(study: Study, pair: str, ratio: float) -> Path:
    return layout.folder(study.profile.profile, "landscape", pair, ratio)


def pack(study: Study, pair: str, ratio: float) -> Landscape | None:
    """The table of a cell: what is trained, and published rows that stand; None without either.

    Raises:
        SafsError: a part, the table or a record is damaged, or trainings of one replicate start
            from different networks.
    """
    found, before = list(parts(study, pair, ratio)), standing(study, pair, ratio)
    if not found:
        return before
    slots = found[0][1]["slots"]
    rows = pd.concat([_frame(r, part) for r, part in found]).drop_duplicates(KEYS)
    starts = {str(r): Begun(**part["inputs"]) for r, part in found}
    for replicate, part in found:
        if Begun(**part["inputs"]) != starts[str(replicate)]:
            name = study.profile.profile
            raise SafsError(f"runs/{name}/landscape: replicate {replicate} was trained from two "
                            f"masks; run `safs-bench run {name}` to its end")  # fmt: skip
    code = {part["code"] for _, part in found}
    if before is not None:
        fit = {r: start for r, start in before.meta.starts.items() if starts.get(r, start) == start}
        more = before.frame.assign(seconds=before.seconds)
        more = more[more["replicate"].isin([int(r) for r in fit])]
        whole = pd.concat([rows, more]).drop_duplicates(KEYS)
        if len(whole) > len(rows):
            rows, starts, code = whole, starts | fit, code | set(before.meta.code)
    of = study.pairs[pair]
    meta = Meta(
        profile=study.profile.profile,
        pair=pair,
        ratio=ratio,
        classes=DATASETS[of.dataset.name].classes,
        seed=study.profile.seed,
        protocol=PROTOCOL_VERSION,
        operators=of.search.operators,
        slots=slots,
        trained=each_once(study.profile.landscape(pair, ratio)),
        epochs=marks(of.search.epochs),
        recipe=of.recipe,
        data=recorded.checksum(of.dataset.name, "train"),
        test_data=recorded.checksum(of.dataset.name, "test"),
        starts=dict(sorted(starts.items())),
        code=tuple(sorted(code)),
        bits=found[0][1]["bits"],
    )
    rows = rows.sort_values(KEYS, ignore_index=True)
    return Landscape(meta, rows[list(meta.types)].astype(meta.types), rows["seconds"].to_numpy())


def complete(study: Study, pair: str, ratio: float, replicate: int) -> bool:
    """Whether everything that the profile asks for of a replicate is in the packed table."""
    wanted = study.profile.landscape(pair, ratio)
    if not wanted:
        return True
    table = pack(study, pair, ratio)
    if table is None or replicate not in table.replicates:
        return False
    every = {i for shell in table.space.shells(wanted) for i in shell}
    seconds = every & again(study, table.space, replicate)
    return every <= table.trained(replicate, 0) and seconds <= table.trained(replicate, 1)


def _frame(replicate: int, part: Json) -> pd.DataFrame:
    """The rows of a part."""
    told = [columns(row, part["marks"]) | {"seconds": row["seconds"]} for row in part["rows"]]
    keys = pd.DataFrame({"replicate": replicate, "order": part["order"], "index": part["indices"]})
    # Unsigned from the start: pandas joins them with signed numbers as floats, which round.
    return pd.concat([keys, pd.DataFrame(told).astype({"outcome": "uint64"})], axis=1)


def columns(row: Mapping[str, Any], epochs: Iterable[int]) -> dict[str, float]:
    """What a worker tells of a training, as the columns of a table have it."""
    losses = {loss_at(e): _single(loss) for e, loss in zip(epochs, row["losses"], strict=True)}
    return losses | {
        "validation_accuracy": _single(row["validation"]),
        "test_accuracy": _single(row["test"]),
        "failed_epoch": row["failed_epoch"],
        "failed_step": row["failed_step"],
        "outcome": int(row["outcome"][:16], 16),
    }


def _single(value: float | None) -> float:
    return float("nan") if value is None else float(np.float32(value))


def alike(study: Study, pair: str, table: Landscape) -> bool:
    """Whether a table's rows are trainings as this profile's are, whatever they start from."""
    meta, of = table.meta, study.pairs[pair]
    said = (meta.profile, meta.seed, meta.protocol, meta.operators, meta.epochs, meta.recipe)
    now = (study.profile.profile, study.profile.seed, PROTOCOL_VERSION, of.search.operators,
           marks(of.search.epochs), of.recipe)  # fmt: skip
    images = [recorded.checksum(of.dataset.name, part) for part in ("train", "test")]
    return said == now and [meta.data, meta.test_data] == images


def fits(study: Study, pair: str, table: Landscape, replicate: int, inputs: Json) -> bool:
    """Whether a table's rows of a replicate are trainings of this profile, from this start."""
    start = table.meta.starts.get(str(replicate))
    return start == Begun(**inputs) and alike(study, pair, table)
