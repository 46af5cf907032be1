"""What is said of a landscape's chromosomes without training them, in the open.

It lies beside the table: ``predictors-<ratio>.json`` (:mod:`bench.landscape.promises`), made of
what the stage ``landscape`` left in ``runs/`` and of what was in it already and still holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.landscape.promises import Promised, Promises, chosen
from bench.landscape.space import Space, each_once
from bench.landscape.table import Begun, Landscape
from pipelines.config.study import Study
from pipelines.engine import recorded
from pipelines.results import landscapes
from pipelines.storage import artefacts, layout, sources
from pipelines.storage.sources import Registered
from safs import sealed
from safs.sealed import Json, digest

NAME = "predictors"


def path(study: Study, pair: str, ratio: float) -> Path:
    """The file of a cell."""
    return landscapes.path(study, pair, ratio).with_name(f"{NAME}-{ratio}.json")


def asked(study: Study, pair: str, ratio: float, space: Space, replicate: int) -> list[int]:
    """The numbers of the chromosomes of a replicate that are asked about."""
    shells = space.shells(study.profile.landscape(pair, ratio))
    complete = np.array([index for shell in shells for index in shell], dtype=np.int64)
    return [int(index) for index in chosen(complete, study.profile.seed, replicate)]


def identity(
    study: Study, pair: str, ratio: float, starts: Mapping[str, str], indices: Sequence[int]
) -> str:
    """Digest of all that decides what is said of a replicate: networks, images, code."""
    of = study.pairs[pair]
    used = each_once(study.profile.landscape(pair, ratio))
    entries = [Registered("operator", name) for name in used]
    entries += [Registered("network", of.network.name), Registered("dataset", of.dataset.name)]
    code = [recorded.described(), sources.of("safs/training/start.py", entries=entries)]
    data = recorded.checksum(of.dataset.name, "train")
    return digest([dict(starts), study.profile.seed, data, of.fast.images, list(indices), code])


def content(told: Iterable[Json]) -> Json:
    """Scores and spectra of a :class:`Promised`, of what tasks told, part by part."""
    parts = list(told)
    scores = [row for part in parts for row in part["scores"]]
    spectra = [row for part in parts for row in part["spectra"]]
    return {
        "scores": {name: _text((row[name] for row in scores), "-inf") for name in scores[0]},
        "spectrum": {
            layer: _text((value for row in spectra for value in row[layer]), "inf")
            for layer in spectra[0]
        },
    }


def _text(numbers: Iterable[float | None], other: str) -> str:
    """Numbers as a file has them, ``other`` where a worker found one that is not finite."""
    return " ".join(other if value is None else f"{value:.6g}" for value in numbers)


def keep(study: Study, pair: str, ratio: float, table: Landscape) -> Iterator[Path]:
    """Write the file of a published table; its path, none where nothing is said of the table.

    Raises:
        SafsError: what is in ``runs/`` or was published is damaged.
    """
    if found := tuple(_holding(study, pair, ratio, table)):
        place, whole = path(study, pair, ratio), Promises(replicates=found)
        sealed.write(place, whole.model_dump(mode="json"))
        yield place


def complete(study: Study, pair: str, ratio: float, replicate: int) -> bool:
    """Whether all is said of a replicate that the profile asks for."""
    if not study.profile.landscape(pair, ratio):
        return True
    table = landscapes.pack(study, pair, ratio)
    said = () if table is None else _holding(study, pair, ratio, table)
    return any(each.replicate == replicate for each in said)


def _holding(study: Study, pair: str, ratio: float, table: Landscape) -> Iterator[Promised]:
    """What is said of a table's replicates, here or in the open, and would be said today."""
    before = {each.replicate: each for each in published(study, pair, ratio)}
    for replicate in table.replicates:
        place = layout.artefact(study.profile.profile, "landscape", pair, ratio, NAME, replicate)
        here = artefacts.held(place, Promised, but="weights") if place.is_file() else None
        made = here or before.get(replicate)
        if made and holds(study, pair, ratio, made, table.space, table.meta.starts[str(replicate)]):
            yield made


def holds(
    study: Study, pair: str, ratio: float, said: Promised, space: Space, starts: Begun
) -> bool:
    """Whether it is what would be said today of the chromosomes that the profile asks for."""
    indices = asked(study, pair, ratio, space, said.replicate)
    begun = starts.model_dump()
    return said.identity == identity(study, pair, ratio, begun, indices)


def published(study: Study, pair: str, ratio: float) -> tuple[Promised, ...]:
    """What is said of a cell in the open. Raises SafsError for a damaged file."""
    place = path(study, pair, ratio)
    if not place.is_file():
        return ()
    return artefacts.held(place, Promises).replicates


def read(study: Study, table: Landscape) -> list[Promised]:
    """What is said of a table's chromosomes in the open. Raises SafsError for a damaged file."""
    return [
        said
        for said in published(study, table.meta.pair, table.meta.ratio)
        if table.meta.starts.get(str(said.replicate)) == said.starts
        and np.isin(said.numbers, table.indices).all()
    ]
