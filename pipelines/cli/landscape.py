"""The commands of a landscape: retrain rows of it, race searches on it, export it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.common import (
    FILE,
    data_option,
    json_option,
    nothing_to_compare,
    sample_options,
    study_of,
    tell_again,
    training,
)
from safs.errors import UnknownName

if TYPE_CHECKING:
    from bench.landscape.table import Landscape
    from pipelines.config.study import Study

PROFILE = "landscape"
profile_option = click.option(
    "--profile", default=PROFILE, show_default=True, help="Whose landscape."
)


@click.group()
def landscape() -> None:
    """Every activation chromosome, trained: retrain, race, export."""


@landscape.command()
@profile_option
@data_option
@sample_options("rows of each published table")
@json_option
def retrain(profile: str, sample: int, seed: int, as_json: bool) -> int:
    """Train rows of the published table here, and compare every bit.

    The dense networks and masks that they start from are trained too, where they are not in runs/.
    Exit code 0 if all rows come out as published, 1 if one does not, 3 if there is nothing to
    compare.
    """
    from pipelines.verification.landscape_sample import retrain_sample
    from pipelines.verification.verifying import NothingToCompare

    study = study_of(profile)
    try:
        tables = published(study)
    except NothingToCompare as reason:
        return nothing_to_compare(reason, as_json)
    with training():
        found = [row for table in tables for row in retrain_sample(study, table, sample, seed)]
    head = f"{{same}} of {{every}} rows identical to the published table (--seed {seed})"
    return tell_again(found, head, as_json)


@landscape.command()
@profile_option
@click.option("--algorithms", metavar="A,B,...", multiple=True,
              help="Searches that safs/search/ registers (default: all).")  # fmt: skip
@click.option("--runs", type=click.IntRange(2), default=1000, show_default=True, metavar="N")
@click.option("--surrogate-runs", type=click.IntRange(2), default=20, show_default=True,
              metavar="N", help="Runs of a search that fits a surrogate.")  # fmt: skip
@click.option("--evaluations", type=click.IntRange(1), default=21, show_default=True, metavar="N",
              help="Of a run; the paper has 21.")  # fmt: skip
@json_option
def race(
    profile: str,
    algorithms: tuple[str, ...],
    runs: int,
    surrogate_runs: int,
    evaluations: int,
    as_json: bool,
) -> None:
    """Race searches on the published table, and print what they find.

    Trains nothing. What is printed is not kept; the races of the report are run with the records.
    """
    from bench.landscape import race as races
    from bench.tables.landscape import RACE, race_rows
    from pipelines.cli.common import tell_tables
    from pipelines.results import landscapes, racing
    from pipelines.results.publishing import context

    study = study_of(profile)
    asked = [name for some in algorithms for name in some.split(",") if name]
    for name in asked:
        if name not in races.algorithms():
            raise UnknownName("search algorithm", name, races.algorithms())
    names = list(dict.fromkeys(asked)) or races.algorithms()
    rows: list[dict[str, Any]] = []
    for table in published(study):
        counts = {n: surrogate_runs if n in races.SURROGATE else runs for n in names}
        heats = [racing.Heat(n, r, evaluations, counts[n]) for n in names for r in table.replicates]
        place = landscapes.path(study, table.meta.pair, table.meta.ratio)
        with racing.processes() as pool:
            found = [racing.run(heat, place, table, pool) for heat in heats]
        rows += race_rows(table, found)
    tell_tables([RACE.of(rows, context(study))], as_json)


@landscape.command()
@profile_option
@click.option("--to", "folder", type=FILE, required=True, metavar="FOLDER", help="Where to write.")
def export(profile: str, folder: Path) -> None:
    """Write the published table as a blackbox of Syne Tune.

    Where there are several, each has a folder of its own in FOLDER.
    """
    from bench.landscape.adapters import syne_tune

    tables = published(study_of(profile))
    for table in tables:
        own = folder / f"{table.meta.pair}-{table.meta.ratio:g}"
        click.echo(syne_tune(table, own if len(tables) > 1 else folder))


def published(study: Study) -> list[Landscape]:
    """The landscapes of a study. Raises NothingToCompare where there is none."""
    from pipelines.results import landscapes
    from pipelines.verification.verifying import NothingToCompare

    found = list(landscapes.every(study))
    if not found:
        raise NothingToCompare(
            f"{study.profile.profile}: no landscape is published; `safs-bench run PROFILE` makes "
            "that of a profile with studies.landscape"
        )
    return found
