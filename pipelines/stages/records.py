"""The records in the open: a file for each replicate, from which all that follows is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.landscape.card import card
from bench.landscape.table import times_of
from pipelines.config.study import Study
from pipelines.engine import recorded
from pipelines.results import archiving, landscapes, promises, racing
from pipelines.storage import layout
from safs.files import write_text


def run(study: Study) -> None:
    """Write ``results/<profile>/records``, those of readings too; what is not asked for goes.

    A replicate of which ``runs/`` has not all keeps its published file, if today's inputs give it.
    """
    written: set[Path] = set()
    for each in study.every:
        for pair in each.profile.pairs:
            evaluated = layout.folder(each.profile.profile, "evaluate", pair)
            known = recorded.replicates(each, pair, evaluated)
            for replicate in range(each.profile.replicates):
                path = archiving.path(each, pair, replicate)
                found = None if replicate in known else archiving.pack(each, pair, replicate)
                whole = found is not None and found.identity is not None
                # Of no use, and perhaps damaged, where it is about to be replaced.
                stands = not whole and recorded.stands(each, pair, replicate)
                if stands:
                    written.add(path)
                elif found is not None:
                    written.add(found.write(path))
            written.update(_landscapes(each, pair))
    for path in archiving.folder(study).rglob("*"):
        if path.is_file() and path not in written:
            path.unlink()


def _landscapes(study: Study, pair: str) -> Iterator[Path]:
    """Write the tables of a pair's landscapes; their files."""
    for ratio in study.profile.ratios(pair):
        wanted = study.profile.landscape(pair, ratio)
        if wanted and (table := landscapes.pack(study, pair, ratio)) is not None:
            path = table.write(landscapes.path(study, pair, ratio))
            yield from (path, times_of(path), write_text(path.with_suffix(".md"), card(table)))
            yield from promises.keep(study, pair, ratio, table)
            yield from racing.keep(study, pair, ratio, table)
