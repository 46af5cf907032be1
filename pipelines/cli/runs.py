"""The commands around a profile: what there is, what it takes, running it, its results."""

from __future__ import annotations

import json
import webbrowser
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.common import (
    NOTHING,
    at_root,
    data_option,
    json_option,
    nothing_to_compare,
    profile_argument,
    sample_options,
    study_of,
    tell,
    tell_again,
    training,
)
from safs.errors import SafsError

if TYPE_CHECKING:
    from pipelines.config.study import Study
    from pipelines.dvc.timing import Connected, EpochSeconds


@click.command()
@json_option
def profiles(as_json: bool) -> None:
    """List the profiles, and whose results are here."""
    from pipelines.cli import views
    from pipelines.config.profile import every_profile

    at_root()
    rows = [views.profile_row(study_of(name)) for name in every_profile()]
    tell(rows, as_json, lambda: views.table_of(rows))


@click.command()
@json_option
def networks(as_json: bool) -> None:
    """List every pair's network: parameters, slots, prunable layers."""
    from pipelines.cli import views

    at_root()
    rows = views.network_rows()
    tell(rows, as_json, lambda: views.table_of(rows))


@click.command()
@profile_argument
@data_option
@click.option("--no-measure", is_flag=True, help="Count only; needs torch for landscapes alone.")
@json_option
def plan(profile: str | None, no_measure: bool, as_json: bool) -> None:
    """Say what PROFILE will train, and how long it takes here.

    It refuses networks, operators, recipes, pruners and masks that `run` refuses; with
    --no-measure, what is wrong in the files alone.
    """
    from rich.console import Group, RenderableType

    from pipelines import compute
    from pipelines.cli.plan import beside_table3, on_cards, rows, view, warnings

    study = study_of(profile)
    seconds, connected = ({}, {}) if no_measure else _measured(study)
    workers = compute.settings().count
    shown: list[RenderableType] = [view(study, seconds, workers)]
    if seconds:
        shown.append(beside_table3(study, seconds))
    shown += [*warnings(connected), *on_cards(study)]
    tell(rows(study, seconds, workers), as_json, lambda: Group(*shown))


def _measured(study: Study) -> tuple[EpochSeconds, Connected]:
    """How fast pairs train here, of a study that could begin if its data were there."""
    from pipelines.dvc.preflight import fits
    from pipelines.dvc.timing import measure

    with training():
        fits(study)
        return measure(study)


@click.command()
@profile_argument
@data_option
@click.option("--pair", metavar="PAIR", help="Run this pair alone; published tables stay.")
@click.option(
    "--ratio", type=float, metavar="RATIO", help="Run this pruning ratio alone, likewise."
)
@click.option(
    "--workers", type=int, metavar="N", help="Processes that train (default: one a core)."
)
@click.option("--jobs", type=int, metavar="N", help="Stages side by side (default: 4 at most).")
@click.option("--quiet", is_flag=True, help="Print errors and the result, no progress.")
@click.option(
    "--from-records",
    is_flag=True,
    help="Leave out replicates whose records in results/ have today's identity.",
)
def run(
    profile: str | None,
    pair: str | None,
    ratio: float | None,
    workers: int | None,
    jobs: int | None,
    quiet: bool,
    from_records: bool,
) -> int:
    """Run PROFILE to the end and print its tables.

    It can be ended at any moment, with Ctrl-C or otherwise; the same command goes on from there.
    """
    from pipelines import signals
    from pipelines.dvc import narrow
    from pipelines.dvc.launch import Options, launch

    signals.interrupt_when_asked()
    whole = study_of(profile)
    study = narrow.narrowed(whole, pair, ratio)
    options = Options(workers, jobs, quiet, study is not whole, from_records)
    return launch(study, options) or _print_results(study)


@click.command()
@profile_argument
@json_option
def show(profile: str | None, as_json: bool) -> int:
    """Print the results of PROFILE, else the published ones.

    Exit code 1 if no run of it ended well, 3 if there is none.
    """
    return _print_results(study_of(profile), as_json)


def _print_results(study: Study, as_json: bool = False) -> int:
    """Print results and where the files are; the exit code, which :func:`show` tells."""
    from rich.console import Group

    from bench.report.terminal import rows, summary
    from pipelines.results.publishing import context, shown

    runs, source = shown(study)
    if (runs.frame["status"] == "missing").all():
        name = study.profile.profile
        click.echo(f"{name}: nothing was run here; `safs-bench run {name}` does", err=True)
        tell((), as_json, str)
        return NOTHING
    about, place = context(study), study.results
    files = [path for path in (place / "tables", place / "report.html") if path.exists()]
    lines = "\n".join([source, *(f"{path.stem:12} {path}" for path in files)])
    tell(rows(runs, about), as_json, lambda: Group(summary(runs, about), lines))
    return 0 if (runs.frame["status"] == "ok").any() else 1


@click.command("open")
@profile_argument
def open_report(profile: str | None) -> None:
    """Open the report of PROFILE in a browser."""
    study = study_of(profile)
    page = study.results / "report.html"
    if not page.is_file():
        run = f"`safs-bench run {study.profile.profile}`"
        raise SafsError(f"{page}: no such file; {run} writes it")
    click.echo(page)
    if not webbrowser.open(page.resolve().as_uri()):
        raise SafsError("no browser that could open it")


@click.command()
def overview() -> None:
    """Put what every study says on one page, results/index.html."""
    from pipelines.results import overview as pages

    at_root()
    click.echo(pages.write())


@click.command()
@profile_argument
@json_option
def check(profile: str | None, as_json: bool) -> int:
    """Check that what PROFILE's tables rest on is whole.

    Goes through records, their chains and artefacts in runs/, and the files in results/.
    """
    from dataclasses import asdict

    from pipelines.verification.checking import check as checked

    parts = checked(study_of(profile))
    for fault in (fault for part in parts for fault in part.faults):
        click.echo(fault, err=True)
    tell(map(asdict, parts), as_json, lambda: "\n".join(part.text for part in parts))
    return 1 if any(part.faults for part in parts) else 0


@click.command()
@profile_argument
@data_option
@json_option
def standing(profile: str | None, as_json: bool) -> int:
    """Say how many published replicates of PROFILE still stand.

    One stands while nothing that decides it has changed: code, settings and data. `run
    --from-records` trains the others. Exit code 1 if one does not stand, 3 if none is published.
    """
    from pipelines.cli import views

    rows = views.standing_rows(study_of(profile))
    tell(rows, as_json, lambda: views.table_of(rows))
    told = sum(row["published"] for row in rows)
    return NOTHING if not told else int(told > sum(row["stand"] for row in rows))


@click.command()
@profile_argument
@json_option
def rebuild(profile: str | None, as_json: bool) -> int:
    """Make tables, figures and report of PROFILE from its records.

    Reads results/PROFILE/records alone, so it needs neither runs/ nor torch. Exit code 0 if every
    file came out as it was, 1 if one did not.
    """
    from pipelines import signals
    from pipelines.dvc.alone import alone
    from pipelines.verification.rebuilding import rebuild as rebuilt

    study = study_of(profile)
    signals.interrupt_when_asked()  # so that what was there before is put back
    with alone(f"safs-bench rebuild {study.profile.profile}"):
        found = rebuilt(study)
    return tell_again(found, "{every} files, {same} as they were", as_json)


@click.command()
@profile_argument
@data_option
@json_option
def verify(profile: str | None, as_json: bool) -> int:
    """Say whether the run of PROFILE is the published one.

    Holds every training in runs/ to the one in the last commit's results/. Exit code 0 if all are
    identical, 1 if not, 3 if there is nothing to compare.
    """
    from pipelines.verification import verifying

    study = study_of(profile)
    name = study.profile.profile
    try:
        found = verifying.verify(study)
    except verifying.NothingToCompare as reason:
        row: dict[str, Any] = {"profile": name, "identical": None, "reason": str(reason)}
        lines, code = [f"nothing to compare: {reason}"], NOTHING
    else:
        row = {"profile": name, **found.row()}
        lines, code = [f"{name}: {found.lines[0]}", *found.lines[1:]], int(not found.identical)
    click.echo(json.dumps(row, indent=1, allow_nan=False) if as_json else "\n".join(lines))
    return code


@click.command()
@profile_argument
@data_option
@sample_options("trainings")
@json_option
def retrain(profile: str | None, sample: int, seed: int, as_json: bool) -> int:
    """Train a sample of PROFILE's published results again.

    Dense networks, candidates, trials and final trainings are drawn from the records of the last
    commit, done once more and compared bit for bit; what they start from is trained too, where it
    is not in runs/. Exit code 0 if all are identical, 1 if not, 3 if there is nothing to compare.
    """
    from pipelines.verification.retraining import retrain as again
    from pipelines.verification.verifying import NothingToCompare

    study = study_of(profile)
    try:
        with training():
            found = again(study, sample, seed)
    except NothingToCompare as reason:
        return nothing_to_compare(reason, as_json)
    head = f"{{same}} of {{every}} trainings identical to the published results (--seed {seed})"
    return tell_again(found, head, as_json)


@click.command()
def clean() -> None:
    """Empty scratch/ of checkpoints, journals and logs."""
    from pipelines.dvc.alone import FILE, alone
    from pipelines.storage import scratch
    from pipelines.storage.layout import SCRATCH

    at_root()
    if not SCRATCH.is_dir():
        return
    with alone("safs-bench clean"):
        scratch.empty(but=[FILE])
    click.echo(f"emptied {SCRATCH.resolve()}")
