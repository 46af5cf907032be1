"""Figures: present where their data are, with the data beside them, the same bytes twice."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
from matplotlib import colormaps, colors
from matplotlib.figure import Figure
from synthetic import PAIR, RATIOS, SHOWN_ARMS
from synthetic_landscape import traces_with_landscape

from bench import figures, stats
from bench.context import Context
from bench.figures import (
    PLOTS,
    Drawn,
    accuracy,
    algorithms,
    compression,
    forest,
    heat_map,
    learned,
    operators,
    plot,
    search_trace,
    style,
)
from bench.figures.forest import Row
from bench.figures.plot import Plot, Source
from bench.records.collection import Collection, collect
from bench.records.traces import Traces, search_frame
from bench.render import write_all
from bench.tables.comparisons import compare
from safs.arms import ARMS
from safs.operators import OPERATORS
from safs.rows import SearchTrace

SWEPT = ("all_swish", "all_tanh")


def draw(runs: Collection, traces: Traces, context: Context) -> dict[str, Drawn]:
    return figures.draw_all(Source(runs, compare(runs, context), traces, context))


def one(plot: Plot, runs: Collection, traces: Traces, context: Context) -> Drawn:
    """A single figure."""
    comparisons = compare(runs, context)
    return figures.draw_all(Source(runs, comparisons, traces, context), (plot,))[plot.name]


@pytest.fixture(scope="module")
def context() -> Context:
    return synthetic.context(swept=SWEPT, pairs={PAIR: {"label": "A<b>&$x$"}})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """With the activation study, and one failed run."""
    asked = synthetic.expected(tmp_path_factory.mktemp("runs"), arms=(*SHOWN_ARMS, *SWEPT))
    synthetic.write(asked)
    path = next(run.path for run in asked if run.key == (PAIR, 0.99, 1, "safs"))
    synthetic.failed("safs", 0.99, 1, "nan").write(path)
    return collect(asked)


@pytest.fixture(scope="module")
def drawn(runs: Collection, context: Context) -> dict[str, Drawn]:
    return draw(runs, traces_with_landscape(), context)


def test_every_figure_is_drawn_and_has_its_data_beside_it(
    drawn: dict[str, Drawn], tmp_path: Path
) -> None:
    assert list(drawn) == [plot.name for plot in PLOTS]
    paths = write_all(drawn.values(), tmp_path)
    assert {path.suffix for path in paths.values()} == {".svg", ".csv"}
    for name, figure in drawn.items():
        text = paths[f"{name}.svg"].read_text()
        assert text.startswith(f'<svg role="img" aria-labelledby="plot-{name}-title')
        assert "<image" not in text, "vector graphics only"
        assert len(pd.read_csv(paths[f"{name}.csv"])) == len(figure.frame)


def test_figures_are_the_same_bytes_twice(
    drawn: dict[str, Drawn], runs: Collection, context: Context
) -> None:
    again = draw(runs, traces_with_landscape(), context)
    assert all(figure.svg == again[name].svg for name, figure in drawn.items())


def test_no_empty_figure(tmp_path: Path) -> None:
    two = (*SHOWN_ARMS[:2], *SWEPT)
    runs = synthetic.collection(tmp_path, arms=two)
    made = draw(runs, Traces(), synthetic.context(swept=SWEPT, arms=SHOWN_ARMS[:2]))
    assert set(made) == {"accuracy", "activations"}, "two arms make no contrast"
    nothing = collect(synthetic.expected(Path("none")))
    assert set(draw(nothing, Traces(), synthetic.context())) == {"accuracy"}


def test_a_search_without_any_success_and_ratios_that_differ(runs: Collection) -> None:
    bad = synthetic.search_trace(0.9).model_dump(by_alias=True)
    for evaluation in bad["evaluations"]:
        evaluation |= {"energy": None, "status": "failed", "reason": "nan"}
    other = synthetic.search_trace(0.95, pair="other")
    traces = Traces((SearchTrace.model_validate(bad), other))
    made = draw(runs, traces, synthetic.context(swept=SWEPT))
    assert {"search_trace", "operators"} <= set(made) and "algorithms" not in made
    assert "other, 95%" in made["search_trace"].svg


def test_the_mean_trace_starts_where_every_replicate_has_a_best() -> None:
    def failing(replicate: int, until: int) -> SearchTrace:
        data = synthetic.search_trace(replicate=replicate).model_dump(by_alias=True)
        for evaluation in data["evaluations"][:until]:
            evaluation |= {"energy": None, "status": "failed", "reason": "nan"}
        return SearchTrace.model_validate(data)

    frame = search_frame([failing(0, 0), failing(1, 3), failing(2, 21)])
    (panel,) = search_trace.draw(frame, synthetic.context()).axes
    (mean,) = [line for line in panel.lines if line.get_label() == "best so far, mean"]
    evaluations, energies = mean.get_xdata(), mean.get_ydata()
    best = frame.pivot(index="evaluation", columns="replicate", values="best")
    assert list(evaluations) == list(best.index[3:])
    assert list(energies) == pytest.approx(list(best[[0, 1]].iloc[3:].mean(axis=1)))


def test_figure_text_is_escaped(drawn: dict[str, Drawn]) -> None:
    assert any("A&lt;b&gt;&amp;$x$" in figure.svg for figure in drawn.values())
    assert not any("<b>" in figure.svg for figure in drawn.values())


def test_accuracy_shows_every_run_of_the_arms_and_no_study(
    drawn: dict[str, Drawn], runs: Collection
) -> None:
    frame = drawn["accuracy"].frame
    assert set(frame["arm"]) == set(SHOWN_ARMS)
    assert len(frame) == 3 + 3 * 3 * 5 and frame["top1"].isna().sum() == 0


def test_accuracy_marks_a_collapse_and_keeps_its_axis(drawn: dict[str, Drawn]) -> None:
    low, high = accuracy.limits(np.array([50.0, 51, 52, 53, 54, 55, 56, 10]))
    assert 49 < low < 50 and 56 < high < 57
    alike = accuracy.limits(np.full(4, 9.8))
    assert alike[0] < 9.8 < alike[1]
    assert ">10.0</text>" in drawn["accuracy"].svg, "chance, of the run that failed"


def test_accuracy_has_few_colours(drawn: dict[str, Drawn]) -> None:
    assert len(set(re.findall(r"#[0-9a-f]{6}", drawn["accuracy"].svg)) - {"#888888"}) <= 8


def test_counts_can_be_read_on_every_colour_of_their_map() -> None:
    def luminance(colour: object) -> float:
        rgb = np.array(colors.to_rgb(colour))
        linear = np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for share in np.linspace(0, 1, 201):
        pair = luminance(colormaps[heat_map.MAP](share)), luminance(heat_map.ink(share))
        assert (max(pair) + 0.05) / (min(pair) + 0.05) >= 4.5


def test_operators_say_what_was_tried_and_what_won_alone(runs: Collection) -> None:
    own = [t for t in synthetic.traces().search if t.algorithm == "lahc" and t.ratio == 0.99]
    tried = Counter(name for t in own for e in t.evaluations for name in e.chromosome)
    most = {OPERATORS[name].label for name, n in tried.items() if n == max(tried.values())}
    traces = synthetic.traces()
    said = one(operators.PLOT, runs, traces, synthetic.context(swept=SWEPT)).words
    assert f"tried {' and '.join(sorted(most))} most often" in said
    assert f"in {100 * max(tried.values()) / tried.total():.1f}% of all" in said
    assert "was not searched" in said
    alone = tuple(synthetic.single_trace(r, best) for r, best in enumerate(("srs", "srs", "tanh")))
    traces = dataclasses.replace(traces, others=alone)
    drawn = one(operators.PLOT, runs, traces, synthetic.context(swept=SWEPT))
    assert "best single operator is most often SRS, in 2 of 3 replicates" in drawn.words
    rows = drawn.frame[(drawn.frame["ratio"] == 0.99) & (drawn.frame["operator"] == "tanh")]
    assert set(rows["best_single"]) == {1} and set(rows["singles"]) == {3}


def test_learned_is_alpha_f_of_beta_x_at_the_highest_ratio(drawn: dict[str, Drawn]) -> None:
    frame = drawn["learned"].frame
    assert set(frame["ratio"]) == {0.99} and set(frame["replicate"]) == {0, 2}
    expected = 1.1 * np.sign(frame["x"]) * np.log1p(np.abs(1.1 * frame["x"]))  # Symlog
    assert frame["learned"].to_numpy() == pytest.approx(expected.to_numpy())
    assert len(frame) == 2 * 4 * frame["x"].nunique()


def test_learned_has_the_replicates_that_are_drawn(
    runs: Collection, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records have what the others learned."""
    monkeypatch.setattr(learned, "SHOWN", 1)
    frame = one(learned.PLOT, runs, synthetic.traces(), context).frame
    assert set(frame["replicate"]) == {0}


def test_every_operator_but_the_papers_srelu_may_be_tried_everywhere() -> None:
    """Also one whose name begins alike."""
    OPERATORS.add("srelu_soft", dataclasses.replace(OPERATORS["tanh"], name="srelu_soft"))
    try:
        assert "all_srelu_soft" in ARMS
        assert not {"all_srelu", "all_srelu_layer", "all_srelu_released"} & {*ARMS}
    finally:
        OPERATORS.remove("srelu_soft")


def test_learned_leaves_out_what_has_no_formula_here(
    runs: Collection, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = dataclasses.replace(OPERATORS["symlog"], formula=None)
    monkeypatch.setitem(OPERATORS._entries, "symlog", entry)
    source = Source(runs, compare(runs, context), synthetic.traces(), context)
    assert learned.data(source).empty


def test_activations_are_means_and_ranges_of_the_study(
    drawn: dict[str, Drawn], runs: Collection
) -> None:
    frame = drawn["activations"].frame.set_index(["ratio", "arm"])
    assert {m for _, m in frame.index} == {"vanilla", "safs", *SWEPT}
    values = runs.series(PAIR, 0.95, "all_tanh")
    row = frame.loc[(0.95, "all_tanh")]
    assert row["mean"] == pytest.approx(values.mean())
    assert (row["low"], row["high"], row["n"]) == (values.min(), values.max(), 3)
    assert frame.loc[(0.99, "safs"), "n"] == 3  # the run that failed counts as chance


def test_recipes_compare_vanilla_with_a_tuned_arm_without_a_search(
    drawn: dict[str, Drawn], runs: Collection, context: Context
) -> None:
    frame = drawn["recipes"].frame
    assert set(frame["arm"]) == {"vanilla", "stage2_only"}
    assert len(frame) == len(RATIOS) * 2 * 20
    tests = frame.dropna(subset=["test"])
    assert set(tests["epoch"]) == {20} and len(tests) == 6
    first = tests[(tests["arm"] == "vanilla") & (tests["ratio"] == 0.9)]
    assert first["test"].item() == pytest.approx(runs.series(PAIR, 0.9, "vanilla").mean())


def test_algorithms_are_tested_against_the_profiles_own(drawn: dict[str, Drawn]) -> None:
    frame = drawn["algorithms"].frame
    assert set(frame["series"]) == {"raw", "smoothed"} and set(frame["ratio"]) == {0.99}
    final = {
        (t.algorithm, t.replicate): min(e.energy for e in t.evaluations if e.energy is not None)
        for t in synthetic.traces().search
        if t.ratio == 0.99
    }
    values = [final["random", r] - final["lahc", r] for r in range(3)]
    row = frame[frame["algorithm"] == "random"].iloc[0]
    assert row["difference"] == pytest.approx(np.mean(values))
    assert (row["p"], row["p_attainable"]) == (stats.sign_flip_p(values), 0.25)
    assert np.isnan(frame.loc[frame["algorithm"] == "lahc", "difference"]).all()
    raw = frame[(frame["series"] == "raw") & (frame["algorithm"] == "random")]
    assert raw["mean"].is_monotonic_decreasing
    smooth = frame[(frame["series"] == "smoothed") & (frame["algorithm"] == "random")]
    steps = np.log(smooth["evaluation"] + 1)
    slopes = [
        (b - a) / (d - c)
        for (a, b), (c, d) in zip(
            itertools.pairwise(smooth["mean"]), itertools.pairwise(steps), strict=True
        )
    ]
    assert slopes == pytest.approx([slopes[0]] * len(slopes)), "a + b log(candidates)"


def test_algorithms_of_ones_own_take_part_and_leave_the_others_as_they_are(
    drawn: dict[str, Drawn], runs: Collection, context: Context
) -> None:
    traces = synthetic.traces()
    added = tuple(
        synthetic.search_trace(0.99, replicate, algorithm=name, start=1.0)
        for name in ("somebodys_own", "evolution")
        for replicate in range(3)
    )
    more = dataclasses.replace(traces, search=(*traces.search, *added))
    made = one(algorithms.PLOT, runs, more, context)
    shared = made.frame[~made.frame["algorithm"].isin(["somebodys_own", "evolution"])]
    pd.testing.assert_frame_equal(
        shared.reset_index(drop=True), drawn["algorithms"].frame.reset_index(drop=True)
    )
    labels = ["LAHC", "SA", "RS", "BO", "Regularised evolution", "somebodys_own"]
    assert legend_of(made) == labels and legend_of(drawn["algorithms"]) == labels[:4]
    assert "somebodys_own - LAHC: final loss differs by -" in made.words
    for colour in style.PALETTE[:6]:
        assert colour.lower() in made.svg


def legend_of(figure: Drawn) -> list[str]:
    """The labels of the legend, which is the last thing drawn, from top to bottom."""
    legend = figure.svg[figure.svg.rindex('id="plot-algorithms-legend_') :]
    return re.findall(r"<text[^>]*>([^<]+)</text>", legend)


def test_flow_has_every_definition(drawn: dict[str, Drawn]) -> None:
    frame = drawn["flow"].frame.set_index(["definition", "ratio", "arm", "epoch"])
    assert set(frame.index.levels[0]) == {"flow", "flow_step", "flow_released"}
    row = frame.loc[("flow", 0.99, "safs", 2)]
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.55, 0.5, 0.6))


def test_compression_has_the_paper_only_where_it_prints(runs: Collection) -> None:
    pairs = {PAIR: {"label": "V", "published": "vgg16_cifar10", "comparable": True}}
    context = synthetic.context(swept=SWEPT, pairs=pairs)
    frame = one(compression.PLOT, runs, Traces(), context).frame
    printed = frame.dropna(subset=["paper_gain"])
    assert printed["arm"].tolist() == ["safs"] * 3
    assert printed["paper_gain"].tolist() == [1.65, 7.45, 8.88]


def test_differences_are_the_comparisons_and_answers_the_main_ones(
    drawn: dict[str, Drawn], runs: Collection, context: Context
) -> None:
    every = drawn["differences"].frame
    compared = compare(runs, context).contrasts.frame
    assert len(every) == len(compared) == 5 * len(RATIOS)
    assert every["difference"].tolist() == compared["difference"].tolist()
    answers = drawn["answers"].frame
    assert answers["contrast"].tolist() == ["safs-vanilla", "safs-srelu"]
    assert set(answers["ratio"]) == {0.99} and set(answers["failures_a"]) == {1}
    assert "SAFS - Vanilla, n = 3, failed 1 : 0 of 3" in drawn["answers"].svg


def test_a_forest_plot_marks_what_leaves_its_axis() -> None:
    rows = [
        Row(0, 2.0, (-np.inf, np.inf), (-40.0, 44.0)),
        Row(1, 1.0, (-1.0, 3.0)),
        Row(2, np.nan),
    ]
    low, high = forest.limits(rows)
    assert low < -1 and high > 3, "holds what is bounded"
    assert low > -6 and high < 8, "and is not driven by what is beside it"
    ax = Figure().subplots()
    forest.panel(ax, rows, 3)
    arrows = [float(found.get_offsets()[0, 0]) for found in ax.collections]
    assert arrows.count(low) == arrows.count(high) == 2, "both lines of the first row"
    assert [x for x in arrows if x not in (low, high)] == [2.0, 1.0]
    assert forest.limits([Row(0, 0.0)])[0] < 0 < forest.limits([Row(0, 0.0)])[1]


@pytest.mark.parametrize("plot", [accuracy.PLOT, search_trace.PLOT], ids=lambda plot: plot.name)
def test_a_narrow_figure_of_many_replicates_holds_its_legend(
    plot: Plot, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    context = synthetic.context(ratios=(0.99,), replicates=50)
    runs = synthetic.collection(tmp_path, ratios=(0.99,), replicates=50)
    (trace, *_) = synthetic.traces().search
    searches = [trace.model_copy(update={"replicate": r, "ratio": 0.99}) for r in range(50)]
    traces = Traces(search=tuple(searches))
    source = Source(runs, compare(runs, context), traces, context)
    figure = plot.draw(plot.data(source), context)
    style.svg(figure, plot.name, "", "")
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.height < figure.bbox.height / 2
    assert not [w for w in recwarn if "constrained_layout" in str(w.message)]


def test_long_titles_and_legends_leave_the_panel_its_room() -> None:
    """A title breaks where it is wider than its panel; many legend lines make a figure higher."""
    figure, axes = plot.panels(1, 1, 3.2, 2.9)
    axes[0, 0].set_title("EfficientNet-B0 / Fashion-MNIST RGB (16 px), 90%\nflow")
    plot.wrap_titles(figure)
    lines = axes[0, 0].get_title().split("\n")
    assert " ".join(lines) == "EfficientNet-B0 / Fashion-MNIST RGB (16 px), 90% flow"
    assert len(lines) == 3 and max(map(len, lines)) * plot.LETTER <= plot.AXES * 3.2
    axes[0, 0].set_title("stage1_0_block_squeeze_and_excite_activation")
    plot.wrap_titles(figure)
    assert axes[0, 0].get_title() == "stage1_0_block_squeeze_and_\nexcite_activation"
    axes[0, 0].set_title("LeNet-5 / MNIST-5k, 99%")
    plot.wrap_titles(figure)
    assert axes[0, 0].get_title() == "LeNet-5 / MNIST-5k, 99%"
    for place in range(10):
        axes[0, 0].plot([0, 1], label=f"candidate, replicate {place}")
    plot.legend(figure, loc="outside lower center", ncols=3)
    assert figure.get_figheight() == pytest.approx(2.9 + 10 * plot.LINE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), format="svg")
