"""What is said of a landscape: its shape, what ranks it, what carries over, who wins on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from bench.columns import RATIO, count, figure, pair_by, words
from bench.context import Context
from bench.landscape import analysis, promises
from bench.landscape.promises import DRAWS, NEIGHBOURS, Promised
from bench.landscape.race import Raced
from bench.landscape.regret import compared
from bench.landscape.table import Landscape
from bench.records.traces import ALGORITHMS
from bench.render import Column, Table, interval_text, number
from safs.operators import label

MEASURES = {
    "loss_test": "Training loss and test accuracy",
    "loss_validation": "Training loss and validation accuracy",
    "validation_test": "Validation and test accuracy",
    "noise": "Training loss under two batch orders",
}
FEATURES = {
    "operators": "Operators' names",
    "fisher": "Fisher spectrum",
    "outputs": "Operators' outputs",
    "fisher_outputs": "Fisher spectrum and outputs",
}
"""What a regression goes by; a predictor has its registered name."""
REPLICATE = words("Mask", "replicate")
SEARCHES = {**ALGORITHMS, "halving": "Halving", "singles": "Single operators"}
"""Labels of what is raced; another search has its registered name."""


def percent(heading: str, key: str, digits: int = 1) -> Column:
    """A fraction in percent."""
    return Column(heading, lambda row: number(100 * row[key], digits))


class Kind(NamedTuple):
    """A table of landscapes: its words, and the columns after those that say which landscape."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]

    def of(self, rows: Sequence[dict[str, Any]], context: Context) -> Table:
        """The table of these rows."""
        columns = (pair_by(context.label), RATIO, *self.columns)
        return Table.of(self.name, self.title, self.caption, rows, columns)


SHAPE = Kind(
    "landscape",
    "The landscape of stage 1",
    "Every chromosome of the operators that are trained, once each (Acon is Swish), by the "
    "training of stage 1. Failed trainings count as the worst. Those whose loss is within .01 "
    "of guessing did not learn. Test accuracies are of one training each; the highest of so "
    "many is in part luck, so no search can be asked for it.",
    (
        REPLICATE, words("Chromosomes", "chromosomes"), words("Failed", "failed"),
        words("Did not learn", "stuck"),
        Column("Best chromosome", lambda row: labels(row["best"])),
        figure("Lowest loss", "lowest", 3), figure("Best 1 %", "q1", 3),
        figure("Best 10 %", "q10", 3), figure("Median", "q50", 3),
        percent("Its test %", "test_of_best"), percent("Highest test %", "highest_test"),
        percent("Median test %", "median_test"),
    ),
)  # fmt: skip
"""How many chromosomes train, and how far."""
AGREEMENT = Kind(
    "landscape_agreement",
    "Who ranks chromosomes alike",
    "Spearman's rank correlation over all chromosomes, and over the tenth of lowest training "
    "loss. Stage 1 chooses by training loss. The last lines are what chance leaves: the same "
    "chromosomes trained again under another order of the batches, a random part of them.",
    (
        REPLICATE, Column("Measures", lambda row: MEASURES[row["measures"]]),
        words("Chromosomes", "n"), figure("All", "all", 3), figure("Best tenth", "among_best", 3),
    ),
)  # fmt: skip
"""Who ranks the chromosomes alike."""
FIDELITY = Kind(
    "landscape_fidelity",
    "What stopping early would tell",
    "Rank correlation of an earlier training loss with the one at the end, over all "
    "chromosomes and over the tenth that is best at the end; how much of that tenth is among "
    "the best tenth early; what the early favourite loses to the best. The schedule is that "
    "of the whole training.",
    (
        REPLICATE, count("After epoch", "epochs", "of"), figure("All", "all", 3),
        figure("Best tenth", "among_best", 3), percent("Shared best tenth %", "shared"),
        figure("Regret of its choice", "regret", 3),
    ),
)  # fmt: skip
"""What an early loss tells."""
TRANSFER = Kind(
    "landscape_transfer",
    "What carries over to another mask",
    "The best chromosome of each mask, and each operator in every slot, on every mask: what it "
    "loses to that mask's best in training loss, and the share of the space that is better.",
    (
        words("On mask", "on"), words("Chromosome", "chromosome"),
        Column("Operators", lambda row: labels(row["operators"])), figure("Loss", "loss", 3),
        figure("Regret", "regret", 3), percent("Better ones %", "better", 2),
        percent("Test %", "test"),
    ),
)  # fmt: skip
"""What a chromosome is worth on another mask."""
VARIANCE = Kind(
    "landscape_variance",
    "Which slots decide the training loss",
    "The exact functional analysis of variance: every chromosome is there, so shares are "
    "counted and not estimated. Slots joined by * are what two slots do together beyond each "
    "alone; rest is what three and more do. Over all masks: what the chromosome explains, what "
    "the mask, what both together, and the part of that which the batch order makes alone.",
    (
        REPLICATE, Column("Effect", lambda row: row["effect"].replace("_act", "")),
        percent("Share of loss %", "loss"), percent("Share of test %", "test"),
    ),
)  # fmt: skip
"""Which slots matter."""
PREDICTORS = Kind(
    "landscape_predictors",
    "What could be said before any training",
    "Spearman's rank correlation with the training loss at the end (1 ranks as training does), "
    "over the chromosomes and over the tenth of lowest loss, and what the one that is liked best "
    "loses to the best there is. A predictor sees one batch; its control is the loss before "
    f"training. A regression (the mean of {NEIGHBOURS} neighbours) sees trained chromosomes first, "
    f"drawn at random, and is asked about the others: means over {DRAWS} draws. It goes by the "
    "spectrum of the Fisher information of each layer, by what the operators make of normal "
    "inputs, by both, or, as its control, by the operators' names alone.",
    (
        REPLICATE, Column("Goes by", lambda row: str(FEATURES.get(row["says"], row["says"]))),
        words("Trained", "trained"), words("Chromosomes", "n"), figure("All", "all", 3),
        figure("Best tenth", "among_best", 3), figure("Regret of its choice", "regret", 3),
    ),
)  # fmt: skip
"""What predictors and regressions on features rank."""
RACE = Kind(
    "landscape_race",
    "Searches raced on the landscape (an analogue of the paper's Figure 6)",
    "Regret is what the chosen chromosome loses to the best there is, in training loss, mean "
    "over runs. Differences to random search are run by run, and their intervals are of paired "
    "t: they hold for this landscape alone, whose seeds are no replicates, and are no verdict. "
    "The last column is how many pairs of runs a paired t test needs to see the difference at "
    "5 % with a power of 80 %; the paper has three. Halving spends the same epochs on more "
    "candidates.",
    (
        REPLICATE, words("Evaluations", "budget"),
        Column("Search", lambda row: str(SEARCHES.get(row["algorithm"], row["algorithm"]))),
        words("Runs", "runs"), figure("Regret", "regret", 4), figure("SD", "regret_sd", 4),
        Column("By arithmetic", lambda row: number(row["exact_mean"], 4)),
        percent("At the optimum %", "optimum"), percent("Test %", "test"),
        figure("To random search", "difference", 4, sign=True),
        Column("95% interval", lambda row: interval_text(row["low"], row["high"], 4)),
        Column("Pairs for 80% power", lambda row: number(row["pairs"], 0)),
    ),
)  # fmt: skip
"""Who finds what."""


def tables(
    found: Sequence[Landscape],
    races: Sequence[Raced],
    promised: Sequence[Promised],
    context: Context,
) -> list[Table]:
    """Every table of the landscapes; none where there is no landscape."""
    if not found:
        return []
    kinds = (
        (SHAPE, analysis.shape), (AGREEMENT, analysis.agreement), (FIDELITY, analysis.fidelity),
        (TRANSFER, analysis.transfer), (VARIANCE, variance_rows),
    )  # fmt: skip
    made = [
        kind.of([_placed(each, row) for each in found for row in rows(each)], context)
        for kind, rows in kinds
    ]
    said = [row for each in found for row in promised_rows(each, promised)]
    raced = [row for each in found for row in race_rows(each, races)]
    made += [PREDICTORS.of(said, context)] if said else []
    return made + ([RACE.of(raced, context)] if raced else [])


def _placed(table: Landscape, row: dict[str, Any]) -> dict[str, Any]:
    return {"pair": table.meta.pair, "ratio": table.meta.ratio, **row}


def variance_rows(table: Landscape) -> Iterator[dict[str, Any]]:
    """The rows of :data:`VARIANCE`."""
    for replicate in table.replicates:
        loss = analysis.effects(table, analysis.finite(analysis.losses(table, replicate)))
        test = analysis.effects(table, analysis.accuracies(table, replicate))
        for effect in loss:
            yield {"replicate": str(replicate), "effect": effect, "loss": loss[effect],
                   "test": test[effect]}  # fmt: skip
    if len(table.replicates) > 1:
        for effect, share in analysis.between(table).items():
            yield {"replicate": "all", "effect": effect, "loss": share, "test": math.nan}


def promised_rows(table: Landscape, promised: Sequence[Promised]) -> Iterator[dict[str, Any]]:
    """The rows of :data:`PREDICTORS`."""
    for said in promised:
        if (said.pair, said.ratio) == (table.meta.pair, table.meta.ratio):
            yield from (_placed(table, row) for row in promises.rows(table, said))


def race_rows(table: Landscape, races: Sequence[Raced]) -> Iterator[dict[str, Any]]:
    """The rows of :data:`RACE`, and random search by arithmetic beside its runs."""
    own = [raced for raced in races if raced.table == table.digest]
    for row in compared(table, own):
        exact = dict.fromkeys(("mean", "q10", "q50", "q90"), math.nan)
        if row["algorithm"] == "random":
            values = analysis.losses(table, row["replicate"])
            found = analysis.random_search(table, values, row["budget"])
            exact = {name: value - float(values.min()) for name, value in found.items()}
        absent = dict.fromkeys(("difference", "low", "high", "pairs"), math.nan)
        told = {f"exact_{name}": value for name, value in exact.items()}
        yield _placed(table, absent | row | told)


def labels(chromosome: str) -> str:
    """A chromosome's operators by their labels."""
    return " · ".join(label(name) for name in chromosome.split())
