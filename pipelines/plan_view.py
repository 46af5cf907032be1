"""A plan as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from pipelines.config import Study
from pipelines.engine import compute, tasks
from pipelines.plan import Step, steps

Seconds = dict[tuple[str, float | None], float]
"""Seconds of one epoch by pair and pruning ratio; ratio None is dense training."""


def measure(study: Study) -> Seconds:
    """One training epoch of each pair, dense and at each ratio, measured here now."""
    with compute.Pool(lambda identity, epoch: None) as pool:
        return {
            (name, ratio): pool.run(
                tasks.epoch_seconds,
                pair.network,
                pair.dataset.name,
                pair.recipe,
                ratio,
                "dense" if ratio is None else study.profile.backend,
            )
            for name, pair in study.pairs.items()
            for ratio in (None, *study.profile.ratios(name))
        }


def view(study: Study, seconds: Seconds, workers: int) -> Table:
    """Stages with trainings, epochs and, where ``seconds`` were measured, hours.

    Args:
        seconds: measured seconds of one epoch; empty if nothing was measured.
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
    every = [(step, _step_hours(study, step, seconds, workers)) for step in steps(study)]
    for step, hours in every:
        table.add_row(
            step.pair, step.stage, f"{step.trainings:,}", f"{step.epochs:,}", _hours(hours)
        )
    table.add_section()
    trainings, epochs = sum(s.trainings for s, _ in every), sum(s.epochs for s, _ in every)
    total = sum(hours for _, hours in every)
    table.add_row("all", "", f"{trainings:,}", f"{epochs:,}", _hours(total))
    return table


def _step_hours(study: Study, step: Step, seconds: Seconds, workers: int) -> float:
    """Hours of a stage: its epochs spread evenly over the pair's ratios."""
    ratios = [None] if step.stage == "pretrain" else study.profile.ratios(step.pair)
    each = [seconds.get((step.pair, ratio), float("nan")) for ratio in ratios]
    return step.epochs * sum(each) / len(each) / 3600 / workers


def _hours(hours: float) -> str:
    return "-" if hours != hours else f"{hours:,.2f}"


def _caption(study: Study, seconds: Seconds, workers: int) -> str:
    replicates = f"{study.profile.replicates} replicates"
    if not seconds:
        return f"{replicates}. Hours were not measured."
    lines = [f"{replicates}, {workers} workers. Seconds of an epoch, measured now:"]
    for name in study.pairs:
        own = {ratio: value for (pair, ratio), value in seconds.items() if pair == name}
        each = [f"{'dense' if r is None else f'{r:.2f}'} {v:.3f}" for r, v in own.items()]
        lines.append(f"{name}: {', '.join(each)}")
    lines.append("Other operators than the default, SMAC and start-up come on top.")
    return "\n".join(lines)
