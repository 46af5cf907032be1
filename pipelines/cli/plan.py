"""A plan as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from bench.labs.cards import CardFile
from bench.labs.reading import CARDS, read_card
from bench.paper import hours as published_hours
from bench.render import ratio_text
from bench.words import counted
from pipelines import compute
from pipelines.config.study import Study
from pipelines.dvc.plan import steps, training_images
from pipelines.dvc.timing import Connected, EpochSeconds, step_hours
from pipelines.engine.spending import run_epochs


def view(study: Study, seconds: EpochSeconds, workers: int) -> Table:
    """Stages with trainings, epochs and, where ``seconds`` were measured, hours of ``workers``."""
    title = Text(f"{study.profile.profile}: {study.profile.title}")
    numbers = ("trainings", "epochs", "hours")
    table = _table(title, _caption(study, seconds, workers), ("pair", "stage"), numbers)
    every = rows(study, seconds, workers)
    total = {name: sum(row[name] for row in every) for name in numbers}
    for row in (*every, {"pair": "all", "stage": "", **total}):
        words = row["pair"], row["stage"], f"{row['trainings']:,}", f"{row['epochs']:,}"
        table.add_row(*words, _hours(row["hours"]), end_section=row is every[-1])
    return table


def _table(title: str | Text, caption: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    """A table without rows yet, with columns of words, then of numbers."""
    columns = [*map(Column, words), *(Column(name, justify="right") for name in numbers)]
    return Table(
        *columns, title=title, caption=caption, title_justify="left", caption_justify="left"
    )


def rows(study: Study, seconds: EpochSeconds, workers: int) -> list[dict[str, Any]]:
    """The numbers of :func:`view`; hours are NaN where no epoch was measured."""
    return [
        asdict(step) | {"hours": step_hours(study, step, seconds, workers)} for step in steps(study)
    ]


def beside_table3(study: Study, seconds: EpochSeconds) -> Table:
    """Hours of one replicate of SAFS and of vanilla at each ratio, beside the paper's Table 3."""
    table = _table(
        "One replicate beside the paper's Table 3",
        "Hours of one worker on this machine at the measured seconds of an epoch; the paper's "
        "are GPU hours of an RTX A4000, SAFS with three folds and vanilla with one, and its "
        "tables do not agree on which stages that covers. Both exclude dense training.",
        ("pair", "ratio"),
        ("SAFS / vanilla", "the paper's"),
    )
    for name, pair in study.pairs.items():
        epochs = {arm: run_epochs(pair, arm) for arm in ("safs", "vanilla")}
        printed = published_hours(pair.about.published)
        for ratio in study.profile.ratios(name):
            here = {arm: n * seconds[name, ratio] / 3600 for arm, n in epochs.items()}
            table.add_row(name, ratio_text(ratio), _two_hours(here), _two_hours(printed))
    return table


def warnings(connected: Connected) -> list[str]:
    """A line for each cell whose masks cut classes off from the input.

    With c of C classes connected the c + 1 most frequent ones can be right at most; the data sets
    have about as many images of every class.
    """
    return [
        f"{name} {ratio_text(ratio)}: {reached:,} of {classes:,} classes are connected to the "
        "input where an untrained network is pruned; with as many after training "
        f"{_ends(reached, classes)}"
        for (name, ratio), (reached, classes) in connected.items()
        if reached < classes
    ]


def _ends(reached: int, classes: int) -> str:
    most = f"{100 * min(1, (reached + 1) / classes):.3g} %"
    return f"accuracy is at most about {most}" if reached else f"every arm is at chance, {most}"


def on_cards(study: Study, folder: Path = CARDS) -> list[str]:
    """A line for each GPU of which a file says how fast it trains; or that there is none."""
    files = [read_card(path) for path in sorted(folder.glob("*.json"))]
    if not files:
        return [f"GPU hours: none has been measured ({folder}); `make check-gpu` measures them"]
    return [_card_hours(study, file) for file in files]


def _card_hours(study: Study, file: CardFile) -> str:
    """Every stage at the plain arithmetic of the file, one training at a time on one GPU."""
    each = {s.pair: s.seconds / s.images for s in file.speeds if s.option == "plain" and s.seconds}
    hours: dict[str, float] = {}
    for step in steps(study):
        pair = study.pairs[step.pair]
        if (second := each.get(step.pair)) is not None:
            count = training_images(pair.dataset.name, compute.data_directory())
            spent = step.epochs * count * second / 3600
            hours[step.pair] = hours.get(step.pair, 0.0) + spent
    told = [f"{name} {value:,.1f}" for name, value in hours.items()]
    missing = [f"{name} not measured" for name in study.pairs if name not in hours]
    return f"GPU hours on {file.card.name}: {', '.join([*told, *missing])}"


def _two_hours(hours: Mapping[str, float]) -> str:
    """SAFS, vanilla and their factor; "-" where the paper prints none."""
    if not hours:
        return "-"
    safs, vanilla = hours["safs"], hours["vanilla"]
    return f"{safs:,.3g} / {vanilla:,.3g} ({safs / vanilla:.0f}x)"


def _hours(hours: float) -> str:
    return "-" if hours != hours else f"{hours:,.2f}"


def _caption(study: Study, seconds: EpochSeconds, workers: int) -> str:
    replicates = counted(study.profile.replicates, "replicate")
    if not seconds:
        return f"{replicates}. Neither hours nor connected classes were measured."
    lines = [f"{replicates}, {counted(workers, 'worker')}. Seconds of an epoch, measured now:"]
    for name in study.pairs:
        own = {ratio: value for (pair, ratio), value in seconds.items() if pair == name}
        each = [f"{ratio_text(r or 0)} {v:.3f}" for r, v in own.items()]
        lines.append(f"{name}: {', '.join(each)}")
    lines.append("Other operators than the default, SMAC and start-up come on top.")
    return "\n".join(lines)
