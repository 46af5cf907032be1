"""A plan as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from pipelines.config import Study
from pipelines.engine import compute, tasks
from pipelines.plan import steps


def measure(study: Study) -> dict[str, float]:
    """Seconds of one masked training epoch of each pair, measured here now."""
    with compute.Pool(lambda identity, epoch: None) as pool:
        return {
            name: pool.run(
                tasks.epoch_seconds,
                pair.network,
                pair.dataset.name,
                pair.recipe,
                study.profile.ratios(name)[-1],
            )
            for name, pair in study.pairs.items()
        }


def view(study: Study, seconds: dict[str, float], workers: int) -> Table:
    """Stages with trainings, epochs and, where ``seconds`` per epoch are known, hours.

    Args:
        seconds: measured seconds of one epoch by pair; empty if nothing was measured.
        workers: trainings that run side by side.
    """
    profile = study.profile
    table = Table(
        title=f"{profile.profile}: {profile.title}",
        caption=_caption(study, seconds, workers),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("pair")
    table.add_column("stage")
    for column in ("trainings", "epochs", "hours"):
        table.add_column(column, justify="right")
    total = 0.0
    for step in steps(study):
        hours = step.epochs * seconds.get(step.pair, float("nan")) / 3600 / workers
        total += hours
        table.add_row(
            step.pair, step.stage, f"{step.trainings:,}", f"{step.epochs:,}", _hours(hours)
        )
    table.add_section()
    every = steps(study)
    trainings, epochs = sum(s.trainings for s in every), sum(s.epochs for s in every)
    table.add_row("all", "", f"{trainings:,}", f"{epochs:,}", _hours(total))
    return table


def _hours(hours: float) -> str:
    return "-" if hours != hours else f"{hours:,.2f}"


def _caption(study: Study, seconds: dict[str, float], workers: int) -> str:
    replicates = f"{study.profile.replicates} replicates"
    if not seconds:
        return f"{replicates}. Hours were not measured."
    per_epoch = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    return (
        f"{replicates}, {workers} workers. Hours follow from one measured epoch with the default "
        f"operator ({per_epoch}); searching, SMAC and start-up come on top."
    )
