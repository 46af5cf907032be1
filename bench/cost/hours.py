"""Hours: those that the records measured beside those that follow from timed epochs."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import paper
from bench.columns import ARM, RATIO, figure, pair_by, share_off
from bench.context import Context
from bench.contrasts import MAIN_RATIO
from bench.cost.steps import Step, by_key, preferred
from bench.records.collection import Collection
from bench.render import ABSENT, Column, Table, number, significant
from bench.tables.shared import PURPOSES, cells, clocks, mean, time_factor

SHOWN_ARMS = ("vanilla", "srelu", "safs")
TIMED = ("vanilla", "safs")
"""Arms whose final epochs are those that are timed; SReLU's have parameters per channel."""
A4000_WATTS = 140.0
"""Board power of the RTX A4000, on which the paper's hours and its CO2 were counted."""


def table(
    collection: Collection, context: Context, steps: list[Step], watts: float | None = None
) -> Table:
    """Table 3: hours per replicate of vanilla, SReLU and SAFS, and what they come to.

    Args:
        collection: the records of a profile.
        context: the profile.
        steps: timed epochs; without any, nothing is extrapolated.
        watts: power of the device, for a modelled energy where none was measured.
    """
    shown = cells(collection, context, [a for a in SHOWN_ARMS if a in context.arms])
    rows = [_row(collection, context, steps, watts, cell) for cell in shown]
    columns = (
        pair_by(context.label), RATIO, ARM, figure("Epochs", "epochs", 0),
        Column("Hours measured", lambda row: significant(row["hours"])),
        Column("Hours extrapolated", lambda row: significant(row["hours_extrapolated"])),
        share_off("Error", "error"), figure("SAFS / vanilla", "factor", 1),
        Column("kWh", lambda row: number(row["kwh"], 5).replace(ABSENT, "not measured")),
        figure("kg CO2", "co2", 5), figure("Paper hours", "paper_hours"),
        figure("Paper SAFS / vanilla", "paper_factor", 1), figure("Paper kg CO2", "paper_co2"),
    )  # fmt: skip
    caption = (
        "Mean per replicate, without dense training and pruning. Measured: "
        f"{clocks(collection)} of the runs' own trainings. Extrapolated: their epochs times "
        "the median seconds of a timed epoch of "
        f"the phase. Energy: {_energy_words(rows, watts)} CO2 of the paper: its 1.45 kg a day; "
        f"ours: energy at the intensity that follows from it for a board of {A4000_WATTS:.0f} W "
        f"({intensity():.2f} kg/kWh), so modelled wherever it is printed."
    )
    return Table.of("hours", "What it costs (the paper's Table 3)", caption, rows, columns)


def co2_per_day() -> float:
    """The paper's kg of CO2 a day."""
    return float(paper.facts()["settings"]["hardware"]["co2_kg_per_day"])


def intensity() -> float:
    """kg CO2 per kWh that the paper's 1.45 kg a day imply on its device."""
    return co2_per_day() / (24 * A4000_WATTS / 1000)


def extrapolated(
    steps: list[Step], pair: str, ratio: float, epochs: dict[str, float]
) -> tuple[float, float | None]:
    """Seconds and joules of epochs by phase (final, search, tune).

    NaN and None where epochs are unknown, or none of their phase was timed.
    """
    known = by_key(steps)
    seconds, joules = 0.0, 0.0
    measured = True
    for phase, count in epochs.items():
        if not count:
            continue
        step = preferred(known, pair, phase, ratio)
        if step is None or np.isnan(count):
            return np.nan, None
        seconds += count * step.seconds
        measured = measured and step.joules is not None
        joules += count * (step.joules or 0.0)
    return seconds, joules if measured else None


def _row(
    collection: Collection,
    context: Context,
    steps: list[Step],
    watts: float | None,
    cell: tuple[str, float, str],
) -> dict[str, Any]:
    pair, ratio, arm = cell
    epochs = {phase: mean(collection, *cell, f"epochs_{phase}") for phase in PURPOSES}
    seconds, joules = extrapolated(steps, pair, ratio, epochs)
    if arm not in TIMED:
        seconds, joules = np.nan, None
    measured = mean(collection, *cell, "seconds")
    printed = paper.hours(context.pairs[pair].published) if ratio == MAIN_RATIO else {}
    kwh, source = _energy(joules, measured, watts)
    hours = printed.get(arm, np.nan)
    return {
        "pair": pair,
        "ratio": ratio,
        "arm": arm,
        "epochs": mean(collection, *cell, "epochs"),
        "hours": measured / 3600,
        "hours_extrapolated": seconds / 3600,
        "error": seconds / measured - 1 if measured > 0 else np.nan,
        "factor": time_factor(collection, *cell) if arm == "safs" else np.nan,
        "kwh": kwh,
        "energy": source,
        "co2": kwh * intensity(),
        "paper_hours": hours,
        "paper_factor": printed["safs"] / printed["vanilla"] if arm == "safs" and printed
        else np.nan,
        "paper_co2": hours / 24 * co2_per_day(),
    }  # fmt: skip


def _energy(joules: float | None, seconds: float, watts: float | None) -> tuple[float, str]:
    """kWh of a replicate, and whether they were measured, modelled or not measured."""
    if joules is not None and joules > 0:
        return joules / 3.6e6, "measured"
    if watts is not None and np.isfinite(seconds):
        return watts * seconds / 3.6e6, "modelled"
    return np.nan, "not measured"


def _energy_words(rows: list[dict[str, Any]], watts: float | None) -> str:
    sources = sorted({row["energy"] for row in rows})
    words = ", ".join(sources) or "not measured"
    return f"{words} ({watts:g} W given)." if "modelled" in sources else f"{words}."
