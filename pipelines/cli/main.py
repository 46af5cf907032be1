"""``safs-bench``: the command.

Every command imports what it needs when it runs, so ``--help`` and ``validate`` work where torch is
not installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from pipelines.cli import cost, files, labs, landscape, machine, project, runs
from safs.errors import SafsError, one_line

INTERRUPTED = 130


class _Commands(click.Group):
    """Commands in the order in which a person needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="safs-bench", prog_name="safs-bench")
def program() -> None:
    """Reproduce SAFS, the search for activation functions of sparse networks.

    Start with `safs-bench doctor`, then `safs-bench run`. Commands work in the root of a checkout,
    or of a project that `safs-bench init` has laid out.
    """


for command in (
    machine.doctor, machine.check_gpu, project.init, runs.profiles, runs.networks, runs.plan,
    runs.run, runs.show, runs.open_report, runs.overview, runs.check, runs.verify, runs.retrain,
    runs.standing, runs.rebuild, files.validate, files.export, labs.export_lab, labs.compare,
    landscape.landscape, cost.cost, machine.completion, runs.clean,
):  # fmt: skip
    program.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point.

    Exit codes: 0 done, 1 a stage failed or results differ, 2 bad input, 3 nothing to compare, 130
    interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # what the terminal cannot show
    try:
        code = program.main(arguments, prog_name="safs-bench", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except click.Abort:
        click.echo("interrupted; the same command goes on from here", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return 2
    except (SafsError, OSError, MemoryError, ImportError) as error:
        click.echo(f"error: {one_line(error)}", err=True)
        return 2
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
