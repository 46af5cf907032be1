"""The verdict rules, one case each, and the paper's Table 2 with simulated spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import paper, stats, verdicts
from bench.context import PairInfo
from bench.contrasts import Preregistration
from bench.records.collection import collect
from bench.records.record import Record
from bench.records.schema import pack
from bench.stats import Interval
from bench.tables import printed

NONE, INF = float("nan"), float("inf")


def test_margins() -> None:
    assert verdicts.margin("vgg16_cifar10") == 0.5
    assert verdicts.margin("resnet18_imagenet16") == 1.0
    assert verdicts.margin(None) == 0.5


@pytest.mark.parametrize(
    ("printed", "low", "high", "equivalent", "verdict"),
    [
        (8.9, 6.0, 12.0, False, "reproduced"),
        (8.9, 8.8, 8.85, True, "reproduced"),
        (8.9, 2.0, 5.0, False, "direction only"),
        (8.9, 9.5, 12.0, False, "direction only"),
        (8.9, -1.0, 4.0, False, "not reproduced"),
        (8.9, -4.0, -1.0, False, "contradicted"),
        (-2.0, 1.0, 4.0, False, "contradicted"),
        (8.9, -1.0, 20.0, False, "inconclusive"),
        (8.9, -INF, INF, True, "inconclusive"),
        (8.9, NONE, NONE, False, "inconclusive"),
        (0.0, 1.0, 2.0, False, "not reproduced"),
    ],
)
def test_gain(printed: float, low: float, high: float, equivalent: bool, verdict: str) -> None:
    found = verdicts.gain_verdict(printed, Interval((low + high) / 2, low, high, 6), equivalent)
    assert found.name == verdict
    assert found.rule


@pytest.mark.parametrize(
    ("low", "high", "n", "equivalent", "verdict"),
    [
        (77.0, 81.0, 5, False, "reproduced"),
        (79.5, 81.0, 5, True, "reproduced"),
        (80.0, 82.0, 5, False, "not reproduced"),
        (70.0, 90.0, 5, False, "inconclusive"),
        (77.0, 81.0, 2, False, "inconclusive"),
        (NONE, NONE, 5, False, "inconclusive"),
    ],
)
def test_level(low: float, high: float, n: int, equivalent: bool, verdict: str) -> None:
    found = verdicts.level_verdict(79.2, Interval(79.0, low, high, n), equivalent)
    assert found.name == verdict


def test_what_is_not_comparable_gets_no_verdict_and_says_why() -> None:
    ours = Interval(8.9, 8.0, 9.0, 10)
    for judge in (verdicts.gain_verdict, verdicts.level_verdict):
        assert judge(8.9, ours, True, "other data") == ("not comparable", "other data")


@settings(deadline=None)
@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0, 20), st.integers(0, 10))
def test_every_gain_gets_one_known_verdict(
    printed: float, low: float, width: float, n: int
) -> None:
    ours = Interval(low + width / 2, low, low + width, n)
    assert verdicts.gain_verdict(printed, ours, False).name in verdicts.VERDICTS


def test_table_2_with_simulated_spread() -> None:
    """Ten runs around the printed values reproduce the gains; the same around vanilla do not."""
    noise = np.random.default_rng(0).normal(0, 0.5, 10)
    for pair in ("lenet5_mnist", "vgg16_cifar10", "resnet18_cifar10"):
        printed = paper.gain(pair, "safs-vanilla", 0.99)
        assert printed is not None
        for true, verdict in (
            (printed, "reproduced"),
            (0.0, "not reproduced"),
            (-5, "contradicted"),
        ):
            test = stats.SignFlip(true + noise - noise.mean())
            equivalent = test.within(printed, verdicts.margin(pair))
            found = verdicts.gain_verdict(printed, test.interval(), equivalent)
            assert found.name == verdict


@pytest.mark.parametrize(
    ("mean", "verdict"), [(-0.06, "contradicted"), (0.0, "not reproduced"), (0.88, "reproduced")]
)
def test_a_gain_that_the_margin_holds_is_not_reproduced_by_none(
    mean: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's .88 of SAFS over SReLU on ImageNet-16, where the margin of a level is 1.0."""
    pair = "resnet18_imagenet16"
    (number,) = (n for n in paper.numbers(pair) if n.what == "safs-srelu" and n.ratio == 0.99)
    assert number.value == 0.88 < verdicts.margin(pair)
    values = mean + np.linspace(-0.04, 0.04, 8)
    monkeypatch.setattr(printed, "_our_values", lambda *_: values)
    info = PairInfo(label="", published=pair, comparable=True)
    row = printed._row(collect([]), synthetic.context(), pair, info, number)
    assert row["verdict"] == verdict and row["margin"] == 0.88


def _table2(folder: Path, shift: dict[str, float]) -> pd.Series[str]:
    """The verdicts on VGG-16's Table 2, where our runs are those of the paper but for ``shift``.

    Six replicates; each has a level of its own that all arms share (sd 0.4) and noise (sd 0.2).
    """
    rng = np.random.default_rng(5)
    pair, arms = "vgg16_cifar10", ("dense", "vanilla", "stage1_only", "stage2_only", "safs")
    runs = synthetic.expected(folder, arms, [0.99], 6, pair)
    blocks, order = rng.normal(0, 0.4, 6), np.random.default_rng(6).permutation(10_000)
    blocks -= blocks.mean()
    for run in runs:
        level = paper.published(pair, "table2", run.arm)["top1"]
        level += shift.get(run.arm, 0.0) + blocks[run.replicate] + rng.normal(0, 0.2)
        correct = order < round(100 * level)
        test = {"images": 10_000, "top1": correct.sum() / 10_000, "top5": 1.0, "loss": 1.0}
        found = synthetic.record(run.arm, 0.99, run.replicate, pair)
        values = found.model_dump(by_alias=True)
        values["finals"][0] |= {"test": test | {"correct": pack(correct)}}
        Record.model_validate(values).write(run.path)
    about = {"label": "VGG-16", "published": pair, "comparable": True}
    context = synthetic.context(pairs={pair: about}, ratios=(0.99,), replicates=6, arms=arms)
    rows = pd.DataFrame(printed.rows(collect(runs), context))
    return rows.set_index("what")["verdict"]


@pytest.mark.parametrize(
    ("shift", "verdicts_by_hand"),
    [
        ({}, dict.fromkeys(("dense", "vanilla", "stage1_only", "stage2_only", "safs",
                            "safs-vanilla"), "reproduced")),
        ({"safs": -4.0}, {"vanilla": "reproduced", "safs": "not reproduced",
                          "safs-vanilla": "direction only"}),
        ({"safs": -8.88}, {"safs": "not reproduced", "safs-vanilla": "not reproduced"}),
        ({"safs": -12.0}, {"safs": "not reproduced", "safs-vanilla": "contradicted"}),
        ({"dense": 3.0, "safs": 3.0, "vanilla": 3.0},
         {"dense": "not reproduced", "vanilla": "not reproduced", "safs-vanilla": "reproduced",
          "stage2_only": "reproduced"}),
    ],
    ids=["as printed", "half the gain", "no gain", "a loss", "all higher"],
)  # fmt: skip
def test_table_2_with_simulated_runs_gets_the_verdicts_one_would_write(
    shift: dict[str, float], verdicts_by_hand: dict[str, str], tmp_path: Path
) -> None:
    found = _table2(tmp_path, shift)
    assert {what: found[what] for what in verdicts_by_hand} == verdicts_by_hand


@pytest.mark.parametrize(
    ("low", "high", "n", "missing", "verdict", "words"),
    [
        (1.0, 2.0, 6, "", "holds", "the claim's side"),
        (-2.0, -1.0, 6, "", "fails", "the other side"),
        (-1.0, 1.0, 6, "", "undecided", "holds 0"),
        (0.0, 1.0, 6, "", "undecided", "holds 0"),
        (-INF, INF, 5, "", "undecided", "fewer than 6 replicates: the exact interval is unbounded"),
        (NONE, NONE, 0, "", "undecided", "(n = 0)"),
        (1.0, 2.0, 9, "the arm X was not run", "undecided", "the arm X was not run"),
    ],
)
def test_claims(low: float, high: float, n: int, missing: str, verdict: str, words: str) -> None:
    found = verdicts.claim_verdict(Interval((low + high) / 2, low, high, n), missing=missing)
    assert found.name == verdict and words in found.rule


@pytest.mark.parametrize(
    ("low", "high", "confirmed", "verdict"),
    [
        (1.0, 2.0, 0.03, "holds"),
        (1.0, 2.0, 0.05, "holds"),
        (-2.0, -1.0, 0.04, "fails"),
        (1.0, 2.0, 0.0625, "undecided"),
        (-2.0, -1.0, 0.0625, "undecided"),
        (-1.0, 2.0, 0.6, "undecided"),
    ],
)
def test_of_what_was_preregistered_holms_p_decides_too(
    low: float, high: float, confirmed: float, verdict: str
) -> None:
    ours = Interval((low + high) / 2, low, high, 6)
    found = verdicts.claim_verdict(ours, confirmed)
    assert found.name == verdict
    disagree = ours.side != 0 and verdict == "undecided"
    assert ("Holm's p over the study is 0.062" in found.rule) == disagree
    said = verdicts.contrast_words("SAFS - Vanilla", ours, confirmed)
    assert said.startswith("undecided: ") == disagree


def test_nothing_preregistered_is_decided_before_its_last_replicate() -> None:
    ours = Interval(1.5, 1.0, 2.0, 6)
    study = Preregistration(ratio=0.99, contrasts=("safs-vanilla",), replicates=7)
    assert study.unfinished(7) == Preregistration().unfinished(3) == ""
    missing = study.unfinished(6)
    said = verdicts.contrast_words("SAFS - Vanilla", ours, 0.03, missing)
    assert said == "undecided: so far 6 of the 7 preregistered replicates"
    assert verdicts.claim_verdict(ours, 0.03, missing).name == "undecided"


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Interval(NONE, NONE, NONE, 0), "no replicate has both runs"),
        (Interval(3.0, -INF, INF, 1), "no statement: 1 replicate cannot exclude anything, 6 can"),
        (Interval(3.0, -INF, INF, 5), "5 replicates cannot exclude anything"),
        (Interval(3.0, 1.0, 5.0, 6), "SAFS higher: 95% interval +1.00 to +5.00 points"),
        (Interval(-3.0, -5.0, -1.0, 6), "Vanilla higher"),
        (Interval(0.0, -1.0, 1.0, 6), "no difference shown"),
    ],
)
def test_words_rest_on_the_interval(interval: Interval, words: str) -> None:
    assert words in verdicts.contrast_words("SAFS - Vanilla", interval)
