"""From a study's parameters to what the protocol expects of it: records, traces, context."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd

from bench.context import Context
from bench.records.archive import Replicate
from bench.records.collection import Collection, Expected, collect
from bench.records.predictions import Predictions
from bench.records.schema import Protocol as ProtocolName
from bench.records.traces import Traces, curve_frame
from bench.render import Table
from bench.tables.landscape import tables as landscape
from bench.tables.predictors import table as predictors
from bench.tables.readings import Runs, readings
from pipelines.config.study import Study
from pipelines.results import archiving, landscapes, promises, racing
from pipelines.storage import layout
from safs.arms import everywhere
from safs.errors import SafsError
from safs.rows import Trace
from safs.settings import PROTOCOL_VERSION, Protocol

T = TypeVar("T", bound=Trace)


def expected(study: Study) -> list[Expected]:
    """Every run that the parameters ask for, and where its record should be."""
    runs = []
    for pair in study.profile.pairs:
        place = layout.folder(study.profile.profile, "evaluate", pair)
        for arm, ratio in study.profile.runs(pair):
            for r in range(study.profile.replicates):
                path = place / f"{layout.record_name(arm, ratio, r)}.json"
                runs.append(Expected(pair, ratio, r, arm, path))
    return runs


@dataclass(frozen=True)
class Published:
    """What tables, figures and page of a study are made of; ``readings`` by their names."""

    study: Study
    collection: Collection
    traces: Traces
    predictions: Sequence[Predictions]
    readings: Mapping[str, Published]

    @property
    def tables(self) -> list[Table]:
        """Tables beside those that every profile has: predictors, landscapes, readings."""
        about = context(self.study)
        found = [predictors(self.predictions, about)] if self.predictions else []
        found += landscape(self.traces.landscapes, self.traces.races, self.traces.promised, about)
        others = {
            name: Runs(of.study.profile.pairs[0], of.study.profile.title, of.collection)
            for name, of in self.readings.items()
        }
        return found + ([readings(self.collection, others, about)] if others else [])

    @property
    def reading_runs(self) -> pd.DataFrame:
        """Every run of every reading, as in the profile's ``runs.csv``; empty without readings."""
        frames = [of.collection.frame.assign(reading=name) for name, of in self.readings.items()]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def published(study: Study) -> Published:
    """A study as its records in the open have it.

    Raises:
        SafsError: a file of them is damaged or of another protocol, or records contradict each
            other.
    """
    found = archiving.read(study)
    _check_protocol(study, found)
    records = {record.key: record for each in found for record in each.records}
    return Published(
        study,
        collect(expected(study), records),
        _traces(study, found),
        [prediction for each in found for prediction in each.predictions],
        {name: published(reading) for name, reading in study.readings.items()},
    )


def _check_protocol(study: Study, found: Iterable[Replicate]) -> None:
    """Results of another protocol are never told as today's. Raises SafsError."""
    today = _protocol(study)
    for each in found:
        for other in {record.protocol for record in each.records} - {today}:
            place = archiving.path(study, each.pair, each.replicate)
            raise SafsError(
                f"{place}: protocol: version {other.version}, {other.preset!r}; expected "
                f"version {today.version}, {today.preset!r}: run the profile again"
            )


def collection(study: Study) -> Collection:
    """The records of a study in ``runs/`` as a tidy frame."""
    return collect(expected(study))


def shown(study: Study) -> tuple[Collection, str]:
    """The runs of a study, and where they are read from.

    These are its records in ``runs/``; where there are none, or not all and more are published,
    those that are.
    """
    runs = collection(study)
    here = runs.frame["status"] != "missing"
    left_out = any(study.runs.glob("evaluate/*/recorded-r*.json"))  # as their records are published
    if here.any() and (here.all() or not left_out):
        return runs, f"runs         {Path('runs') / study.profile.profile}{_older(runs)}"
    if archiving.folder(study).is_dir():
        return published(study).collection, f"published    {archiving.folder(study)}"
    return runs, f"runs         {Path('runs') / study.profile.profile}"


def _older(runs: Collection) -> str:
    """Which protocol the runs are of, in words, where it is not today's."""
    versions = {record.protocol.version for record in runs.records.values()} - {PROTOCOL_VERSION}
    return f" (version {versions.pop()} of the protocol)" if versions else ""


def _traces(study: Study, found: Sequence[Replicate]) -> Traces:
    """What searches and tunings left behind, by pair and ratio, and the arms' curves."""
    searches = [search for each in found for search in each.searches]
    tables = tuple(landscapes.every(study))
    return Traces(
        landscapes=tables,
        races=tuple(raced for table in tables for raced in racing.read(study, table)),
        promised=tuple(said for table in tables for said in promises.read(study, table)),
        search=tuple(_in_order(s.trace for s in searches if s.compared)),
        others=tuple(_in_order(s.trace for s in searches if not s.compared)),
        tune=tuple(_in_order(tuning for each in found for tuning in each.tunings)),
        curves=curve_frame(
            r for each in found for r in each.records if r.arm in study.profile.arms
        ),
    )


def _in_order(traces: Iterable[T]) -> list[T]:
    """Traces by pair, ratio and replicate."""
    return sorted(traces, key=lambda trace: (trace.pair, trace.ratio, trace.replicate))


def context(study: Study) -> Context:
    """What tables and report say about a study beyond its records."""
    profile = study.profile
    return Context(
        profile=profile.profile,
        title=profile.title,
        protocol=_protocol(study),
        pairs={name: pair.about for name, pair in study.pairs.items()},
        ratios=tuple(sorted({cell.ratio for cell in profile.cells.values()})),
        replicates=profile.replicates,
        arms=("dense", *profile.arms),
        swept=tuple(map(everywhere, profile.studies.activations.operators)),
        searches={name: pair.search.algorithm for name, pair in study.pairs.items()},
        preregistered=profile.preregistered,
        budgets=_budgets(study),
        notes=tuple(note.strip() for note in profile.notes),
        deviations=deviations(profile.protocol),
        parameters=study.model_dump(mode="json", exclude={"readings"}),
    )


def _protocol(study: Study) -> ProtocolName:
    """Today's version of the protocol, and the preset of a study."""
    return ProtocolName(version=PROTOCOL_VERSION, preset=study.profile.protocol.preset)


def deviations(protocol: Protocol) -> tuple[str, ...]:
    """Departures from the paper, one line each, as far as the switches leave them standing."""
    always = (
        "Replicates are folds of one seeded, stratified partition; the paper averages three runs.",
        "Each candidate and each final training starts from the pruned dense checkpoint.",
        "Pruned weights stay exactly 0 and enter no norm, moment or decay of any optimiser.",
        "Stage 2 is widened so that the dense recipe is legal and always the first trial.",
        "Test images are read once per run.",
    )
    own = {
        "frozen": "Acon, SRS and TanhSoft-1 keep their published own parameters.",
        "stage2": "Acon, SRS and TanhSoft-1 learn their own parameters in stage 2.",
        "both": "Acon, SRS and TanhSoft-1 learn their own parameters in both stages.",
    }
    srelu = {
        "per_channel": "SReLU is per channel, its right threshold from data, as its authors say.",
        "per_layer": "SReLU is per layer, its right threshold from data.",
        "as_released": "SReLU is per layer and starts linear, as in the released code.",
    }
    reported = {
        "last": "The reported accuracy is the last epoch's.",
        "best_validation": "The reported accuracy is that of the best validation epoch.",
    }
    betas = {
        "published": "Adam and TAdam have the betas of Adam's paper, .9 and .999.",
        "as_released": "Adam and TAdam have the released code's betas, .9 and .99.",
    }
    tadam = {
        "published": "TAdam sums its weights as its paper says.",
        "as_released": "TAdam sums its weights as the package that the released code uses.",
    }
    chosen = (
        own[protocol.own_parameters], srelu[protocol.srelu], betas[protocol.betas],
        tadam[protocol.tadam], reported[protocol.reported_epoch],
    )  # fmt: skip
    return (*always, *chosen)


def _budgets(study: Study) -> dict[str, int | float | str]:
    budgets: dict[str, int | float | str] = {}
    for name, pair in study.pairs.items():
        prefix = f"{name}: " if len(study.pairs) > 1 else ""
        budgets |= {
            f"{prefix}dense epochs": pair.pretrain.epochs,
            f"{prefix}fine-tuning epochs": pair.finetune.epochs,
            f"{prefix}stage 1": f"{pair.search.evaluations} x {pair.search.epochs} epochs",
            f"{prefix}stage 2": f"{pair.tune.trials} x {pair.tune.epochs} epochs",
        }
    return budgets
