"""One page on all published studies: what each is, and every claim's verdict side by side.

It is made from the tables that the studies have published. Only the verdicts of today's protocol
are shown; a study of an older one is described, and what it says is in its own report, since its
claims were worded and judged otherwise. Nothing is pooled, and networks that two studies share are
asked once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from bench.columns import RATIO, exact_text, figure, words
from bench.context import Context
from bench.contrasts import CONFIRMATORY
from bench.paper import facts
from bench.records import table_files
from bench.records.archive import Replicate
from bench.records.collection import KEYS
from bench.render import ABSENT, Column, Facts, Table, hours_text, number
from bench.report.assets import page
from bench.tables.claims import CLAIMS, LISTS, Claim, digits
from bench.verdicts import FAILS, HOLDS, UNDECIDED
from safs.checked import MAX_BYTES
from safs.files import read_text, write_text
from safs.settings import PROTOCOL_VERSION

COST = ("hours", "epochs_factor", "hours_factor", "paper_hours_factor")
"""What is shown of a row of the table of cost."""
VERDICT = ("kind", "verdict", "rule", "mean", "unit", "low", "high", "t_low", "t_high")
"""What is shown of a claim; older editions have not all of it."""
NUMBERS = ("ratio", "replicate", "n", "mean", "low", "high", "t_low", "t_high", *COST)
"""The columns of these tables that hold numbers."""


@dataclass(frozen=True)
class Subject:
    """A study on one of its pairs.

    Attributes:
        context: the study's profile.
        pair: the pair.
        protocol: the version of the protocol that it followed.
        replicates: dense networks of the pair that were trained to the end.
        networks: their links of the chain, where the records have them.
        runs: how many runs of the pair ended well, and what became of the others, in words.
        claims: the rows of its table of claims, by the claims' keys.
        cost: the row of SAFS in its table of cost at the claims' ratio.
    """

    context: Context
    pair: str
    protocol: int
    replicates: int
    networks: frozenset[str]
    runs: str
    claims: dict[str, Facts]
    cost: Facts

    @property
    def title(self) -> str:
        """The study's title, with the pair where it has several."""
        several = len(self.context.pairs) > 1
        return self.context.title + (f": {self.context.label(self.pair)}" if several else "")

    @property
    def preregistered(self) -> bool:
        """Whether anything was said beforehand."""
        return self.context.preregistered.ratio is not None

    @property
    def today(self) -> bool:
        """Whether its verdicts are those of today's protocol."""
        return self.protocol == PROTOCOL_VERSION

    def row(self) -> dict[str, Any]:
        """Its line of the table of studies."""
        tested = [row for row in self.claims.values() if row["n"]]
        commit = self.context.preregistered.commit
        said = "preregistered" + (f" in {commit}" if commit else "")
        asked = self.context.preregistered.replicates or 0
        of = f" of {asked}" if self.replicates < asked else ""
        return {
            "title": self.title,
            "about": self.context.label(self.pair),
            "ratio": next(iter(self.claims.values()))["ratio"],
            "replicates": f"{self.replicates}{of}",
            "runs": self.runs,
            "kind": said if self.preregistered else "explores",
            "protocol": self.protocol,
            "tested": len(tested),
            "verdicts": _verdicts(tested) if self.today else ABSENT,
            **self.cost,
        }


def _verdicts(rows: Sequence[Facts]) -> str:
    """How many claims have which verdict, and of how many that confirms something."""
    parts = []
    for verdict in (HOLDS, FAILS, UNDECIDED):
        own = [row for row in rows if row["verdict"] == verdict]
        sure = sum(row["kind"] == CONFIRMATORY for row in own)
        parts += [f"{verdict} {len(own)}" + (f" ({sure} confirmatory)" if sure else "")]
    return ", ".join(parts)


def read(context: Context, folder: Path) -> list[Subject]:
    """What a study has published, pair by pair; nothing where it has published no claim.

    Args:
        context: the study's profile.
        folder: its folder, ``results/<profile>``.

    Raises:
        SafsError: a file is damaged, naming it.
        OSError: a file is missing or cannot be read.
    """
    file = folder / "comparisons/claims.csv"
    if not file.is_file():
        return []
    summary = folder / "tables/summary.json"
    version = table_files.protocol_version(read_text(summary, MAX_BYTES), summary)
    said = VERDICT if version == PROTOCOL_VERSION else ()
    table = partial(table_files.read_table, numbers=NUMBERS)
    claims = table(file, ("claim", "pair", "ratio", "n", *said))
    costs = table(folder / "tables/cost.csv", ("pair", "ratio", "arm", *COST))
    runs = table(folder / "tables/runs.csv", (*KEYS, "status"))
    subjects = []
    for pair, own in claims.groupby("pair", sort=False):
        here = runs[runs["pair"] == pair]
        subjects.append(
            Subject(
                context,
                str(pair),
                version,
                int(((here["arm"] == "dense") & (here["status"] == "ok")).sum()),
                _networks(folder / "records" / str(pair)),
                _ended(here["status"]),
                {row["claim"]: row for row in own.to_dict("records")},
                _cost(costs, str(pair), own["ratio"].iloc[0]),
            )
        )
    return subjects


def _networks(folder: Path) -> frozenset[str]:
    """The links of the dense networks among a pair's records."""
    replicates = map(Replicate.read, sorted(folder.glob("r[0-9]*.json")))
    dense = [record for found in replicates for record in found.records if record.arm == "dense"]
    return frozenset(link for record in dense if record.chain for link in record.chain.finals)


def _cost(costs: pd.DataFrame, pair: str, ratio: float) -> Facts:
    """The row of SAFS, absent values where it was not run."""
    of_safs = costs[costs["arm"] == "safs"]
    found = of_safs[(of_safs["pair"] == pair) & (of_safs["ratio"] == ratio)].to_dict("records")
    return {key: found[0][key] if found else math.nan for key in COST}


def _ended(statuses: pd.Series[str]) -> str:
    """How many runs ended well, and what became of the others."""
    counts = statuses.value_counts()
    others = [f"{n} {how}" for how, n in counts.sort_index().items() if how != "ok"]
    return ", ".join([f"{counts.get('ok', 0)} of {len(statuses)}", *others])


def studies_table(subjects: Sequence[Subject]) -> Table:
    """A row per study and pair: what it is, how many claims it decides, and what SAFS cost."""
    columns = (
        words("Study", "title"), words("Network and images", "about"), RATIO,
        words("Replicates", "replicates"), words("Runs ended well", "runs"), words("Kind", "kind"),
        words("Claims tested", "tested"), words("Verdicts", "verdicts"),
        words("Protocol", "protocol"),
        Column("SAFS, a replicate", lambda row: hours_text(row["hours"])),
        figure("SAFS / vanilla, epochs", "epochs_factor", 1),
        figure("SAFS / vanilla, time", "hours_factor", 1),
        figure("The paper's, time", "paper_hours_factor", 1),
    )  # fmt: skip
    caption = (
        "The claims are judged at the ratio that stands here; confirmatory is what was "
        "preregistered, all else explores. Replicates: dense networks trained to the end. Time is "
        "without dense training and pruning: processor time of one core, or time of a GPU; the "
        "paper's factor is of its Table 3, on its own images."
    )
    return Table.of("studies", "The studies", caption, [s.row() for s in subjects], columns)


@dataclass(frozen=True)
class Said:
    """What a study says of a claim: verdict, numbers in words, rule; was it preregistered?"""

    study: Subject
    verdict: str
    numbers: str
    rule: str
    confirmatory: bool


@dataclass(frozen=True)
class Line:
    """A claim, and what each study says of it that could test it."""

    text: str
    source: str
    said: tuple[Said, ...]

    @property
    def asked(self) -> tuple[Said, ...]:
        """What counts: what those say that preregistered it, where there is one, else what all do.

        A study that explores does not decide what one that confirms has left open.
        """
        return tuple(said for said in self.said if said.confirmatory) or self.said

    @property
    def explored(self) -> tuple[Said, ...]:
        """What does not count."""
        return tuple(said for said in self.said if said.confirmatory < self.asked[0].confirmatory)

    @property
    def verdicts(self) -> set[str]:
        """Those that count."""
        return {said.verdict for said in self.asked}

    @property
    def confirmed(self) -> bool:
        """Whether a study decides it as it was preregistered."""
        return any(said.confirmatory and said.verdict in (HOLDS, FAILS) for said in self.asked)


@dataclass(frozen=True)
class ClaimsList:
    """A list of claims, what is decided of it in a sentence, and its lines."""

    made: str
    decided: str
    lines: tuple[Line, ...]


def claims_lists(subjects: Sequence[Subject]) -> Iterator[ClaimsList]:
    """Every list of claims, with what each study says of it."""
    for made in LISTS:
        own = (claim for claim in CLAIMS if claim.made == made)
        lines = tuple(
            Line(claim.text, claim.ref, tuple(filter(None, (_said(s, claim) for s in subjects))))
            for claim in own
        )
        yield ClaimsList(made, _decided(lines), lines)


def _said(subject: Subject, claim: Claim) -> Said | None:
    row = subject.claims.get(claim.key)
    if row is None or not row["n"]:
        return None
    places = digits(row)
    mean = f"{number(row['mean'], places, sign=True)} {row['unit']}"
    sure = row["kind"] == CONFIRMATORY
    numbers = f"{mean}; {exact_text(row, places)}; n = {row['n']}"
    numbers += f", {CONFIRMATORY}" if sure else ""
    return Said(subject, row["verdict"], numbers, row["rule"], sure)


def _decided(lines: Sequence[Line]) -> str:
    """How many claims are decided, and which way."""
    both = sum({HOLDS, FAILS} <= line.verdicts for line in lines)
    holds, fails = (sum(v in line.verdicts for line in lines) - both for v in (HOLDS, FAILS))
    untested = sum(not line.verdicts for line in lines)
    counts = [
        (holds, "holds", "hold"), (fails, "fails", "fail"),
        (both, "holds in one study and fails in another", "hold in one study and fail in another"),
        (len(lines) - holds - fails - both - untested, "is undecided", "are undecided"),
        (untested, "could not be tested", "could not be tested"),
    ]  # fmt: skip
    told = ", ".join(f"{n} {one if n == 1 else more}" for n, one, more in counts if n)
    sure = sum(line.confirmed for line in lines)
    return (
        f"Of {len(lines)}: {told}; where a study preregistered a claim, those that explore it do "
        f"not count. Decided as preregistered: {sure}."
    )


def in_order(subjects: Sequence[Subject]) -> list[Subject]:
    """The newest protocol first, then what was preregistered, then the most replicates."""
    return sorted(
        subjects,
        key=lambda s: (-s.protocol, not s.preregistered, -s.replicates, s.context.profile),
    )


def asked_once(subjects: Sequence[Subject]) -> Iterator[Subject]:
    """The studies :func:`in_order`, each without the claims that an earlier one has tested on all
    of its networks: they are the same trainings, and one answer."""
    every = in_order(subjects)
    for place, subject in enumerate(every):
        wholes = [s for s in every[:place] if subject.networks and subject.networks <= s.networks]
        tested = {key for whole in wholes for key, row in whole.claims.items() if row["n"]}
        claims = {k: {**row, "n": 0} if k in tested else row for k, row in subject.claims.items()}
        yield replace(subject, claims=claims)


def render(subjects: Sequence[Subject], not_run: Sequence[Context], path: Path) -> Path:
    """Write the page.

    Args:
        subjects: what was published, in any order.
        not_run: the profiles that have published nothing.
        path: where the HTML goes; it links ``<profile>/report.html`` beside it.
    """
    every = list(asked_once(subjects))
    text = page(
        "overview.html.j2",
        studies=studies_table(every),
        subjects=every,
        lists=tuple(claims_lists([subject for subject in every if subject.today])),
        not_run=not_run,
        paper=facts()["paper"],
        absent=ABSENT,
    )
    return write_text(path, text)
