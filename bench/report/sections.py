"""The parts of the page in reading order: tables and figures, each with how to read it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bench.figures import PLOTS, Drawn
from bench.figures.differences import ANSWERS
from bench.labs import view as labs_view
from bench.labs.forest import TITLE as FOREST
from bench.labs.view import LabsView
from bench.render import ABSENT, Table
from bench.tables.comparisons import Comparisons
from safs.arms import ARMS

HOW_TO_READ = {
    "claims": "Statements, whatever the data set: does each hold here? Three lists: the paper's "
    "that it tests, the paper's that it does not, and ours. Undecided is no verdict against a "
    "claim; what is folded under it says what is missing.",
    "table1": "Compare SAFS with vanilla and SReLU at the same ratio. ± is the spread of masks, "
    "and a gain has an interval of its own. The paper's values stand beside ours only where it "
    "prints them.",
    "table2": "Stage 1 and Stage 2 are SAFS with one stage left out. Arms with HPO in their name "
    "are not in the paper: they get the tuning without the search.",
    "ratios": "The paper prints three gains for VGG-16 on CIFAR-10; at 99% every pair has one.",
    "comparisons": "Read the interval first: one that holds 0 shows no difference. It is unbounded "
    "where so few replicates exclude nothing. A p can be no smaller than the design allows, which "
    "stands beside it, with the chance of seeing one point.",
    "overall": "One line per main question, all pairs weighted alike.",
    "paper": "Every printed number beside ours. A verdict is only as good as its rule, which "
    "stands beside it.",
    "connectivity": "An accuracy near its cap is limited by the pruning and not by the activation.",
    "compression": "At high ratios the activations' own parameters weigh: compare SReLU and SAFS.",
    "cost": "Factors to vanilla compare with the paper's; hours depend on the machine.",
    "failures": "A final training that failed counts as chance in its run; a run that is missing "
    "or invalid counts nowhere. Both stand here.",
    "readings": "One line per reading of the paper, one switch at a time; it describes and decides "
    "nothing.",
    "predictors": "How well each score ranks candidates as training does, and how good its own "
    "choice would have been. The loss is no predictor but a control: it needs no theory.",
    "landscape": "All chromosomes of the operators that are trained: what a search could find.",
    "landscape_race": "Regret at 21 evaluations is what stage 1 leaves on the table. Each mask is "
    "one landscape; the runs on it are no replicates, so there is no verdict here.",
    "landscape_transfer": "Look at the regret: near 0, one mask's best serves another too.",
    "landscape_agreement": "The first line says whether choosing by training loss is right, the "
    "last column whether it is among good chromosomes.",
    "landscape_fidelity": "Whether a search could stop candidates early: over all, and among the "
    "best, where it matters.",
    "landscape_predictors": "A predictor that beats the loss before training, or a regression that "
    "beats the operators' names, has found something; look at the best tenth, where a search is.",
    "landscape_variance": "Main effects near 100 % would mean that slots can be chosen one by one.",
    **labs_view.HOW_TO_READ,
}

SHORT = {
    "claims": "Claims",
    "table1": "Accuracy",
    "comparisons": "Comparisons",
    "figure-operators": "Search",
    "figure-landscape": "Landscape",
    "cost": "Cost",
}
"""What the bar links to beside the answers and the contents, and what it calls that."""

_ACCURACY = (
    "Ratio", "Arm", "n", "Top-1 %", "Gain over vanilla", "95% interval", "Paper top-1",
    "Paper gain", "Verdict",
)  # fmt: skip
LEAD = {
    "table1": _ACCURACY,
    "table2": _ACCURACY,
    "comparisons": (
        "Contrast", "Ratio", "n", "Difference", "Exact 95% interval", "What it shows",
    ),
    "overall": ("Contrast", "Pairs", "n", "Difference", "Exact 95% interval", "What it shows"),
    "paper": ("Ratio", "Number", "Paper", "Ours", "n", "Exact 95% interval", "Verdict", "Rule"),
    "landscape": (
        "Mask", "Chromosomes", "Failed", "Did not learn", "Best chromosome", "Lowest loss",
        "Median", "Its test %", "Highest test %",
    ),
    "landscape_race": (
        "Mask", "Evaluations", "Search", "Runs", "Regret", "At the optimum %", "Test %",
        "To random search", "95% interval", "Pairs for 80% power",
    ),
    "landscape_transfer": (
        "On mask", "Chromosome", "Operators", "Regret", "Better ones %", "Test %",
    ),
    "readings": (
        "Ratio", "Reading", "n", *(arm.label for name, arm in ARMS.items() if name != "dense"),
        "Distance", "Nearer (-) or farther (+)",
    ),
    "cost": (
        "Ratio", "Arm", "Epochs", "Epochs / vanilla", "Hours", "Hours / vanilla",
        "Paper hours / vanilla",
    ),
}  # fmt: skip
"""The columns of a wide table that are shown at first; where there are several pairs, theirs too.

The page has a switch that shows the others. Tables that are not here show all of theirs, but for
those that say nothing in any row.
"""
FOLDERS = {
    **dict.fromkeys(("claims", "comparisons", "overall", "paper"), "comparisons"),
    **dict.fromkeys(("labs", "labs_each"), "figures"),
}
"""Where a table's file is; the others are in ``tables``."""

ORDER = (
    "figure-differences",
    "claims",
    "table1",
    "figure-accuracy",
    "table2",
    "ratios",
    "figure-activations",
    "figure-recipes",
    "comparisons",
    "overall",
    "paper",
    "connectivity",
    "figure-learned",
    "figure-operators",
    "figure-search_trace",
    "figure-algorithms",
    "figure-landscape",
    "landscape",
    "figure-landscape_race",
    "landscape_race",
    "figure-landscape_operators",
    "landscape_variance",
    "landscape_transfer",
    "landscape_agreement",
    "landscape_fidelity",
    "landscape_predictors",
    "figure-flow",
    "compression",
    "figure-compression",
    "cost",
    "predictors",
    "readings",
    "labs",
    "figure-labs",
    "labs_each",
    "failures",
)
"""What stands where; a part that a profile does not have is left out."""

NEEDS = {"paper": "a pair that the paper has"}
"""What a table needs to have any row; without one the page leaves it out."""


@dataclass(frozen=True)
class Section:
    """A part of the page: a table or a figure under a heading, and how to read it.

    ``short`` is its name in the bar, empty where the bar leaves it out; ``words`` are said under a
    figure, ``lead`` are the columns of a wide table that are shown at first. ``data`` names the
    file with its numbers, ``csv`` is the file itself as a link, for tables.
    """

    anchor: str
    title: str
    how_to_read: str
    table: Table | None = None
    svg: Markup | None = None
    words: str = ""
    lead: tuple[str, ...] = ()
    data: str = ""
    csv: str = ""

    @property
    def short(self) -> str:
        return SHORT.get(self.anchor, "")


def sections(
    tables: Sequence[Table],
    comparisons: Comparisons,
    drawn: Mapping[str, Drawn],
    labs: LabsView | None,
) -> list[Section]:
    """The parts of the page in the order of :data:`ORDER`."""
    every = (*tables, *comparisons)
    parts = [_table(table) for table in every if not _lacking(table)]
    parts += _figures(drawn) + _labs(labs)
    return sorted(parts, key=lambda part: ORDER.index(part.anchor))


def left_out(comparisons: Comparisons, drawn: Mapping[str, Drawn]) -> list[str]:
    """Each figure or table that this profile does not have, and what it would need."""
    figures = [f"{p.title}: needs {p.needs}." for p in PLOTS if p.name not in drawn]
    tables = [t for t in comparisons if _lacking(t)]
    return figures + [f"{table.title}: needs {NEEDS[table.name]}." for table in tables]


def _lacking(table: Table) -> bool:
    return table.name in NEEDS and table.view.empty


def _table(table: Table) -> Section:
    """A table; its CSV travels in the page, as a link to a file beside it would break."""
    name, packed = table.name, b64encode(table.csv().encode()).decode()
    lead = _lead(table)
    return Section(
        name,
        table.title,
        HOW_TO_READ[name],
        table,
        lead=lead,
        data=f"{FOLDERS.get(name, 'tables')}/{name}.csv",
        csv=f"data:text/csv;base64,{packed}",
    )


def _lead(table: Table) -> tuple[str, ...]:
    """The columns to show at first; none of them if that is all columns."""
    every = tuple(table.view.columns)
    lead = tuple(name for name in LEAD.get(table.name, every) if name in every)
    if lead != every and "Pair" in every and table.view["Pair"].nunique() > 1:
        lead = ("Pair", *lead)
    said = tuple(name for name in lead if not table.view[name].eq(ABSENT).all())
    return () if said == every or table.view.empty else said


def _figures(drawn: Mapping[str, Drawn]) -> list[Section]:
    """The figures; their SVG is our own output, its text was escaped when it was drawn."""
    return [
        Section(
            f"figure-{plot.name}",
            plot.title,
            plot.how_to_read,
            svg=Markup(drawn[plot.name].svg),
            words=drawn[plot.name].words,
            data=f"figures/{plot.name}.csv",
        )
        for plot in PLOTS
        if plot.name in drawn and plot != ANSWERS
    ]


def _labs(labs: LabsView | None) -> list[Section]:
    """The part on other labs: pooled, the forest plot, each lab; empty where there is none."""
    if labs is None:
        return []
    how = HOW_TO_READ["figure-labs"]
    plot = Section("figure-labs", FOREST, how, svg=Markup(labs.svg), data="figures/labs_each.csv")
    return [*(_table(table) for table in labs.tables), plot]
