"""``safs-bench``: run a profile, say what it will cost, check files.

Every command imports what it needs when it runs, so ``--help`` and ``validate`` work where torch is
not installed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cli import cost as cost_cli
from pipelines.cli import labs as labs_cli
from safs.errors import SafsError

if TYPE_CHECKING:
    from pipelines.config.study import Study


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit codes: 0 done, 1 a stage failed, 2 bad input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    if getattr(options, "data_dir", None) is not None:
        os.environ["SAFS_DATA"] = str(options.data_dir.resolve())
    try:
        code: int = options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SafsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="safs-bench",
        description="Reproduce SAFS, the search for activation functions of sparse networks.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, text in (
        ("run", _run, "run a profile to the end and print its tables"),
        ("plan", _plan, "say what a profile will train, and how long it takes here"),
        ("show", _show, "print the results of a profile that was run"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("profile", nargs="?", default=None, help="default: the root params.yaml")
        sub.set_defaults(command=command)
        if name != "show":
            where = "folder of downloaded data sets (default: SAFS_DATA, else data)"
            sub.add_argument("--data-dir", type=Path, metavar="FOLDER", help=where)
        if name == "run":
            sub.add_argument("--workers", type=int, help="processes that train (default: per core)")
            side = "stages side by side (default: one per worker, 4 at most)"
            sub.add_argument("--jobs", type=int, help=side)
        if name == "plan":
            sub.add_argument("--no-measure", action="store_true", help="count only; needs no torch")
    text = "check records and lab files against the schema; exit code 2 if one is not valid"
    validate = commands.add_parser("validate", help=text, description=text)
    validate.add_argument("files", nargs="+", type=Path, metavar="FILE")
    validate.set_defaults(command=_validate)
    text = "write the network of a run as safetensors and ONNX, checked by onnxruntime"
    export = commands.add_parser("export", help=text, description=text)
    export.add_argument("source", type=Path, metavar="RECORD_OR_ARTEFACT", help="a run's JSON file")
    export.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where to write")
    export.set_defaults(command=_export)
    labs_cli.register(commands)
    cost_cli.register(commands)
    text = "list every pair's network: parameters, slots, prunable layers"
    networks = commands.add_parser("networks", help=text, description=text)
    networks.set_defaults(command=_networks)
    text = "remove the scratch folder: checkpoints and journals of finished and unfinished work"
    clean = commands.add_parser("clean", help=text, description=text)
    clean.set_defaults(command=_clean)
    return parser


def _run(options: argparse.Namespace) -> int:
    from pipelines.dvc.launch import launch, show

    study = _study(options.profile)
    try:
        code = launch(study, options.workers, options.jobs)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return code or show(study)


def _plan(options: argparse.Namespace) -> int:
    from rich.console import Console

    from pipelines.cli.plan import beside_table3, measure, view
    from pipelines.engine import compute

    study = _study(options.profile)
    seconds = {} if options.no_measure else measure(study)
    Console().print(view(study, seconds, compute.worker_count()))
    if seconds:
        Console().print(beside_table3(study, seconds))
    return 0


def _show(options: argparse.Namespace) -> int:
    from pipelines.dvc.launch import show

    return show(_study(options.profile))


def _validate(options: argparse.Namespace) -> int:
    from bench.labs.reading import validate

    problems = [line for file in options.files for line in validate(file)]
    for line in problems:
        print(line, file=sys.stderr)
    if not problems:
        print(f"{len(options.files)} valid")
    return 2 if problems else 0


def _export(options: argparse.Namespace) -> int:
    from pipelines.exporting import export

    done = export(options.source, options.to)
    print(f"{done.weights}\n{done.onnx} (onnxruntime differs from torch by {done.difference:.1e})")
    return 0


def _networks(options: argparse.Namespace) -> int:
    from rich.console import Console

    from pipelines.cli.networks import view

    _at_root()
    Console().print(view())
    return 0


def _clean(options: argparse.Namespace) -> int:
    import shutil

    from pipelines.engine.layout import SCRATCH

    _at_root()
    if SCRATCH.is_dir():
        shutil.rmtree(SCRATCH)
        print(f"removed {SCRATCH.resolve()}")
    return 0


def _study(profile: str | None) -> Study:
    from pipelines.config.study import named

    _at_root()
    return named(profile)


def _at_root() -> None:
    """Refuse any folder but the root of a checkout, to which all paths are relative."""
    if not (Path("dvc.yaml").is_file() and Path("pipelines").is_dir()):
        raise SafsError(f"{Path.cwd()}: expected the root of a checkout, with dvc.yaml, pipelines/")


if __name__ == "__main__":
    sys.exit(main())
