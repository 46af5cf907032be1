"""What the runs of a lab file say more than once: it must be the same each time."""

from __future__ import annotations

from collections.abc import Iterator

from bench.labs.schema import Contents, Run
from bench.records.checks import Problem
from bench.records.record import Record
from safs.arms import ARMS
from safs.errors import shown

Fact = tuple[str, tuple[object, ...], object]
"""Key path in a run, the group of runs in which it is the same, its value."""


def problems(file: Contents) -> Iterator[Problem]:
    """Where runs contradict earlier ones, as (key path, what stands there, expected)."""
    yield from _repeated_problems(file)
    yield from _fold_problems(file)


def _repeated_problems(file: Contents) -> Iterator[Problem]:
    """What several runs say must be the same in each of them."""
    known: dict[tuple[object, ...], object] = {}
    for place, run in enumerate(file.runs):
        for where, group, value in (*_facts_of_pair(run.record), *_facts_of_search(run)):
            same = known.setdefault((where, *group), value)
            if value != same:
                at = ("runs", str(place), *where.split("."))
                yield at, value, f"{shown(same)}, as in other runs of {'/'.join(map(str, group))}"


def _facts_of_pair(record: Record) -> Iterator[Fact]:
    arm, pair = ARMS[record.arm], (record.pair,)
    yield "record.network", pair, record.network
    yield "record.dataset", pair, record.dataset
    yield "record.fold", (record.dataset, f"replicate {record.replicate}"), record.fold
    yield "record.classes", (record.dataset,), record.classes
    yield "record.finals", (*pair, record.arm), len(record.finals)
    if record.finals[0].reason is None:
        yield "record.slots", pair, [slot.name for slot in record.slots]
    if recipe := record.recipe:
        for name in ("batch_size", "betas", "tadam"):
            yield f"record.recipe.{name}", pair, getattr(recipe, name)
        if recipe.restart_epochs is not None:
            yield "record.recipe.restart_epochs", pair, recipe.restart_epochs
        if not arm.tuned:
            yield "record.recipe", (*pair, "the dense recipe"), recipe
    if counts := record.parameters:
        totals = {name: layer.total for name, layer in counts.layers.items()}
        yield "record.parameters.layers", pair, totals
        yield "record.parameters.total", pair, counts.total - counts.activation
        if not arm.searched and arm.operators != "random":
            yield "record.parameters.activation", (*pair, record.arm), counts.activation
    if macs := record.macs:
        yield "record.macs.dense", pair, macs.dense
    if chain := record.chain:
        dense = chain.finals[0] if record.arm == "dense" else chain.dense
        yield "record.chain.dense", (*pair, f"replicate {record.replicate}"), dense
        yield "record.chain.data", (record.dataset, f"replicate {record.replicate}"), chain.data
    if reach := record.connectivity:
        yield "record.connectivity.classes", pair, reach.classes
        connected = f"{len(reach.connected)} connected classes"
        yield "record.connectivity.cap", (record.dataset, connected), reach.cap


def _facts_of_search(run: Run) -> Iterator[Fact]:
    """Arms that take the same operators have them from the same search, or from no search."""
    record, arm = run.record, ARMS[run.record.arm]
    group: tuple[object, ...] = (record.pair, arm.operator or f"{arm.operators} operators")
    if arm.searched:
        group = (record.pair, record.ratio, record.replicate, group[-1])
        yield "record.trials.search", group, record.trials.search
        yield "record.epochs.search", group, record.epochs.search
        yield "failed.search", group, run.failed.search
        if record.chain:
            yield "record.chain.candidates", group, record.chain.candidates
    if record.finals[0].reason is None and arm.operators != "random":
        yield "record.slots", group, [slot.operator for slot in record.slots]


def _fold_problems(file: Contents) -> Iterator[Problem]:
    """Replicate r validates on fold r mod k, with one k for a data set."""
    folds: dict[str, dict[int, int]] = {}
    for record in file.records:
        folds.setdefault(record.dataset, {})[record.replicate] = record.fold
    for dataset, known in folds.items():
        if not any(all(f == r % k for r, f in known.items()) for k in range(1, max(known) + 2)):
            yield ("runs",), known, f"replicate modulo a number of folds, for data set {dataset}"
