"""``safs-bench cost``: Table 3 from records and timed epochs, their history, and a gate on it."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pipelines.cli.common import FILE, json_option, study_of, tell_tables
from safs.errors import SafsError

if TYPE_CHECKING:
    from bench.cost.history import Entry
    from bench.cost.steps import Step
    from bench.render import Table
    from pipelines.config.study import Study

STEPS = Path("scratch/bench.json")
"""Where ``make bench`` leaves its measurements."""
MAX_WATTS = 1e6
"""Of a device."""
USAGE = "cost [PROFILE], cost diff A B, cost gate A B or cost trend"
USED = {"diff": ("--json",), "gate": (), "trend": ()}
"""The options that mean something beside these words; with a profile all of them do."""


def _power(_: click.Context, __: click.Parameter, watts: float | None) -> float | None:
    if watts is not None and not 0 < watts <= MAX_WATTS:
        raise SafsError(f"--watts: got {watts:g}; expected above 0, at most {MAX_WATTS:g}")
    return watts


@click.command()
@click.argument("words", nargs=-1, metavar="[PROFILE | diff A B | gate A B | trend]")
@click.option("--from", "source", type=FILE, default=STEPS, metavar="FILE", help="From make bench.")
@click.option(
    "--watts", type=float, callback=_power, metavar="W", help="Device's power, to model its energy."
)
@click.option("--save", is_flag=True, help="Add the measurements to results/cost.")
@json_option
@click.pass_context
def cost(
    context: click.Context,
    words: tuple[str, ...],
    source: Path,
    watts: float | None,
    save: bool,
    as_json: bool,
) -> int:
    """Say what a profile costs beside the paper's Table 3.

    `diff` and `gate` compare two entries of the history in results/cost; `gate` ends with 1 if a
    ratio got worse beyond noise. `trend` draws the history.
    """
    kind, *names = words or (None,)
    _no_others(context, kind)
    if kind in ("diff", "gate"):
        return _two(kind, names, as_json)
    if kind == "trend" and not names:
        return _trend()
    if names:
        raise SafsError(f"cost: {' '.join(words)!r}; expected {USAGE}")
    study = study_of(kind)
    steps = _steps(source)
    tell_tables(_hours(study, steps, watts), as_json)
    if save:
        click.echo(_save(steps), err=as_json)
    return 0


def _no_others(context: click.Context, kind: str | None) -> None:
    """Refuse options that would do nothing. Raises SafsError."""
    if kind not in USED:
        return
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and option.opts[0] not in (*USED[kind], "words"):
            raise SafsError(f"cost {kind}: {option.opts[0]} does nothing here; expected {USAGE}")


def _steps(source: Path) -> list[Step]:
    """The timed epochs; none where nobody timed any."""
    from bench.cost.steps import read

    if source.exists() or source != STEPS:
        return read(source)
    click.echo(
        f"no timed epochs in {STEPS} (make bench makes them): nothing is extrapolated", err=True
    )
    return []


def _hours(study: Study, steps: list[Step], watts: float | None) -> list[Table]:
    from bench.cost import arithmetic, hours, view
    from pipelines.results.publishing import context, shown

    tables = [hours.table(shown(study)[0], context(study), steps, watts), arithmetic.table()]
    return [view.steps_table(steps), *tables] if steps else tables


def _save(steps: list[Step]) -> Path:
    if not steps:
        raise SafsError("cost --save: there are no timed epochs; run make bench first")
    return entry(steps).write()


def entry(steps: list[Step]) -> Entry:
    """The measurements as an entry of the history."""
    from bench.cost.history import Entry, Machine, ratios
    from pipelines.storage.environment import describe
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


def _two(kind: str, names: list[str], as_json: bool) -> int:
    from bench.cost.history import read
    from bench.cost.view import diff_table

    if len(names) != 2:
        raise SafsError(f"cost {kind}: {len(names)} files; expected two entries of results/cost")
    before, after = (read(Path(name)) for name in names)
    if kind == "diff":
        tell_tables([diff_table(before, after)], as_json)
        return 0
    return _gate(before, after)


def _gate(before: Entry, after: Entry) -> int:
    from bench.cost.history import shared, worsened

    both, worse = shared(before, after), worsened(before, after)
    if not both:
        raise SafsError(f"cost gate: {before.name} and {after.name} have no ratio in common")
    for old, new in worse:
        click.echo(f"{new.name}: {old.value:.4g} -> {new.value:.4g}, beyond {old.high:.4g}")
    alone = {r.name for r in before.ratios} ^ {r.name for r in after.ratios}
    left = f" ({len(alone)} not compared: only one of the two has them)" if alone else ""
    click.echo(f"{len(worse)} of {len(both)} ratios worse than {before.name} beyond noise{left}")
    return 1 if worse else 0


def _trend() -> int:
    from bench.cost.history import FOLDER, read_all
    from bench.cost.view import trend

    entries = read_all()
    if not entries:
        raise SafsError(f"{FOLDER}: no entries; safs-bench cost --save writes one")
    click.echo(trend(entries, FOLDER / "trend.svg"))
    return 0
