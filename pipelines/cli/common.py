"""What the commands share: the profile, the data folder, a table for people or as JSON."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from safs.errors import SafsError

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import RenderableType

    from bench.render import Table
    from pipelines.config.study import Study

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
    seed = click.option("--seed", type=click.IntRange(0), default=_drawn,
                        help="Of the draw (default: another each time).")  # fmt: skip
    return lambda command: sample(seed(command))


def _drawn() -> int:
    return secrets.randbelow(1_000_000)


class Again(Protocol):
    """A published training that was done once more."""

    @property
    def same(self) -> bool:
        """Whether every bit came out as published."""

    @property
    def words(self) -> str:
        """What came out, in a line."""

    def row(self) -> dict[str, Any]:
        """Plain data."""


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


def tell_again(found: Sequence[Again], what: str, seed: int, as_json: bool) -> int:
    """Print what came of a sample, what differs to the standard error; the exit code."""
    same = sum(each.same for each in found)
    for each in found:
        if not each.same:
            click.echo(each.words, err=True)
    head = f"{same} of {len(found)} {what} (--seed {seed})"
    tell((each.row() for each in found), as_json, lambda: head)
    return 0 if same == len(found) else 1


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


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for JSON, which knows no NaN: an absent number is null."""
    values = {key: getattr(value, "item", lambda v=value: v)() for key, value in row.items()}
    return {key: None if value != value else value for key, value in values.items()}


def tell_tables(tables: Iterable[Table], as_json: bool) -> None:
    """Print tables, or an object of their rows by the tables' names."""
    if not as_json:
        for table in tables:
            click.echo(table.plain())
        return
    rows = {table.name: [plain(row) for row in records(table.frame)] for table in tables}
    click.echo(json.dumps(rows, indent=1, allow_nan=False))


def records(frame: DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as plain data."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
