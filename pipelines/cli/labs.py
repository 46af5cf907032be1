"""The commands of several labs: ``export-lab`` packs a profile's results, ``compare`` sets labs
side by side. Both work without torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines.cli.common import FILE, json_option, study_of, tell_tables

if TYPE_CHECKING:
    from bench.context import PairInfo


@click.command()
@click.argument("name")
@click.option("--profile", metavar="PROFILE", help="Default: the root params.yaml.")
@click.option("--to", type=FILE, metavar="FILE", help="Default: results/labs/NAME/PROFILE.json.")
@click.option("--description", default="", metavar="TEXT", help="A line on the set-up.")
def export_lab(name: str, profile: str | None, to: Path | None, description: str) -> None:
    """Pack a profile's results into one lab file.

    NAME is a short name of the lab: lower-case letters, digits, hyphens.
    """
    from bench.labs.reading import LABS, parse
    from bench.labs.schema import render
    from pipelines.results.packing import content
    from safs.files import write_text

    study = study_of(profile)
    target = to or LABS / name / f"{study.profile.profile}.json"
    text = render(content(study, name, description))
    file = parse(text, str(target))
    write_text(target, text)
    click.echo(f"{target}: {len(file.runs)} runs, digest {file.digest}")


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--to", "folder", type=FILE, metavar="FOLDER", help="Write tables and forest plot.")
@json_option
def compare(files: tuple[Path, ...], folder: Path | None, as_json: bool) -> None:
    """Compare lab FILES, with the first as the reference.

    Prints what they say together, and whether they agree.
    """
    from bench.labs.reading import by_name
    from bench.labs.view import view

    labs = by_name(files)
    shown = view(labs, known({pair for lab in labs.values() for pair in lab.pairs}))
    tell_tables(shown.tables, as_json)
    for line in () if as_json else shown.same:
        click.echo(line)
    if folder is not None:
        for path in shown.write(folder).values():
            click.echo(path, err=as_json)


def known(pairs: set[str]) -> dict[str, PairInfo]:
    """What this checkout says of the pairs that it has itself."""
    from pipelines.config.pair import PAIRS, load_pair

    return {pair: load_pair(pair).about for pair in pairs if (PAIRS / f"{pair}.yaml").is_file()}
