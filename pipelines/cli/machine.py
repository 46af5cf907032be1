"""The commands about this machine: ``doctor``, ``check-gpu`` and ``completion``."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import get_completion_class

from pipelines.cli.common import FILE, at_root, data_option, json_option, tell

SHELLS = ("bash", "zsh", "fish")


@click.command()
@data_option
@json_option
def doctor(as_json: bool) -> int:
    """Say what this machine has, and how to mend the rest."""
    from dataclasses import asdict

    from pipelines.cli import views
    from pipelines.cli.doctor import examine

    rows = [asdict(finding) for finding in examine()]
    tell(rows, as_json, lambda: views.table_of(rows))
    return 1 if any(row["state"] == "missing" for row in rows) else 0


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For bash: eval "$(safs-bench completion bash)" in ~/.bashrc.
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells that are listed"
    program = ctx.find_root().command
    click.echo(kind(program, {}, "safs-bench", "_SAFS_BENCH_COMPLETE").source())


@click.command()
@click.option(
    "--to", "folder", type=FILE, metavar="FOLDER", help="Where the files go (default: results/gpu)."
)
def check_gpu(folder: Path | None) -> int:
    """Check and time this machine's GPU, in less than ten minutes.

    Every check is made, whatever fails, and written down with the speed of every pair. Exit code 1
    if a check failed.
    """
    from bench.labs.reading import CARDS
    from pipelines.acceptance import checks, run
    from pipelines.config.study import named

    at_root()
    device = run.prepared()
    file = run.run(device, checks.checks(), named("paper").pairs, folder or CARDS, click.echo)
    click.echo(f"{len(file.checks)} checks, {len(file.failed)} failed")
    return 1 if file.failed else 0
