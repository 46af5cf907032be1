"""The command ``init``: a project without a checkout."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.cli.common import FILE


@click.command()
@click.argument("folder", type=FILE)
def init(folder: Path) -> None:
    """Lay out a project in FOLDER, for work without a checkout.

    It has profiles, pairs and a DVC pipeline that runs the installed package.
    """
    from pipelines.dvc.project import lay_out

    lay_out(folder)
    click.echo(f"{folder}: now `cd {folder}` and `safs-bench run`, or edit params.yaml first")
