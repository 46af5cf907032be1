"""From ``runs/`` to the records in the open (:mod:`bench.records.archive`), and back from these.

The files of a profile lie in ``results/<profile>/records/``, those of a reading in the folder of
its profile, under ``readings/``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from bench.records.archive import Replicate, Search
from bench.records.predictions import Predictions
from bench.records.record import Record
from pipelines.config.study import Study
from pipelines.engine import recorded
from pipelines.results import landscapes, promises
from pipelines.storage import artefacts, layout
from safs.checked import MAX_BYTES
from safs.errors import SafsError
from safs.files import read_text
from safs.rows import SearchTrace, TuneTrace


def folder(study: Study) -> Path:
    """Where the files of a study are."""
    return layout.records(study.profile.profile)


def path(study: Study, pair: str, replicate: int) -> Path:
    """The file of a replicate of a pair."""
    return layout.replicate_file(study.profile.profile, pair, replicate)


def read(study: Study, text: Callable[[Path], str | None] | None = None) -> list[Replicate]:
    """Every replicate of a study that is published.

    ``text`` reads a file, or says None where there is none; by default from the disk.

    Raises:
        SafsError: a file is damaged, or of another profile, pair or replicate.
    """
    found = []
    for pair in study.profile.pairs:
        for replicate in range(study.profile.replicates):
            place = path(study, pair, replicate)
            content = (text or _on_disk)(place)
            if content is not None:
                found.append(_of(study, pair, replicate, Replicate.parse(content, place), place))
    return found


def _of(study: Study, pair: str, replicate: int, found: Replicate, place: Path) -> Replicate:
    """The same, if it is what its place says. Raises SafsError."""
    said = (found.profile, found.pair, found.replicate)
    if said != (study.profile.profile, pair, replicate):
        raise SafsError(
            f"{place}: holds replicate {found.replicate} of {found.pair} in profile "
            f"{found.profile!r}; expected replicate {replicate} of {pair} in "
            f"{study.profile.profile!r}"
        )
    return found


def _on_disk(place: Path) -> str | None:
    try:
        return read_text(place, MAX_BYTES)
    except FileNotFoundError:
        return None


def pack(study: Study, pair: str, replicate: int) -> Replicate | None:
    """What ``runs/`` has of a replicate; None where it has no record of it.

    Only a replicate all of whose runs are there gets an identity. Pairs that train the same share
    their searches, whose artefacts name the pair that came first; here each has its own name.

    Raises:
        SafsError: a record or trace is damaged.
    """
    ratios = study.profile.ratios(pair)
    records = list(_records(study, pair, replicate))
    if not records:
        return None
    whole = all(
        part.complete(study, pair, ratio, replicate)
        for part in (landscapes, promises)
        for ratio in ratios
    )
    # A run waits to be tried again if its worker died.
    died = any(artefacts.died(final.reason) for record in records for final in record.finals)
    ended = len(records) == len(study.profile.runs(pair)) and not died
    return Replicate(
        profile=study.profile.profile,
        pair=pair,
        replicate=replicate,
        identity=recorded.identity(study, pair, replicate) if whole and ended else None,
        records=records,
        searches=[s for ratio in ratios for s in _searches(study, pair, ratio, replicate)],
        tunings=[t for ratio in ratios for t in _tunings(study, pair, ratio, replicate)],
        predictions=[p for ratio in ratios for p in _predictions(study, pair, ratio, replicate)],
    )


def _records(study: Study, pair: str, replicate: int) -> Iterator[Record]:
    place = layout.folder(study.profile.profile, "evaluate", pair)
    for arm, ratio in study.profile.runs(pair):
        file = place / f"{layout.record_name(arm, ratio, replicate)}.json"
        if file.exists():
            yield Record.read(file)


def _searches(study: Study, pair: str, ratio: float, replicate: int) -> Iterator[Search]:
    profile = study.profile
    names: dict[tuple[str, str], bool] = {}
    for arm in profile.arms:
        if (place := layout.trace_names(arm).get("search")) is not None:
            names[place] = place[1] == "search"
    names |= {("algorithms", name): True for name in profile.algorithms(pair, ratio)}
    for (stage, name), compared in names.items():
        file = layout.artefact(study.profile.profile, stage, pair, ratio, name, replicate)
        if file.exists():
            trace = artefacts.trace(file, SearchTrace).model_copy(update={"pair": pair})
            yield Search(name=name, compared=compared, trace=trace)


def _tunings(study: Study, pair: str, ratio: float, replicate: int) -> Iterator[TuneTrace]:
    for arm in study.profile.arms:
        if (place := layout.trace_names(arm).get("tune")) is not None:
            stage, name = place
            file = layout.artefact(study.profile.profile, stage, pair, ratio, name, replicate)
            if file.exists():
                yield artefacts.trace(file, TuneTrace).model_copy(update={"pair": pair})


def _predictions(study: Study, pair: str, ratio: float, replicate: int) -> Iterator[Predictions]:
    file = layout.artefact(study.profile.profile, "fast", pair, ratio, "predictors", replicate)
    if file.exists():
        yield Predictions.read(file).model_copy(update={"pair": pair})
