"""The commands of several labs: ``export-lab`` packs a profile's results, ``compare`` sets labs
side by side. Both work without torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.context import PairInfo
    from bench.labs.schema import Failed, Run
    from bench.schema import Record
    from pipelines.config import Pair, Study


def register(commands: Any) -> None:
    """Add both commands to the parser's sub-commands."""
    text = "pack a profile's results into one lab file, to be compared with other labs"
    export = commands.add_parser("export-lab", help=text, description=text)
    export.add_argument("name", help="short name of the lab: lower-case letters, digits, hyphens")
    export.add_argument("--profile", default=None, help="default: the root params.yaml")
    export.add_argument(
        "--to", type=Path, metavar="FILE", help="default: results/labs/NAME/PROFILE.json"
    )
    export.add_argument("--description", default="", metavar="TEXT", help="a line on the set-up")
    export.set_defaults(command=export_lab)
    text = "compare lab files: what they say together, and whether they agree with the first"
    compare = commands.add_parser("compare", help=text, description=text)
    compare.add_argument("files", nargs="+", type=Path, metavar="FILE", help="lab files")
    compare.add_argument("--to", type=Path, metavar="FOLDER", help="write tables and forest plot")
    compare.set_defaults(command=compare_labs)


def export_lab(options: argparse.Namespace) -> int:
    """Write the lab file of a profile that was run."""
    from bench.files import write_text
    from bench.labs.reading import LABS, parse
    from bench.labs.schema import render
    from pipelines.config import load, profile_file

    given = options.profile
    study = load(Path("params.yaml") if given is None else profile_file(given))
    target = options.to or LABS / options.name / f"{study.profile.profile}.json"
    text = render(content(study, options.name, options.description))
    file = parse(text, str(target))
    write_text(target, text)
    print(f"{target}: {len(file.runs)} runs, digest {file.digest}")
    return 0


def compare_labs(options: argparse.Namespace) -> int:
    """Print what several labs say together; write tables and plot if asked."""
    from bench.labs.reading import by_name
    from bench.labs.view import view

    labs = by_name(options.files)
    shown = view(labs, known({pair for lab in labs.values() for pair in lab.pairs}))
    for table in shown.tables:
        print(table.plain())
    if options.to is not None:
        for path in shown.write(options.to).values():
            print(path)
    return 0


def known(pairs: set[str]) -> dict[str, PairInfo]:
    """What this checkout says of the pairs that it has itself."""
    from pipelines.config import PAIRS, load_pair

    return {pair: load_pair(pair).about for pair in pairs if (PAIRS / f"{pair}.yaml").is_file()}


def packed(study: Study) -> list[str]:
    """The methods that a lab file holds.

    Not the cheap search: its stages are no number of trainings of one length, so that nobody could
    check its epochs against a budget.
    """
    from pipelines.engine import layout

    faithful = [arm for arm in study.profile.arms if layout.trained_in(arm) != "fast"]
    return ["dense", *faithful]


def content(study: Study, name: str, description: str) -> dict[str, Any]:
    """A lab file's content without its digest.

    Raises:
        BenchError: if a run has no valid record; SafsError: if DVC has not recorded the profile.
    """
    from bench.labs.schema import VERSION, pack_runs
    from pipelines.engine.scratch import file_digest
    from pipelines.publishing import context
    from safs.errors import SafsError

    profile = study.profile
    lock = Path(profile.params_file).with_name("dvc.lock")
    if not lock.is_file():
        raise SafsError(f"{lock}: no such file; run `safs-bench run {profile.profile}` first")
    about = context(study)
    return {
        "lab_file": VERSION,
        "lab": {"name": name, "description": description},
        "profile": profile.profile,
        "protocol": about.protocol.model_dump(),
        "seed": profile.seed,
        "replicates": profile.replicates,
        "methods": packed(study),
        "dvc_lock": file_digest(lock),
        "pairs": {pair: described(study, pair) for pair in study.pairs},
        **pack_runs(runs(study)),
    }


def described(study: Study, name: str) -> dict[str, Any]:
    """A pair as it was run: what decides whether labs may be pooled."""
    from pipelines.engine.scratch import digest

    pair, profile = study.pairs[name], study.profile
    plain = pair.prune.method != "given" and not pair.prune.spare
    parameters = pair.model_dump(mode="json", exclude={"about", "fast"})
    parts = [parameters, profile.protocol.model_dump(mode="json")]
    return {
        "parameters": digest([*parts, profile.faster] if profile.faster else parts),
        "layerwise": plain and pair.prune.scope == "layerwise",
        "ratios": profile.ratios(name),
        "budgets": {method: budget(pair, method) for method in packed(study)},
    }


def budget(pair: Pair, method: str) -> dict[str, Any]:
    """What a method may spend: its last training, and the trainings of both stages."""
    from pipelines.plan import trials
    from safs.arms import ARMS

    none = {"trainings": 0, "epochs": 0}
    if method == "dense":
        return {"final": pair.pretrain.epochs, "search": none, "tune": none}
    arm = ARMS[method]
    searched = {"found": pair.search.evaluations, "best_single": len(pair.search.operators)}
    search, tune = none, none
    if count := searched.get(arm.operators):
        search = {"trainings": count, "epochs": pair.search.epochs}
    if arm.tuned:
        tune = {"trainings": trials(pair, method), "epochs": pair.tune.epochs}
    return {"final": pair.finetune.epochs, "search": search, "tune": tune}


def runs(study: Study) -> list[Run]:
    """Every run of the profile's arms. Raises BenchError if one has no valid record."""
    from bench.errors import BenchError
    from bench.labs.schema import Run, without_weights
    from pipelines.publishing import collection

    asked = packed(study)
    found = collection(study)
    frame = found.frame[found.frame["method"].isin(asked)]
    bad = frame[~frame["status"].isin(["ok", "failed"])]
    for row in bad.itertuples():
        raise BenchError(f"{len(bad)} of {len(frame)} runs have no record; {row.reason}")
    return [
        Run(failed=failed(study, record), record=without_weights(record))
        for record in found.records.values()
        if record.method in asked
    ]


def failed(study: Study, record: Record) -> Failed:
    """Trainings behind a record that failed, counted in the traces of its searches."""
    from bench.labs.schema import Failed
    from pipelines.engine import layout
    from pipelines.engine.scratch import read_json
    from safs.arms import ARMS

    counts = {"search": 0, "tune": 0}
    if record.method == "dense":
        return Failed(**counts)
    tuned = f"{record.method}-tune" if ARMS[record.method].tuned else None
    for stage, name in (("search", layout.search_name(record.method)), ("tune", tuned)):
        place = layout.folder(study.profile.profile, stage, record.pair, record.ratio)
        path = place / f"{name}-r{record.replicate}.json"
        if name and path.exists():
            trace = read_json(path)["trace"]
            entries = trace.get("evaluations") or trace.get("trials") or []
            counts[stage] = sum(entry["status"] == "failed" for entry in entries)
    return Failed(**counts)
