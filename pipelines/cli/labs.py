"""The commands of several labs: ``export-lab`` packs a profile's results, ``compare`` sets labs
side by side. Both work without torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.context import PairInfo


def register(commands: Any) -> None:
    """Add both commands to the parser's sub-commands."""
    text = "pack a profile's results into one lab file, to be compared with other labs"
    export = commands.add_parser("export-lab", help=text, description=text)
    export.add_argument("name", help="short name of the lab: lower-case letters, digits, hyphens")
    export.add_argument("--profile", default=None, help="default: the root params.yaml")
    export.add_argument(
        "--to", type=Path, metavar="FILE", help="default: results/labs/NAME/PROFILE.json"
    )
    export.add_argument("--description", default="", metavar="TEXT", help="a line on the set-up")
    export.set_defaults(command=export_lab)
    text = "compare lab files: what they say together, and whether they agree with the first"
    compare = commands.add_parser("compare", help=text, description=text)
    compare.add_argument("files", nargs="+", type=Path, metavar="FILE", help="lab files")
    compare.add_argument("--to", type=Path, metavar="FOLDER", help="write tables and forest plot")
    compare.set_defaults(command=compare_labs)


def export_lab(options: argparse.Namespace) -> int:
    """Write the lab file of a profile that was run."""
    from bench.labs.reading import LABS, parse
    from bench.labs.schema import render
    from pipelines.config.study import named
    from pipelines.packing import content
    from safs.files import write_text

    study = named(options.profile)
    target = options.to or LABS / options.name / f"{study.profile.profile}.json"
    text = render(content(study, options.name, options.description))
    file = parse(text, str(target))
    write_text(target, text)
    print(f"{target}: {len(file.runs)} runs, digest {file.digest}")
    return 0


def compare_labs(options: argparse.Namespace) -> int:
    """Print what several labs say together; write tables and plot if asked."""
    from bench.labs.reading import by_name
    from bench.labs.view import view

    labs = by_name(options.files)
    shown = view(labs, known({pair for lab in labs.values() for pair in lab.pairs}))
    for table in shown.tables:
        print(table.plain())
    if options.to is not None:
        for path in shown.write(options.to).values():
            print(path)
    return 0


def known(pairs: set[str]) -> dict[str, PairInfo]:
    """What this checkout says of the pairs that it has itself."""
    from pipelines.config.pair import PAIRS, load_pair

    return {pair: load_pair(pair).about for pair in pairs if (PAIRS / f"{pair}.yaml").is_file()}
