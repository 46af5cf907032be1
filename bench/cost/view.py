"""Cost entries as tables for the terminal and as a trend plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.columns import RATIO, figure, words
from bench.cost.history import Entry, shared, worsened
from bench.cost.steps import MEBIBYTE, Step, by_key
from bench.figures import style
from bench.render import ABSENT, Column, Facts, Table, number
from safs.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def steps_table(steps: Sequence[Step]) -> Table:
    """Every timed phase and the hours that its protocol's epochs take at that speed."""
    rows = [
        dict(zip(("pair", "phase", "ratio", "backend"), step.key, strict=True))
        | {"seconds": step.seconds, "low": step.quartiles[0], "high": step.quartiles[1]}
        | {"samples_per_second": step.samples_per_second, "epochs": step.protocol_epochs}
        | {"hours": step.hours, "peak_memory": step.peak_memory, "joules": step.joules}
        for step in steps
    ]
    caption = (
        "Median and quartiles of the seconds of one epoch on one worker; epochs and hours are "
        "those of one replicate at one ratio. Peak memory on a CPU is that of the whole process."
    )
    columns = (
        words("Pair", "pair"), words("Phase", "phase"), RATIO, words("Backend", "backend"),
        Column("s/epoch", lambda row: f"{row['seconds']:.3g}"),
        Column("Quartiles", lambda row: f"{row['low']:.3g} to {row['high']:.3g}"),
        figure("Images/s", "samples_per_second", 0), words("Epochs", "epochs"),
        Column("Hours", lambda row: f"{row['hours']:.3g}"), Column("Peak MiB", _memory),
        Column("Wh/epoch", _energy),
    )  # fmt: skip
    return Table.of("steps", "Timed epochs", caption, rows, columns)


def _memory(row: Facts) -> str:
    peak = row["peak_memory"]
    return ABSENT if peak is None else number(peak / MEBIBYTE, 0)


def _energy(row: Facts) -> str:
    return "not measured" if row["joules"] is None else number(row["joules"] / 3600, 3)


def diff_table(before: Entry, after: Entry) -> Table:
    """Ratios and seconds of two entries; only ratios compare across machines and loads."""
    worse = {new.name for _, new in worsened(before, after)}
    rows = [
        {"what": new.name, "before": old.value, "after": new.value, "worse": new.name in worse}
        for old, new in shared(before, after)
    ]
    same = before.machine.digest == after.machine.digest
    first, second = by_key(list(before.steps)), by_key(list(after.steps))
    rows += [
        {"what": "s/epoch " + " ".join(f"{part}" for part in key)}
        | {"before": first[key].seconds, "after": second[key].seconds, "worse": False}
        for key in second
        if same and key in first
    ]
    columns = (
        words("What", "what"), Column("Before", lambda row: f"{row['before']:.4g}"),
        Column("After", lambda row: f"{row['after']:.4g}"),
        Column("After / before", lambda row: f"{row['after'] / row['before']:.3f}"),
        Column("", lambda row: "worse" if row["worse"] else ""),
    )  # fmt: skip
    moved = "Seconds move with the load of the machine."
    differ = "The machines differ, so seconds are not shown."
    caption = (
        f"{before.name} against {after.name}. A ratio is worse if it grew by more than the "
        f"noise of both entries. {moved if same else differ}"
    )
    return Table.of("diff", "Cost before and after", caption, rows, columns)


def trend(entries: Sequence[Entry], path: Path) -> Path:
    """Every ratio over the entries, oldest first, with its noise, as SVG."""
    import matplotlib as mpl

    title = "Cost ratios over time"
    words = "Each point is a ratio within one run of the benchmarks; bars are its noise."
    with mpl.rc_context(style.RC):
        return write_text(path, style.svg(_drawn(entries), "cost-trend", title, words))


def _drawn(entries: Sequence[Entry]) -> Figure:
    from matplotlib.figure import Figure

    names = sorted({ratio.name for entry in entries for ratio in entry.ratios})
    kinds = sorted({name.split()[0] for name in names})
    figure = Figure(figsize=(7, 2.8 * max(1, len(kinds))), layout="constrained")
    axes = figure.subplots(len(kinds) or 1, 1, squeeze=False)[:, 0]
    for ax, kind in zip(axes, kinds, strict=False):
        for name in (n for n in names if n.split()[0] == kind):
            found = [(i, r) for i, e in enumerate(entries) for r in e.ratios if r.name == name]
            at, values = [i for i, _ in found], [r.value for _, r in found]
            noise = [[r.value - r.low for _, r in found], [r.high - r.value for _, r in found]]
            label = name.removeprefix(kind).strip()
            ax.errorbar(at, values, yerr=noise, marker="o", capsize=2, label=label)
        ax.set_yscale("log")
        ax.set_ylabel(kind)
        ax.set_xticks(range(len(entries)), [entry.commit[:7] for entry in entries], rotation=30)
        ax.legend(fontsize="x-small", ncols=2)
    return figure
