"""README and FINDINGS say what the published tables hold, to the digits printed.

Each sentence with figures is made again from the tables and looked up in the document. A decimal
that no such sentence covers is a failure too, so that none can be added, or grow old, unseen.
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bench import paper
from bench.landscape import load
from bench.landscape.analysis import BEST, losses
from bench.records.archive import Replicate
from bench.records.finals import each_top1
from bench.stats import LEVEL, SAMPLED, Interval, attainable_p, exact_interval

ROOT = Path(__file__).parents[2]
FIFTY, TEN, RATIOS, LANDSCAPE = "mnist5k_99", "mnist5k_studies", "mnist5k", "landscape"
DEEP, RESIDUAL, PLAIN = (
    "fashion_efficientnetb0_90", "fashion_resnet18_99", "fashion_vgg16_99",
)  # fmt: skip
MANY, READINGS = "fashion_mnist_99", "readings"
QUESTIONS = {
    "vanilla": "vanilla",
    "srelu": "SReLU",
    "default_hpo": "default + HPO (ReLU tuned alike)",
    "srelu_hpo": "SReLU + HPO",
    "best_single_hpo": "best single + HPO",
    "random_hpo": "random + HPO",
    "srelu_layer_hpo": "SReLU per layer + HPO",
}
"""Study A's seven, as FINDINGS names them."""
OPENING = {
    "vanilla": "vanilla pruning",
    "srelu": "SReLU",
    "default_hpo": "the default activation, tuned alike",
    "srelu_hpo": "SReLU, tuned alike",
    "srelu_layer_hpo": "SReLU with four parameters a layer, tuned alike",
    "best_single_hpo": "the best single operator everywhere, tuned alike",
    "random_hpo": "operators drawn at random, tuned alike",
}
"""The same, as the README's table names them."""
BY_MEAN = (
    "vanilla srelu stage1_only stage2_only default_hpo random_hpo safs srelu_layer srelu_layer_hpo"
    " best_single_hpo srelu_hpo"
)
"""The arms in the order of FINDINGS' list of means."""
BESIDE = ("prelu", "tanh", "symlog", "falu", "swish")
"""The operators beside SRS that are tried everywhere, as FINDINGS has them."""
FOUR = ("stage1_only", "stage2_only", "safs")
"""The arms of the paper's Table 2, beside vanilla."""
DEEP_ARMS = "vanilla srelu stage2_only default_hpo srelu_hpo"
BY_RATIO = (
    "vanilla srelu srelu_layer stage1_only stage2_only safs default_hpo srelu_hpo srelu_layer_hpo"
    " random_hpo best_single_hpo safs_fast"
)
"""The columns of FINDINGS' table of ratios."""


class Figure(float):
    """A number as the documents print it.

    Beside the usual specifications: ``p`` for a p-value, ``.2b`` bare (no 0 before the point),
    ``.1m`` without its sign.
    """

    def __format__(self, spec: str) -> str:
        if spec == "p":
            digits = 2 if self >= 0.0095 else 3 if self >= 0.00095 else 4
            return format(self, f".{digits}b")
        if spec.endswith("b"):
            return re.sub(r"\b0\.", ".", format(float(self), spec[:-1] + "f"))
        if spec.endswith("m"):
            return format(abs(float(self)), spec[:-1] + "f")
        return format(float(self), spec)


def rows(study: str, table: str, **where) -> pd.DataFrame:
    """The rows of a published table that have these values."""
    found = pd.read_csv(ROOT / "results" / study / f"{table}.csv")
    for column, value in where.items():
        found = found[found[column] == value]
    return found


def figures(found: pd.DataFrame) -> SimpleNamespace:
    """A table of one row, its numbers as figures."""
    assert len(found) == 1, found
    values = found.iloc[0].to_dict()
    return SimpleNamespace(**{k: v if isinstance(v, str) else Figure(v) for k, v in values.items()})


def row(study: str, table: str, **where) -> SimpleNamespace:
    """The one row of a published table that has these values."""
    return figures(rows(study, table, **where))


def contrast(study: str, name: str, ratio: float = 0.99) -> SimpleNamespace:
    """A paired difference."""
    return row(study, "comparisons/comparisons", contrast=name, ratio=ratio)


def claim(study: str, name: str) -> SimpleNamespace:
    """A claim's row, its mean under the name that a difference has."""
    found = row(study, "comparisons/claims", claim=name)
    found.difference = found.mean
    return found


def arm(study: str, name: str, ratio: float = 0.99) -> SimpleNamespace:
    """An arm's row of Table 2."""
    return row(study, "tables/table2", arm=name, ratio=ratio)


def within(
    found: SimpleNamespace, words: str = "", spec: str = ".1f", p: bool = False, at: str = ""
) -> str:
    """A difference, words, its interval and Holm's p; a sign only where ``spec`` has one.

    ``spec`` ending in ``m`` tells a difference below 0 as its size, the interval turned with it.
    """
    mean, low, high = (getattr(found, at + name) for name in ("difference", "low", "high"))
    bare = spec.removeprefix("+")
    if spec.endswith("m"):
        low, high, bare = Figure(-high), Figure(-low), spec[:-1] + "f"
    tested = f"; {found.p_holm:p}" if p else ""
    return f"{format(mean, spec)}{words} ({format(low, bare)} to {format(high, bare)}{tested})"


def after(found: SimpleNamespace, judged: SimpleNamespace, words: str = "") -> str:
    """A difference and its interval, with the p of the claim that it decides."""
    return f"{within(found, words)[:-1]}; {judged.p_holm:p} after Holm over the claims)"


def gain(found: SimpleNamespace) -> SimpleNamespace:
    """What an arm of Table 2 gains over vanilla, as a difference."""
    ends = {"difference": "gain_mean", "low": "gain_low", "high": "gain_high"}
    return SimpleNamespace(**{name: getattr(found, column) for name, column in ends.items()})


def listed(words: list[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


def span(values, spec: str) -> str:
    return f"{format(Figure(min(values)), spec)} to {format(Figure(max(values)), spec)}"


def series(values, spec: str, factor: float = 1) -> str:
    return listed([format(Figure(factor * value), spec) for value in values])


def questions() -> dict[str, SimpleNamespace]:
    return {name: contrast(FIFTY, f"safs-{name}") for name in QUESTIONS}


def decided() -> list[str]:
    """Section "What was decided"."""
    asked = questions()
    runs = rows(FIFTY, "tables/runs", ratio=0.99).pivot(index="replicate", columns="arm")["top1"]
    tuned_alike = ("default_hpo", "srelu_hpo", "srelu_layer_hpo")
    close = ((runs.safs - runs[other]).std() for other in tuned_alike)
    finite = [within(v, spec="+.1f", at="finite_") for v in asked.values()]
    labels = {k: v.partition(" (")[0] for k, v in QUESTIONS.items()}
    labels |= {"stage1_only": "stage 1", "stage2_only": "stage 2", "safs": "SAFS"}
    labels |= {"srelu_layer": "SReLU per layer"}
    means = (f"{labels[name]} {arm(FIFTY, name).top1_mean:.1f}" for name in BY_MEAN.split())
    return [
        *(
            f"| {QUESTIONS[k]} | {within(v, spec='+.1f')} | {v.p_holm:p} |"
            for k, v in asked.items()
        ),
        "are " + listed([*(text.partition(" (")[0] for text in finite[:2]), *finite[2:]]) + ":",
        f"SReLU and SReLU per layer are {series(close, '.1f')} points",
        f"in %: {', '.join(means)}.",
    ]


def ten_of_the_fifty() -> list[str]:
    """Section "What ten of the fifty replicates say besides"."""
    means = rows(TEN, "figures/activations").set_index("arm")["mean"]
    single = {k.removeprefix("all_"): Figure(v - means["vanilla"]) for k, v in means.items()}
    names = {
        "annealing": "simulated annealing",
        "random": "random search",
        "bayesian": "BO as SMAC runs it",
        "bayesian_refit": "BO refitted before every candidate",
    }
    ends = {"difference_low": "low", "difference_high": "high"}
    traces = rows(TEN, "figures/algorithms", series="raw").drop(columns=list(ends.values()))
    final = traces[traces.evaluation == traces.evaluation.max()].rename(columns=ends)
    loss = {name: figures(final[final.algorithm == name]) for name in names}
    fast = contrast(TEN, "safs_fast-safs")
    more = Figure(arm(TEN, "default_hpo_total").top1_mean - arm(TEN, "default_hpo").top1_mean)
    kinder = [
        [contrast(study, f"safs-{name}").difference for study in (RATIOS, FIFTY)]
        for name in ("default_hpo", "random_hpo")
    ]
    runs = rows(TEN, "tables/runs", ratio=0.99).pivot(index="replicate", columns="arm")["top1"]
    to_relu = {k: exact_interval(runs[f"all_{k}"] - runs.vanilla) for k in single if k in BESIDE}
    assert {name for name, found in to_relu.items() if found.side} == {"prelu"}
    warm = contrast(RATIOS, "safs_fast-safs")
    assert min(claim(study, "fast").p_holm for study in (TEN, RATIOS)) > LEVEL
    return [
        "HPO is {:+.1f} points on them and {:+.1f} on all, ".format(*kinder[0])
        + "SAFS - random + HPO {:+.1f} and {:+.1f}.".format(*kinder[1]),
        f"SRS everywhere is {within(claim(TEN, 'relu'), ' points')} above it",
        f"PReLU {within(figures_of(to_relu['prelu']))}.",
        f"Tanh {single['tanh']:.1f} above, Symlog {single['symlog']:.1m} below",
        f"FALU and Swish {single['falu']:.1m} and {single['swish']:.1m} below",
        f"untuned, is {Figure(means['safs'] - means['all_srs']):.1f} points below tuned SAFS",
        *(f"{names[k]} {within(v, spec='+.3b')}" for k, v in loss.items()),
        f"SAFS is {within(claim(TEN, 'total'), ' points', p=True)[:-1]} after Holm)",
        f"gain {more:.1f} over those of one",
        f"{fast.difference:.1m} points behind SAFS "
        f"({fast.low:.1m} behind to {fast.high:.1f} ahead)",
        f"{warm.difference:.1m} ({warm.low:.1m} behind to {warm.high:.1f} ahead)",
    ]


def figures_of(found: Interval) -> SimpleNamespace:
    """An interval as a difference."""
    ends = found.facts("difference")
    return SimpleNamespace(**{name: Figure(value) for name, value in ends.items()})


def deep(name: str) -> SimpleNamespace:
    """A paired difference of EfficientNet-B0."""
    return contrast(DEEP, name, 0.9)


def second_network() -> list[str]:
    """Section "A second network: EfficientNet-B0 at .90"."""
    stage2 = deep("stage2_only-default_hpo")
    mean = {name: arm(DEEP, name, 0.9).top1_mean for name in DEEP_ARMS.split()}
    alone, tuned = arm(DEEP, "stage2_only", 0.9), deep("safs-srelu_hpo")
    runs = rows(DEEP, "tables/runs", ratio=0.9).pivot(index="replicate", columns="arm")["top1"]
    better = {name: (runs[name] > runs.vanilla).sum() for name in ("stage2_only", "srelu_hpo")}
    assert better == {"stage2_only": 3, "srelu_hpo": 7} and len(runs) == 8
    return [
        f"| vanilla | {within(deep('safs-vanilla'), spec='+.1f')} | "
        f"{deep('safs-vanilla').p_holm:p} |",
        f"| SReLU | {within(deep('safs-srelu'), spec='+.1f')} | {deep('safs-srelu').p_holm:p} |",
        f"gains {within(deep('default_hpo-vanilla'), ' points')} over vanilla",
        f"SAFS is {within(deep('safs-default_hpo'))} ahead of that",
        f"({mean['default_hpo']:.1f} and {arm(DEEP, 'dense', 0.0).top1_mean:.1f} %)",
        f"SAFS is {after(deep('safs-stage1_only'), claim(DEEP, 'stage1'), ' points')[:-1]}, the",
        f"which is {within(deep('stage1_only-vanilla'))} ahead",
        f"ends at {mean['stage2_only']:.1f} %, with a spread of {alone.top1_sd:.1f}: against "
        f"vanilla pruning {within(gain(alone))}, ahead of it in three of eight",
        f"It is {within(stage2, ' points', '.1m')} below Swish",
        f"it has {mean['srelu']:.1f} % where vanilla pruning has {mean['vanilla']:.1f};",
        f"it reaches {mean['srelu_hpo']:.1f}, one replicate staying at "
        f"{Figure(runs.srelu_hpo.min()):.1f}.",
        f"the median is {Figure((runs.srelu_hpo - runs.vanilla).median()):+.1f};",
        f"SAFS is {within(tuned, ' points')} ahead in the mean and {tuned.median:.1f} in the",
        f"takes {row(DEEP, 'tables/cost', arm='safs').hours_factor:.1f} times as long as vanilla",
    ]


def at_chance(study: str, name: str) -> list[list[bool]]:
    """Of each replicate's final trainings of an arm, which have a tenth of the images right."""
    files = (ROOT / "results" / study / "records").glob("*/r*.json")
    known = sorted(map(Replicate.read, files), key=lambda each: each.replicate)
    runs = [record for each in known for record in each.records if record.arm == name]
    return [[abs(top1 - 0.1) < 0.005 for top1 in each_top1(record)] for record in runs]


def same_network() -> list[str]:
    """Section "The same network on all of Fashion-MNIST"."""
    mean = {name: arm(MANY, name).top1_mean for name in ("vanilla", "safs")}
    stage1, layer = contrast(MANY, "stage1_only-vanilla"), gain(arm(MANY, "srelu_layer"))
    cap = rows(MANY, "tables/connectivity").cap.mean()
    vanilla, stage2 = contrast(MANY, "safs-vanilla"), contrast(MANY, "safs-stage2_only")
    runs = rows(MANY, "tables/runs", ratio=0.99).pivot(index="replicate", columns="arm")["top1"]
    stuck = {name: at_chance(MANY, name) for name in mean}
    learns = (runs.safs - runs.vanilla)[[sum(each) < 5 for each in stuck["vanilla"]]]
    assert (len(learns), len(runs)) == (8, 12)
    hours = {
        name: row(MANY, "tables/cost", arm=name).hours_factor for name in ("safs", "srelu_layer")
    }
    return [
        *(
            f"| {QUESTIONS[name]} | {within(found, spec='+.1f')} | {found.p_holm:p} |"
            for name in ("vanilla", "srelu", "srelu_layer_hpo")
            for found in [contrast(MANY, f"safs-{name}")]
        ),
        f"stage 1 alone, with the dense recipe, gains {within(stage1, ' points')}",
        f"tuned ReLU {within(contrast(MANY, 'default_hpo-vanilla'))}",
        f"and SAFS is {within(contrast(MANY, 'safs-default_hpo'))} ahead of that",
        f"SAFS is {after(stage2, claim(MANY, 'stage2'))} ahead of stage 2 alone",
        f"{within(contrast(MANY, 'safs-stage1_only'))} ahead of stage 1 alone",
        f"at chance in {sum(map(sum, stuck['vanilla']))} of {sum(map(len, stuck['vanilla']))} "
        f"final trainings, all five of four replicates, SAFS in {sum(map(sum, stuck['safs']))}.",
        f"median of SAFS - vanilla is {vanilla.median:.1f}; where vanilla pruning learns, the mean "
        f"is {Figure(learns.mean()):.1f}.",
        f"alike, is {within(contrast(MANY, 'safs-srelu_hpo'), spec='.1m')} ahead of SAFS",
        f"per layer, untuned, gains {within(layer)} for {hours['srelu_layer']:.1f} plain",
        f"have {arm(MANY, 'dense', 0.0).top1_mean:.1f} % right",
        f"keeps {mean['vanilla']:.1f} % and SAFS reaches {mean['safs']:.1f}, where the connected "
        f"classes allow {cap:.1f}",
        f"takes {hours['safs']:.0f} times as long as vanilla",
    ]


def other_ratios() -> list[str]:
    """Section "The other ratios"."""

    def cell(name: str, ratio: float) -> str:
        found = arm(RATIOS, name, ratio)
        failed = f" ({found.failures:.0f})" if found.failures else ""
        return f"{found.top1_mean:.1f} ± {found.top1_sd:.1f}{failed}"

    def line(ratio: float) -> str:
        cells = [f"{Figure(ratio):.2b}", *(cell(name, ratio) for name in BY_RATIO.split())]
        return f"| {' | '.join(cells)} |"

    def at(name: str, ratio: float) -> SimpleNamespace:
        return contrast(RATIOS, name, ratio)

    def minus(name: str) -> str:
        told = [within(at(f"safs-{name}", ratio), spec="+.1f") for ratio in below]
        return f"| {QUESTIONS[name].partition(' (')[0]} | {' | '.join(told)} |"

    below = (0.90, 0.95, 0.98)
    classes = rows(RATIOS, "tables/connectivity").groupby("ratio")[["connected", "cap"]].mean()
    some, few = (figures(classes.loc[[ratio]]) for ratio in (0.98, 0.99))
    failed = rows(RATIOS, "tables/runs", status="failed")
    lost = {name: of.failures.sum() for name, of in failed.groupby("arm")}
    worst = rows(RATIOS, "tables/runs", arm="safs", ratio=0.90).top1.min()
    fast = at("safs_fast-safs", 0.98)
    return [
        *(line(ratio) for ratio in (*below, 0.99)),
        *(minus(name) for name in QUESTIONS),
        f"({at('safs-vanilla', 0.98).p_holm:p} after Holm over the four ratios)",
        f"to beat SReLU ({at('safs-srelu', 0.98).p_holm:p})",
        f"are ahead of it ({at('safs-srelu_hpo', 0.98).p_holm:p} and "
        f"{at('safs-srelu_layer_hpo', 0.98).p_holm:p})",
        f"gains {within(at('default_hpo-vanilla', 0.95), ' points')} and "
        f"{within(at('default_hpo-vanilla', 0.90))}",
        f"ahead of it at .95 ({at('safs-srelu_layer_hpo', 0.95).p_holm:p})",
        f"grows by {within(claim(RATIOS, 'growth'), ' points')} a step on average, in steps of "
        f"{series(np.diff([at('safs-vanilla', x).difference for x in (*below, 0.99)]), '.1f')}.",
        f"number 3 ends at {Figure(worst):.1f}",
        f"Of {sum(lost.values())} finals that became NaN below .99, {lost['stage1_only']} are "
        f"stage 1's, {lost['safs']} is SAFS's, and {lost['srelu'] + lost['srelu_layer']} have",
        f"is {within(fast, ' points', '.1m')[:-1]}; {fast.p_holm:p}) behind SAFS",
        f"On average {few.connected:.1f} of ten classes",
        f"caps every arm at {few.cap:.0f} % ({some.connected:.1f} and {some.cap:.0f} % at .98)",
    ]


def for_and_against() -> list[str]:
    """Sections "For", "Against" and "If you prune networks"."""
    asked, symexp = questions(), claim(FIFTY, "rare_symexp")
    agreement = rows(LANDSCAPE, "tables/landscape_agreement", measures="loss_test")
    srs = rows(LANDSCAPE, "tables/landscape_transfer", chromosome="srs everywhere").regret
    race = rows(LANDSCAPE, "tables/landscape_race", algorithm="lahc", budget=21).difference
    cost = rows(RATIOS, "tables/cost").set_index("arm")
    relu, srelu = (gain(arm(RATIOS, name, 0.98)) for name in ("default_hpo", "srelu_hpo"))
    hours = {
        name: row(FIFTY, "tables/cost", arm=name).hours_factor
        for name in ("default_hpo", "srelu_layer")
    }
    tuned = contrast(FIFTY, "default_hpo-vanilla")
    layer, safs = arm(FIFTY, "srelu_layer"), arm(FIFTY, "safs")
    noise = [arm(FIFTY, name).finals_sd for name in BY_MEAN.split()]

    return [
        f"{within(contrast(FIFTY, 'safs-stage1_only'), ' points')} ahead of stage 1",
        f"and {after(contrast(FIFTY, 'safs-stage2_only'), claim(FIFTY, 'stage2'))} of stage 2",
        f"ReLU gains {within(tuned, ' points')}",
        f"though by {span(-race, '.2b')}",
        f"{row(MANY, 'tables/cost', arm='safs').hours_factor:.0f} in study B and "
        f"{span(cost.loc['safs'].hours_factor, '.0f')} in `mnist5k`",
        f"takes as long as {span(cost.loc['safs_fast'].hours_factor, '.0f')}.",
        f"brings back {within(relu, ' points')}, tuned SReLU {within(srelu)}.",
        f"is better** in LeNet-5, by {asked['srelu_hpo'].difference:.1m} points at .99",
        f"ends at {layer.top1_mean:.1f} % where tuned SAFS ends at {safs.top1_mean:.1f}.",
        f"by {asked['best_single_hpo'].difference:.1m} points: the paper's claim",
        f"within {span(srs, '.2b')} of the lowest loss",
        f"are {within(asked['random_hpo'], ' points behind SAFS')}",
        f"{tuned.difference:.1f} with plain ReLU and a tuned recipe",
        f"{within(contrast(FIFTY, 'stage1_only-vanilla'))} with searched activations",
        f"{asked['vanilla'].difference:.1f} with both",
        f"is {span(agreement['all'], '.2b')} over all",
        f"and {span(agreement.among_best, '.2b')} among the best tenth",
        f"{symexp.mean:.1m} points more than chance ({symexp.high:.1m} to {symexp.low:.1m}; "
        f"{symexp.p_holm:p} after Holm over the claims)",
        f"back {layer.gain_mean:.1f} points for {hours['srelu_layer']:.1f} plain trainings",
        f"tuned ReLU {tuned.difference:.1f} for {hours['default_hpo']:.1f}",
        f"by {min(noise):.1f} points (vanilla) to {max(noise):.1f} (SAFS;",
    ]


def unknown() -> list[str]:
    """Section "What remains unknown"."""
    dense = {name: arm(name, "dense", 0.0).top1_mean for name in (RESIDUAL, PLAIN)}
    lost = {name: dense[name] - arm(name, "vanilla").top1_mean for name in dense}
    return [
        f"takes only {lost[RESIDUAL]:.1f} points of the one's {dense[RESIDUAL]:.1f} % and "
        f"{lost[PLAIN]:.1f} of the other's {dense[PLAIN]:.1f} %",
    ]


def readings() -> list[str]:
    """What DEVIATIONS says of the readings, of which "profile" is the suite's own."""
    found = rows(READINGS, "tables/readings").set_index("reading")
    own, code, whole = found.loc["profile"], found.loc["recipe_as_released"], "global_pruning"
    affected = found[found.difference.notna()]
    near = affected[(affected.difference_low <= 0) & (affected.difference_high >= 0)]
    assert (affected.difference_low > 0).sum() == 4 and (affected.difference_high < 0).sum() == 0
    assert (len(affected), len(near), set(found.n)) == (14, 10, {10})
    runs = rows(READINGS, "tables/readings_runs", arm="vanilla").groupby("reading").connected.mean()
    safs = rows(READINGS, "tables/runs", arm="safs")
    assert list(safs.failures[safs.failures > 0]) == [1] and set(safs.finals) == {1}
    ends = found.loc["keep_ends", [f"{name}_mean" for name in ("vanilla", *FOUR, "srelu")]]
    assert 92 <= ends.min() <= ends.max() <= 94

    def apart(name: str) -> str:
        told = found.loc[name]
        return f"{told.difference:.1f}, {told.difference_low:.1f} to {told.difference_high:.1f}"

    return [
        " / ".join(
            format(paper.published("lenet5_mnist", "table2", a)["top1"], "g")
            for a in ("vanilla", *FOUR)
        ),
        f"{own.distance:.1f} points under this suite's own reading, "
        f"{series([own[f'{name}_mean'] for name in ('vanilla', *FOUR)], '.1f')} on average",
        f"the other nine have {safs.top1_finite.mean():.1f}",
        "dense recipe (by " + apart("recipe_as_released").replace(", ", " points, "),
        f"everything as released ({apart('as_released')})",
        f"global pruning ({apart(whole)})",
        f"both ends kept dense ({apart('keep_ends')})",
        f"between {-near.difference.min():.1f} nearer and {near.difference.max():.1f} farther",
        f"up to {((near.difference_high - near.difference_low) / 2).max():.1f} points wide",
        f"({code.dense_mean:.1f} against {own.dense_mean:.1f} %)",
        f"vanilla at {code.vanilla_mean:.1f} %, SAFS at {code.safs_mean:.1f}",
        f"leave {runs['recipe_as_released']:.1f} of ten classes",
        f"own leave {rows(READINGS, 'tables/connectivity').connected.mean():.1f}",
        f"leaves {runs[whole]:.1f} and brings SAFS to {found.safs_mean[whole]:.1f}",
        f"from {own.srelu_mean:.1f} to {found.srelu_mean['srelu_per_layer']:.1f} or "
        f"{found.srelu_mean['srelu_as_released']:.1f}",
    ]


def landscape() -> list[str]:
    """Section "What it says so far" of LANDSCAPE, its table and its bullets."""
    masks = rows(LANDSCAPE, "tables/landscape")
    carried = rows(LANDSCAPE, "tables/landscape_transfer").set_index(["chromosome", "on"])
    agreement = rows(LANDSCAPE, "tables/landscape_agreement").set_index("measures")
    noise, test = agreement.loc["noise"], agreement.loc["loss_test"]
    early = rows(LANDSCAPE, "tables/landscape_fidelity", epochs=10)
    shares = rows(LANDSCAPE, "tables/landscape_variance").set_index(["replicate", "effect"]).loss
    race = rows(LANDSCAPE, "tables/landscape_race", budget=21).set_index("algorithm")
    ahead = race.loc["lahc"].test.to_numpy() - race.loc["random"].test.to_numpy()
    best = [carried.loc[f"best of replicate {mask}"] for mask in (0, 1, 2)]
    srs = carried.loc["srs everywhere"]
    mains = shares[[re.fullmatch(r"\w+_act", effect) is not None for _, effect in shares.index]]
    slots = mains.groupby("replicate").sum()

    def line(mask: int) -> str:
        found = figures(masks[masks.replicate == mask])
        single = figures(srs.loc[[mask]])
        cells = (
            f"{found.lowest:.3f}, {100 * found.test_of_best:.1f}",
            f"{single.loss:.3f}, {100 * single.test:.1f}",
            f"{100 * single.better:.1f} %",
            f"{found.q50:.3f}",
            f"{100 * found.failed / found.chromosomes:.1f} %",
            f"{100 * found.stuck / found.chromosomes:.1f} %",
        )
        return " | ".join(cells)

    said = rows(LANDSCAPE, "tables/landscape_predictors").set_index(["says", "trained"])
    said = said.sort_index()
    predictors = said.xs(0, level="trained").reset_index()
    best_of = predictors.loc[predictors.groupby("replicate")["all"].idxmax(), "says"]
    assert len(set(best_of)) > 1, "no predictor ranks best on every mask"

    def of(name: str, trained: int = 0, column: str = "all") -> str:
        return span(said.loc[name, trained][column], ".2b")

    def lost(mask: int, on: int, spec: str = ".2b") -> str:
        return format(Figure(best[mask].regret[on]), spec)

    return [
        *(line(mask) for mask in (0, 1, 2)),
        f"within {series(srs.regret, '.2b')} of the best loss",
        f"mask 1's loses {lost(1, 0, '.4b')} on mask 0 and {lost(1, 2)} on mask 2",
        f"mask 0's loses {lost(0, 1)} on mask 1 and {lost(0, 2)} on mask 2",
        f"mask 2's {lost(2, 0)} on mask 0 and {lost(2, 1)} on mask 1",
        f"is {span(test['all'], '.2b')} over all chromosomes",
        f"and {span(test.among_best, '.2b')} among the best tenth",
        f"agree at {span(noise['all'], '.2b')} over all",
        f"and at {span(noise.among_best, '.2b')} among the best tenth, of which "
        f"{span(twice(), '.0f')} were trained twice",
        f"at the end is {series(early['all'], '.2b')}, and {series(early.among_best, '.2b')}",
        f"ends {series(early.regret, '.2b')} above the best",
        f"explain {series(slots, '.0f', 100)} % of the variance",
        f"by {series(-race.loc['lahc'].difference, '.3b')} at 21 evaluations",
        f"it is {series(ahead, '.1b', 100)} points",
        f"is {series(-race.loc['halving'].difference, '.3b')} ahead of random search",
        f"(SNIP {of('snip')} over all, gradient flow {of('flow')}, the loss before training "
        f"{of('loss')})",
        f"likes best ends {series(said.loc['snip', 0].regret, '.2b')} above the best",
        f"ranks the others at {of('fisher_outputs', 100)}, one on the operators' names alone at "
        f"{of('operators', 100)}; after 21 it is {of('fisher_outputs', 21)} and "
        f"{of('operators', 21)}.",
        f"after 100 loses {of('fisher_outputs', 100, 'regret')} to the best, and with the names "
        f"alone {of('operators', 100, 'regret')}.",
    ]


def twice() -> list[int]:
    """How many of each mask's best tenth were trained under a second order."""
    table = load(ROOT / "results" / LANDSCAPE / "records")
    found = []
    for replicate in table.replicates:
        loss, other = losses(table, replicate), losses(table, replicate, order=1)
        best = np.argsort(loss, kind="stable")[: round(BEST * len(loss))]
        found.append(int((~np.isnan(other[best])).sum()))
    return found


def speed() -> list[str]:
    """What README and SPEED say of the kernels, times masked PyTorch."""
    measured = json.loads((ROOT / "results/speed/kernels.json").read_text())["results"]
    found = pd.DataFrame(measured)
    relu = found.operator == "relu"
    times = {name: by.set_index("ratio").speedup for name, by in found[relu].groupby("network")}
    searched = found[~relu & (found.network == "lenet5")].groupby("ratio").speedup.median()
    return [
        f"LeNet-5 {searched[0.99]:.0f}, VGG-16-BN {times['vgg16'][0.99]:.0f} and "
        f"ResNet-18 {times['resnet18'][0.99]:.0f} times faster",
        *(
            f"| {label} | {by[0.99]:.0f} | {by[0.95]:{spec}} | {by[0.9]:{spec}} |"
            for label, by, spec in (
                ("LeNet-5, ReLU", times["lenet5"], ".0f"),
                ("LeNet-5, median of the 13 operators", searched, ".0f"),
                ("VGG-16-BN", times["vgg16"], ".1f"),
                ("ResNet-18", times["resnet18"], ".1f"),
            )
        ),
    ]


def opening() -> list[str]:
    """The answer at the top of the README: its table, and the figures beside it."""
    studies = ((FIFTY, 0.99), (MANY, 0.99), (DEEP, 0.9))
    default = contrast(FIFTY, "safs-default_hpo")

    def line(name: str) -> str:
        cells = [cell(study, f"safs-{name}", ratio) for study, ratio in studies]
        return f"| {OPENING[name]} | {' | '.join(cells)} |"

    def gained(study: str, ratio: float) -> str:
        return within(contrast(study, "default_hpo-vanilla", ratio), spec="+.1f")

    hours = [row(study, "tables/cost", arm="safs").hours_factor for study, _ in studies]
    stuck = [top1 for each in at_chance(MANY, "vanilla") for top1 in each]
    return [
        *(line(name) for name in OPENING),
        f"| {' | '.join(gained(*study) for study in studies)} |",
        "| {:.0f} (the paper: 40) | {:.0f} | {:.0f} |".format(*hours),
        f"at chance in {sum(stuck)} of {len(stuck)} final trainings (SAFS's median lead is "
        f"{contrast(MANY, 'safs-vanilla').median:.1f});",
        f"{deep('safs-srelu_hpo').difference:+.1f} is one collapse of SReLU (median "
        f"{deep('safs-srelu_hpo').median:.1f}).",
        f"without them it is {within(default, at='finite_')} ahead of tuned ReLU",
    ]


def cell(study: str, name: str, ratio: float) -> str:
    """A difference in the README's table: with p where preregistered, bold where decided."""
    if rows(study, "comparisons/comparisons", contrast=name, ratio=ratio).empty:
        return "–"
    found = contrast(study, name, ratio)
    asked = found.kind == "confirmatory"
    text = within(found, spec="+.1f", p=asked)
    if asked and found.p_holm <= LEVEL and found.low * found.high > 0:
        mean, _, rest = text.partition(" ")
        text = f"**{mean}** {rest}"
    return text


CITED = (
    "had 4.0, 3.3 and 3.0",  # of replicates that are not published: the last test
    "no more than .03 points",  # the test before it
    ".0001 is the least after Holm, and .09 is sure to .003",  # of the number of flips: likewise
    "1.1 core-hours",  # a time, apart from the digested table
    "Adam .001",  # a setting
)
"""What is no measured figure, or has a test of its own."""
SECTIONS = {
    "docs/FINDINGS.md": (
        decided,
        same_network,
        second_network,
        ten_of_the_fifty,
        other_ratios,
        for_and_against,
        unknown,
    ),
    "README.md": (opening,),
    "docs/LANDSCAPE.md": (landscape,),
    "docs/DEVIATIONS.md": (readings,),
}
PARTS = {
    "README.md": ("**The answer so far**", "## What was found"),
    "docs/LANDSCAPE.md": ("## What it says so far", "## Try your own search"),
    "docs/DEVIATIONS.md": ("`results/readings/tables/readings.md`", "## Data and replicates"),
}
"""From where to where a document tells results; else all of it."""


def text_of(document: str) -> str:
    """What a document tells of results, in one line."""
    text = (ROOT / document).read_text()
    if document in PARTS:
        first, last = PARTS[document]
        text = text[text.index(first) : text.index(last)]
    return re.sub(r"\s+", " ", text)


CASES = [(document, section) for document, sections in SECTIONS.items() for section in sections]


@pytest.mark.parametrize(("document", "section"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_a_section_says_what_the_tables_hold(document, section):
    text = text_of(document)
    missing = [sentence for sentence in section() if sentence not in text]
    assert not missing, f"{document} does not say: {missing}"


@pytest.mark.parametrize("document", SECTIONS)
def test_no_figure_is_unchecked(document):
    text = text_of(document)
    for sentence in [*(s for section in SECTIONS[document] for s in section()), *CITED]:
        text = text.replace(sentence, "")
    text = re.sub(r"(?<![\d.])\.(?:90|95|98|99)(?!\d)", "", text)  # pruning ratios
    left = re.findall(r".{0,40}(?<![\w.])[+-]?\d*\.\d.{0,20}", text)
    assert not left, f"{document} has figures that no table is asked for: {left}"


def test_the_kernels_speed_is_what_was_measured():
    text = " ".join((ROOT / name).read_text() for name in ("README.md", "docs/SPEED.md"))
    text = re.sub(r"\s+", " ", text)
    assert not [sentence for sentence in speed() if sentence not in text]


def test_images_widen_an_interval_by_as_little_as_findings_says():
    """Against paired t, by which the interval over images too is made."""
    for found in questions().values():
        assert 0 <= found.t_low - found.crossed_low < 0.03
        assert 0 <= found.crossed_high - found.t_high < 0.03


def test_a_p_of_drawn_flips_is_as_sure_as_findings_says():
    """Three standard errors of Holm's p of .09 are below .01, and the least is told as .0001."""
    claims = len(rows(FIFTY, "comparisons/claims", kind="exploratory"))
    p = claim(FIFTY, "rare_symexp")
    factor = p.p_holm / p.p
    assert 1 < factor <= claims
    error = factor * np.sqrt(p.p * (1 - p.p) / (SAMPLED / 2))
    assert 0.002 < error < 0.0035
    assert format(Figure(7 * attainable_p(50)), "p") == ".0001"


def test_the_powers_first_spreads_are_those_of_the_preregistration():
    text = (ROOT / "docs/PREREGISTRATION.md").read_text()
    for arm_name, spread in (("Default", "4.0"), ("SReLU", "3.3"), ("SReLU per layer", "3.0")):
        assert re.search(rf"\| SAFS - {arm_name} \+ HPO \| [\d.]+ \| {spread} \|", text)
