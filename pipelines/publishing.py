"""From a study's parameters to what the protocol expects of it: records, traces, context."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd

from bench.collection import Collection, Expected, collect, published
from bench.context import Context
from bench.record import Protocol as ProtocolName
from bench.render import Table
from bench.tables.predictors import Predictions
from bench.tables.predictors import table as predictors
from bench.tables.readings import Runs, readings
from bench.traces import Traces, curve_frame
from pipelines.config.study import Study
from pipelines.engine import artefacts, layout
from safs.arms import everywhere
from safs.rows import SearchTrace, TuneTrace
from safs.settings import PROTOCOL_VERSION, Protocol


def results(study: Study) -> Path:
    """The git-tracked folder of a profile's tables and report."""
    return Path("results") / study.profile.profile


def expected(study: Study) -> list[Expected]:
    """Every run that the parameters ask for, and where its record should be."""
    runs = []
    for pair in study.profile.pairs:
        place = layout.folder(study.profile.profile, "evaluate", pair)
        ratios = study.profile.ratios(pair)
        pruned = [(arm, x) for x in ratios for arm in study.profile.every_arm(pair, x)]
        for arm, ratio in [("dense", 0.0), *pruned]:
            for r in range(study.profile.replicates):
                path = place / f"{layout.record_name(arm, ratio, r)}.json"
                runs.append(Expected(pair, ratio, r, arm, path))
    return runs


def collection(study: Study) -> Collection:
    """The records of a study as a tidy frame."""
    return collect(expected(study))


def shown(study: Study) -> tuple[Collection, str]:
    """The runs of a study, and where they are read from: its records, else its published table.

    A clone has the tables that were published and none of the records that they were made of.
    """
    runs, table = collection(study), results(study) / "tables/runs.csv"
    if (runs.frame["status"] != "missing").any() or not table.is_file():
        return runs, f"runs         {Path('runs') / study.profile.profile}"
    return published(table), f"published    {table} (nothing was run here)"


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
    compared: dict[Path, None] = {}
    others: dict[Path, None] = {}
    tunings: dict[Path, None] = {}
    curves = []
    profile = study.profile
    cells = [(pair, ratio) for pair in profile.pairs for ratio in profile.ratios(pair)]
    for (pair, ratio), r in product(cells, range(profile.replicates)):
        place = partial(layout.folder, profile.profile, pair=pair, ratio=ratio)
        for arm in profile.arms:
            for purpose, (stage, name) in layout.trace_names(arm).items():
                own = compared if name == "search" else others
                into = own if purpose == "search" else tunings
                into[place(stage) / f"{name}-r{r}.json"] = None
            final = place(layout.trained_in(arm)) / f"{arm}-r{r}.json"
            curves.append(((pair, ratio, r, arm), final))
        for name in profile.algorithms(pair, ratio):
            compared[place("algorithms") / f"{name}-r{r}.json"] = None
    return Traces(
        search=tuple(artefacts.trace(p, SearchTrace) for p in compared if p.exists()),
        others=tuple(artefacts.trace(p, SearchTrace) for p in others if p.exists()),
        tune=tuple(artefacts.trace(p, TuneTrace) for p in tunings if p.exists()),
        curves=curve_frame(
            (key, artefacts.read(path)["result"]["history"])
            for key, path in curves
            if path.exists()
        ),
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
        arms=("dense", *profile.arms),
        swept=tuple(map(everywhere, profile.studies.activations.operators)),
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
