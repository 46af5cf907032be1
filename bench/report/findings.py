"""What was found and what may not be claimed, in sentences made from the comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench import stats
from bench.collection import Collection
from bench.context import Context
from bench.contrasts import MAIN_RATIO, contrast_label
from bench.render import Table, number, p_text, ratio_text
from bench.tables.comparisons import Comparisons
from bench.verdicts import FAILS, HOLDS, UNDECIDED, VERDICTS
from safs.arms import ARMS


@dataclass(frozen=True)
class Findings:
    """The summary on top of the report: counts of verdicts, sentences found, and warnings.

    ``verdicts`` are on the paper's numbers, ``claims`` are the claims by verdict.
    """

    headline: tuple[str, ...]
    verdicts: tuple[tuple[str, int], ...]
    claims: tuple[tuple[str, tuple[str, ...]], ...]
    not_claimable: tuple[str, ...]


def findings(
    collection: Collection, comparisons: Comparisons, claimed: Table, context: Context
) -> Findings:
    """The summary of a profile; ``claimed`` is the table of claims."""
    counts = Counter(row["verdict"] for row in comparisons.paper.frame.to_dict("records"))
    return Findings(
        tuple(_headlines(comparisons, context)),
        tuple((name, counts[name]) for name in VERDICTS if name in counts),
        tuple(_claims(claimed, context)),
        tuple(_limits(collection, comparisons, context)),
    )


def _claims(claimed: Table, context: Context) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The claims' texts by verdict, with the pair where the profile has several."""
    several = len(context.pairs) > 1
    for verdict in (HOLDS, FAILS, UNDECIDED):
        rows = [row for row in claimed.frame.to_dict("records") if row["verdict"] == verdict]
        where = [f" ({context.label(row['pair'])})" if several else "" for row in rows]
        yield verdict, tuple(row["text"] + at for row, at in zip(rows, where, strict=True))


def _main_rows(comparisons: Comparisons, context: Context) -> pd.DataFrame:
    """The confirmatory comparisons; without any, those at the highest ratio."""
    frame = comparisons.contrasts.frame
    if frame.empty:
        return frame
    confirmatory = frame["kind"] == "confirmatory"
    return frame[confirmatory if confirmatory.any() else frame["ratio"] == max(context.ratios)]


def _headlines(comparisons: Comparisons, context: Context) -> Iterator[str]:
    """One sentence per main comparison, then those with the control arms at the same ratios."""
    shown = _main_rows(comparisons, context)
    if shown.empty:
        yield "No two arms of this profile can be compared."
        return
    yield from (_sentence(row, context) for row in shown.to_dict("records"))
    ratios = set(shown["ratio"])
    for row in comparisons.contrasts.frame.to_dict("records"):
        controls = [name for name in row["contrast"].split("-") if ARMS[name].beyond_paper]
        if controls and row["ratio"] in ratios:
            yield f"Control beyond the paper. {_sentence(row, context)}"


def _sentence(row: Mapping[Hashable, Any], context: Context) -> str:
    where = f"{context.label(row['pair'])} at {ratio_text(row['ratio'])}"
    return (
        f"{where}, {contrast_label(row['contrast'])}: mean difference "
        f"{number(row['difference'], sign=True)} points over {row['n']} replicates; "
        f"{row['verdict']} (exact p {p_text(row['p'])}, attainable "
        f"{p_text(row['p_attainable'])})."
    )


def _limits(collection: Collection, comparisons: Comparisons, context: Context) -> Iterator[str]:
    yield from _power_limits(comparisons, context)
    yield from _scope_limits(context)
    yield from _control_limits(context)
    bad = int((collection.frame["status"] != "ok").sum())
    if bad:
        of = len(collection.frame)
        yield f"{bad} of {of} expected runs failed or have no result (see below)."


def _power_limits(comparisons: Comparisons, context: Context) -> Iterator[str]:
    frame = _main_rows(comparisons, context)
    least = int(frame["n"].min()) if len(frame) else 0
    needed = stats.replicates_needed()
    if least < needed:
        yield (
            f"Statistical significance: with {least} paired replicates the exact test cannot give "
            f"p < .05 whatever the data; {needed} replicates can. Intervals are what there is."
        )


def _scope_limits(context: Context) -> Iterator[str]:
    for info in context.pairs.values():
        if not info.comparable:
            reason = info.why_not or "the paper does not have this pair"
            yield f"That the paper's numbers hold or fail on {info.label}: {reason}."
    others = [ratio_text(r) for r in context.ratios if r != MAIN_RATIO]
    if others:
        yield f"Anything confirmatory at {', '.join(others)}: these ratios are exploratory."
    if MAIN_RATIO not in context.ratios:
        yield f"The paper's main claim: {ratio_text(MAIN_RATIO)} pruning was not run."


def _control_limits(context: Context) -> Iterator[str]:
    arms = set(context.arms)
    if not {"default_hpo", "srelu_hpo"} & arms:
        yield (
            "That the gain comes from the activations: no arm has the tuning of stage 2 with the "
            "default activation alone, so activations and tuning are not told apart."
        )
    if "random_hpo" not in arms:
        yield "That the search matters: no arm has a random choice of activations."
