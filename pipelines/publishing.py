"""From a study's parameters to what the protocol expects of it: records, traces, context."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from bench.context import Context
from bench.predictors import Predictions
from bench.predictors import table as predictors
from bench.readings import Runs, readings
from bench.records import Collection, Expected, collect
from bench.render import Table
from bench.schema import Protocol as ProtocolName
from bench.traces import SearchTrace, Traces, TuneTrace, curve_frame
from pipelines.config import Study
from pipelines.engine import layout
from pipelines.engine.scratch import read_json
from safs.arms import ARMS
from safs.protocol import PROTOCOL_VERSION, Protocol


def results(study: Study) -> Path:
    """The git-tracked folder of a profile's tables and report."""
    return layout.results(study.profile.profile)


def expected(study: Study) -> list[Expected]:
    """Every run that the parameters ask for, and where its record should be."""
    runs = []
    for pair in study.profile.pairs:
        place = layout.folder(study.profile.profile, "evaluate", pair)
        ratios = study.profile.ratios(pair)
        pruned = [(arm, x) for x in ratios for arm in study.profile.methods(pair, x)]
        cells = [("dense", 0.0), *pruned]
        for method, ratio in cells:
            for r in range(study.profile.replicates):
                path = place / f"{layout.record_name(method, ratio, r)}.json"
                runs.append(Expected(pair, ratio, r, method, path))
    return runs


def collection(study: Study) -> Collection:
    """The records of a study as a tidy frame."""
    return collect(expected(study))


def reading_tables(study: Study) -> list[Table]:
    """The table of readings, if the profile has any."""
    if not study.readings:
        return []
    others = {
        name: Runs(reading.profile.pairs[0], reading.profile.title, collection(reading))
        for name, reading in study.readings.items()
    }
    return [readings(collection(study), others, context(study))]


def reading_runs(study: Study) -> pd.DataFrame:
    """Every run of every reading, as in the profile's own ``runs.csv``; empty without readings."""
    frames = [collection(of).frame.assign(reading=name) for name, of in study.readings.items()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def predictor_tables(study: Study) -> list[Table]:
    """How well predictors rank candidates, where the cheap search ran beside the faithful one."""
    cells = [
        layout.folder(study.profile.profile, "fast", pair, ratio)
        for pair in study.profile.pairs
        for ratio in study.profile.ratios(pair)
        if "safs_fast" in study.profile.arms
    ]
    names = [f"predictors-r{r}.json" for r in range(study.profile.replicates)]
    paths = [place / name for place in cells for name in names]
    found = [Predictions.read(path) for path in paths if path.exists()]
    return [predictors(found, context(study))] if found else []


def traces(study: Study) -> Traces:
    """What the trainings that the parameters name left behind: searches, tunings, curves."""
    searches, tunings, curves = [], [], []
    found = any(ARMS[arm].operators == "found" for arm in study.profile.arms)
    tuned = [arm for arm in study.profile.arms if layout.trained_in(arm) == "tune"]
    for pair in study.profile.pairs:
        for ratio in study.profile.ratios(pair):
            place = partial(layout.folder, study.profile.profile, pair=pair, ratio=ratio)
            for r in range(study.profile.replicates):
                searches += [place("search") / f"search-r{r}.json"] if found else []
                others = study.profile.algorithms(pair, ratio)
                searches += [place("algorithms") / f"{name}-r{r}.json" for name in others]
                tunings += [place("tune") / f"{arm}-tune-r{r}.json" for arm in tuned]
                for arm in study.profile.arms:
                    path = place(layout.trained_in(arm)) / f"{arm}-r{r}.json"
                    curves.append(((pair, ratio, r, arm), path))
    return Traces(
        search=tuple(SearchTrace.model_validate(_trace(p)) for p in searches if p.exists()),
        tune=tuple(TuneTrace.model_validate(_trace(p)) for p in tunings if p.exists()),
        curves=curve_frame((key, _history(path)) for key, path in curves if path.exists()),
    )


def context(study: Study) -> Context:
    """What tables and report say about a study beyond its records."""
    profile = study.profile
    return Context(
        profile=profile.profile,
        title=profile.title,
        protocol=ProtocolName(version=PROTOCOL_VERSION, preset=profile.protocol.preset),
        pairs={name: pair.about for name, pair in study.pairs.items()},
        ratios=tuple(sorted({cell.ratio for cell in profile.cells.values()})),
        replicates=profile.replicates,
        methods=("dense", *profile.arms),
        swept=tuple(f"all_{name}" for name in profile.studies.activations.operators),
        searches={name: pair.search.algorithm for name, pair in study.pairs.items()},
        budgets=_budgets(study),
        notes=tuple(note.strip() for note in profile.notes),
        deviations=deviations(profile.protocol),
        parameters=study.model_dump(mode="json", exclude={"readings"}),
    )


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
    chosen = (
        own[protocol.own_parameters],
        srelu[protocol.srelu],
        reported[protocol.reported_epoch],
    )
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


def _trace(path: Path) -> object:
    return read_json(path)["trace"]


def _history(path: Path) -> list[dict[str, float]]:
    history: list[dict[str, float]] = read_json(path)["result"]["history"]
    return history
