"""What the commands share: the profile, the data folder, a table for people or as JSON."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from safs.errors import SafsError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bench.render import Table
    from pipelines.config.study import Study
    from pipelines.results.recomputed import Retrained
    from pipelines.verification.rebuilding import Rebuilt
    from pipelines.verification.retraining import Redone

Command = Callable[..., Any]
FILE = click.Path(path_type=Path)

NOTHING = 3
"""Exit code where there is nothing to compare or to show."""

profile_argument = click.argument("profile", required=False)
"""A profile by name; the root's ``params.yaml`` where none is given."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")


def _take_data_folder(_: click.Context, __: click.Parameter, folder: Path | None) -> None:
    if folder is not None:
        os.environ["SAFS_DATA"] = str(folder.resolve())


data_option = click.option(
    "--data-dir",
    type=FILE,
    metavar="FOLDER",
    expose_value=False,
    callback=_take_data_folder,
    help="Folder of downloaded data sets (default: SAFS_DATA, else data).",
)


def sample_options(what: str) -> Callable[[Command], Command]:
    """The options of a command that trains a random sample again."""
    sample = click.option("--sample", type=click.IntRange(1), default=20, show_default=True,
                          metavar="N", help=f"How many {what}, drawn at random.")  # fmt: skip
    seed = click.option("--seed", type=click.IntRange(0), default=lambda: secrets.randbelow(10**6),
                        help="Of the draw (default: another each time).")  # fmt: skip
    return lambda command: sample(seed(command))


@contextmanager
def training() -> Iterator[None]:
    """Around what a command trains itself: it ends when asked, and ``clean`` waits for it."""
    from pipelines.signals import leaving_when_asked
    from pipelines.storage import scratch

    with leaving_when_asked(), scratch.in_use():
        yield


def nothing_to_compare(reason: SafsError, as_json: bool) -> int:
    """Print why a sample was not trained again; the exit code."""
    click.echo(f"nothing to compare: {reason}", err=True)
    if as_json:
        tell((), as_json, str)
    return NOTHING


def tell_again(found: Sequence[Rebuilt | Redone | Retrained], head: str, as_json: bool) -> int:
    """Print what was done again, what differs to the standard error; the exit code.

    ``head`` takes how many there are, and how many of them are the same.
    """
    others = [each for each in found if not each.same]
    for each in others:
        click.echo(each.words, err=True)
    told = head.format(every=len(found), same=len(found) - len(others))
    tell((each.row() for each in found), as_json, lambda: told)
    return 1 if others else 0


def study_of(profile: str | None) -> Study:
    """The study of a profile by name, in the root of a checkout."""
    from pipelines.config.study import named

    at_root()
    return named(profile)


def at_root() -> None:
    """Refuse any folder but the root of a checkout, to which all paths are relative."""
    if not (Path("dvc.yaml").is_file() and Path("pipelines").is_dir()):
        raise SafsError(
            f"{Path.cwd()}: expected the root of a checkout or project, with dvc.yaml and "
            "pipelines/; `safs-bench init FOLDER` makes a project"
        )


def tell(
    rows: Iterable[Mapping[str, Any]], as_json: bool, view: Callable[[], RenderableType]
) -> None:
    """Print rows as JSON, or the view of them for people."""
    if as_json:
        click.echo(json.dumps([plain(row) for row in rows], indent=1, allow_nan=False))
        return
    from rich.console import Console

    Console().print(view())


def plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row for JSON, which knows no NaN: an absent number is null."""
    values = {str(key): getattr(value, "item", lambda v=value: v)() for key, value in row.items()}
    return {key: None if value != value else value for key, value in values.items()}


def tell_tables(tables: Iterable[Table], as_json: bool) -> None:
    """Print tables, or an object of their rows by the tables' names."""
    if not as_json:
        for table in tables:
            click.echo(table.plain())
        return
    rows = {table.name: [*map(plain, table.frame.to_dict("records"))] for table in tables}
    click.echo(json.dumps(rows, indent=1, allow_nan=False))
