"""``safs-bench cost``: Table 3 from records and timed epochs, their history, and a gate on it."""

from __future__ import annotations

import argparse
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safs.errors import SafsError

if TYPE_CHECKING:
    from bench.cost.history import Entry
    from bench.cost.steps import Step
    from bench.render import Table

STEPS = Path("scratch/bench.json")
"""Where ``make bench`` leaves its measurements."""
USAGE = "cost [PROFILE], cost diff A B, cost gate A B, cost trend"


def register(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    text = "what a profile costs beside the paper's Table 3; history of timed epochs"
    cost = commands.add_parser("cost", help=text, description=text, usage=f"safs-bench {USAGE}")
    cost.add_argument("words", nargs="*", metavar="WORD", help=USAGE)
    cost.add_argument("--json", type=Path, default=STEPS, metavar="FILE", help="from make bench")
    cost.add_argument("--watts", type=float, help="power of the device, to model its energy")
    cost.add_argument("--save", action="store_true", help="add the measurements to results/cost")
    cost.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Print tables; 1 if the gate found a ratio that got worse."""
    kind, *names = options.words or [None]
    if kind in ("diff", "gate"):
        return _two(kind, names)
    if kind == "trend":
        return _trend()
    if names:
        raise SafsError(f"cost: {' '.join(options.words)!r}; expected {USAGE}")
    return _hours(kind, options)


def _hours(profile: str | None, options: argparse.Namespace) -> int:
    from bench.cost import arithmetic, hours, view
    from bench.cost.steps import read
    from pipelines.config.study import named
    from pipelines.publishing import collection, context

    study = named(profile)
    steps = read(options.json) if options.json.exists() or options.json != STEPS else []
    about = context(study)
    tables = [hours.table(collection(study), about, steps, options.watts), arithmetic.table()]
    if steps:
        tables.insert(0, view.steps_table(steps))
    else:
        print(f"no timed epochs in {STEPS} (make bench makes them): nothing is extrapolated\n")
    _print(tables)
    if options.save:
        if not steps:
            raise SafsError("cost --save: there are no timed epochs; run make bench first")
        print(entry(steps).write())
    return 0


def entry(steps: list[Step]) -> Entry:
    """The measurements as an entry of the history."""
    from bench.cost.history import Entry, Machine, ratios
    from pipelines.engine.environment import describe
    from safs.processor import cpu_name

    machine = Machine(
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        platform=platform.platform(aliased=True, terse=True),
        device=steps[0].device,
        load=round(os.getloadavg()[0], 2),
    )
    return Entry(
        commit=describe()["git"] or "unknown",
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        steps=tuple(steps),
        ratios=ratios(steps),
    )


def _two(kind: str, names: list[str]) -> int:
    from bench.cost.history import read, worsened
    from bench.cost.view import diff_table

    if len(names) != 2:
        raise SafsError(f"cost {kind}: {len(names)} files; expected two entries of results/cost")
    before, after = (read(Path(name)) for name in names)
    if kind == "diff":
        _print([diff_table(before, after)])
        return 0
    worse = worsened(before, after)
    for old, new in worse:
        print(f"{new.name}: {old.value:.4g} -> {new.value:.4g}, beyond {old.high:.4g}")
    print(f"{len(worse)} of {len(after.ratios)} ratios worse than {before.name} beyond noise")
    return 1 if worse else 0


def _trend() -> int:
    from bench.cost.history import FOLDER, read_all
    from bench.cost.view import trend

    entries = read_all()
    if not entries:
        raise SafsError(f"{FOLDER}: no entries; safs-bench cost --save writes one")
    print(trend(entries, FOLDER / "trend.svg"))
    return 0


def _print(tables: list[Table]) -> None:
    for table in tables:
        print(table.plain())
