"""The commands about single files: ``validate`` and ``export``."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.cli.common import FILE


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
def validate(files: tuple[Path, ...]) -> int:
    """Check records, lab files and card FILES against the schema.

    Exit code 2 if one is not valid, with a line for each fault.
    """
    from bench.labs.reading import validate as faults

    problems = [line for file in files for line in faults(file)]
    for line in problems:
        click.echo(line, err=True)
    if not problems:
        click.echo(f"{len(files)} valid")
    return 2 if problems else 0


@click.command()
@click.argument("source", type=FILE, metavar="RECORD_OR_ARTEFACT")
@click.option("--to", "folder", type=FILE, required=True, metavar="FOLDER", help="Where to write.")
def export(source: Path, folder: Path) -> None:
    """Write a run's network as safetensors and ONNX.

    The ONNX file is checked by onnxruntime.
    """
    from pipelines.results.exporting import export as write

    done = write(source, folder)
    click.echo(done.weights)
    click.echo(f"{done.onnx} (onnxruntime differs from torch by {done.difference:.1e})")
