"""The landscape's file, its reader, what is counted on it, and the race."""

from __future__ import annotations

import math

import numpy as np
import pytest
from synthetic_landscape import synthetic_landscape

from bench.landscape import analysis, load, race, regret
from bench.landscape.space import Space
from bench.landscape.table import times_of
from safs.errors import SafsError
from safs.search import SEARCHES
from safs.search.base import Searcher

NAMES = ("relu6", "acon", "srs", "swish", "tanh")


@pytest.fixture
def table():
    return synthetic_landscape()


# The space


def test_every_chromosome_has_one_number():
    space = Space(NAMES, ("a", "b", "c"))
    assert space.distinct == ("relu6", "swish", "srs", "tanh")
    assert len(space) == 64
    assert [space.index(space.chromosome(i)) for i in range(64)] == list(range(64))
    assert space.index(("acon", "srs", "acon")) == space.index(("swish", "srs", "swish"))


def test_shells_fill_the_space_operator_by_operator():
    """The first k shells are exactly the space of the first k operators."""
    space = Space(NAMES, ("a", "b"))
    order = ("tanh", "srs", "acon", "relu6")
    shells = list(space.shells(order))
    assert [len(shell) for shell in shells] == [1, 3, 5, 7]
    for count in range(1, 5):
        found = sorted(i for shell in shells[:count] for i in shell)
        chosen = {space.index((name,) * 2) // 5 for name in order[:count]}
        assert found == sorted(i for i in range(16) if {i // 4, i % 4} <= chosen)


def test_the_sample_does_not_depend_on_what_is_asked_for():
    space = Space(NAMES, ("a", "b", "c"))
    first, second = space.sample(2023, 0, count=20), space.sample(2023, 1, count=20)
    assert len(first) == len(second) == 20
    assert first != second
    assert space.sample(2023, 0, count=10) < first


@pytest.mark.parametrize(
    ("chromosome", "line"),
    [
        (("srs",), "expected 3 operators"),
        ("srs", "expected 3 operators"),
        (("srs", "srs", "swich"), "did you mean 'swish'"),
    ],
)
def test_what_is_no_chromosome_is_one_line(chromosome, line):
    with pytest.raises(SafsError, match=line):
        Space(NAMES, ("a", "b", "c")).index(chromosome)


# The file


def test_a_table_is_read_as_it_was_written(table, tmp_path):
    path = table.write(tmp_path / "landscape-0.99.parquet")
    again = load(path)
    assert again.meta == table.meta
    assert again.digest == table.digest
    assert again.frame.equals(table.frame)
    np.testing.assert_array_equal(again.seconds, table.seconds.astype(np.float32))
    assert load(tmp_path).digest == table.digest, "a folder with one table stands for it"
    first = path.read_bytes()
    table.write(path)
    assert path.read_bytes() == first


def test_seconds_are_no_part_of_the_digest(table, tmp_path):
    path = table.write(tmp_path / "landscape-0.99.parquet")
    times_of(path).unlink()
    assert load(path).digest == table.digest
    assert np.isnan(load(path).evaluate(("srs",) * 4)["seconds"])


@pytest.mark.parametrize("column", ["train_loss_80", "test_accuracy", "outcome", "failed_epoch"])
def test_an_edited_row_is_refused(table, tmp_path, column):
    """Whoever edits a number and writes the file again is found by the digest."""
    path = table.write(tmp_path / "landscape-0.99.parquet")
    told = table.digest
    table.frame.loc[5, column] += 1
    assert table.digest != told
    type(table).digest, kept = property(lambda self: told), type(table).digest
    try:
        table.write(path)
    finally:
        type(table).digest = kept
    with pytest.raises(SafsError, match=r"landscape-0.99.parquet: its content does not fit"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a table" * 50])
def test_what_is_no_table_is_one_line(tmp_path, content):
    path = tmp_path / "landscape-0.99.parquet"
    path.write_bytes(content)
    with pytest.raises(SafsError, match="not a Parquet file that can be read") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(SafsError, match="no such file"):
        load(tmp_path / "other.parquet")
    path.unlink()
    with pytest.raises(SafsError, match=r"expected one table of a landscape, .*; found none"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda frame: frame.assign(index=frame["index"] + 10_000), "expected less than 256"),
        (lambda frame: frame.assign(index=frame["index"] * 0), "a training stands twice"),
        (lambda f: f.assign(test_accuracy=7.0), "column test_accuracy: 7; expected 0 to 1, or NaN"),
        (lambda f: f.assign(train_loss_20=-3.0), "train_loss_20: -3; expected 0 or more, or NaN"),
    ],
)
def test_rows_that_are_no_landscape_are_refused(table, tmp_path, change, line):
    """Though their digest is right: whoever writes a table can write it wrong."""
    wrong = type(table)(table.meta, change(table.frame).astype(table.meta.types))
    path = wrong.write(tmp_path / "landscape-0.99.parquet")
    with pytest.raises(SafsError, match=line):
        load(path)


@pytest.mark.parametrize(
    ("name", "change", "kind"),
    [
        ("replicate", lambda column: column.astype("int64") + 2**16, "int64"),
        ("index", lambda column: column + 0.5, "float64"),
        ("failed_epoch", lambda column: column.astype("int64") + 2**32, "int64"),
        ("test_accuracy", lambda column: column.astype("float64") * (1 + 1e-9), "float64"),
        ("test_accuracy", lambda column: column.astype(str), "object|str"),
        ("train_loss_80", lambda column: column.astype("float64"), "float64"),
    ],
)
def test_an_edit_that_a_cast_would_undo_is_refused(table, tmp_path, name, change, kind):
    """The digest is of single precision and short integers: these files have the same one."""
    import pyarrow as pa
    from pyarrow import parquet

    path = table.write(tmp_path / "landscape-0.99.parquet")
    before = parquet.read_table(path)
    frame = before.to_pandas()
    frame[name] = change(frame[name])
    edited = pa.Table.from_pandas(frame, preserve_index=False)
    parquet.write_table(edited.replace_schema_metadata(before.schema.metadata), path)
    with pytest.raises(SafsError, match=f"column {name}: type ({kind}); expected"):
        load(path)


# The reader


def test_a_search_never_sees_test_accuracy(table):
    told = table.evaluate(("srs",) * 4)
    assert set(told) == {"cost", "seconds", "validation_accuracy"}
    assert set(table.evaluate(("srs",) * 4, epochs=20)) == {"cost", "seconds"}
    assert table.evaluate(("acon",) * 4) == table.evaluate(("swish",) * 4)


def test_a_failed_training_is_the_worst(table):
    failed = table.frame[(table.frame["failed_epoch"] > 0) & (table.frame["order"] == 0)].iloc[0]
    chromosome = table.space.chromosome(int(failed["index"]))
    replicate = int(failed["replicate"])
    assert table.evaluate(chromosome, replicate)["cost"] == math.inf
    assert table.final(chromosome, replicate) == 0.0


def test_the_optimum_is_the_lowest_of_all(table):
    chromosome, loss = table.optimum(1)
    every = [table.evaluate(table.space.chromosome(int(i)), 1)["cost"] for i in table.indices]
    assert loss == min(every)
    assert table.evaluate(chromosome, 1)["cost"] == loss


@pytest.mark.parametrize(
    ("ask", "line"),
    [
        (lambda t: t.evaluate(("srs",) * 4, replicate=7), "replicate 7, order 0: not in this"),
        (lambda t: t.optimum(7), "replicate 7, order 0: not in this table"),
        (lambda t: t.evaluate(("srs",) * 4, epochs=30), "epochs 30: expected one of 10, 20, 40"),
        (lambda t: t.evaluate(("relu6",) * 4), "relu6 relu6 relu6 relu6: not in this table"),
        (lambda t: t.chromosome({"conv1_act": "srs"}), "configuration without"),
    ],
)
def test_what_a_table_does_not_know_is_one_line(table, ask, line):
    with pytest.raises(SafsError, match=line):
        ask(table)


def test_operators_count_when_all_their_chromosomes_are_there(table):
    kept = table.frame[table.frame["index"] != table.space.index(("tanh",) * 4)]
    part = type(table)(table.meta, kept.reset_index(drop=True))
    assert part.distinct == table.distinct[:-1]
    assert "tanh" not in part.operators


# The analysis


def test_effects_of_an_additive_landscape_are_its_main_effects(table):
    """Values that are a sum over slots have no interaction; shares follow from the sums."""
    sizes = {slot: k + 1.0 for k, slot in enumerate(table.meta.slots)}
    rng = np.random.default_rng(0)
    parts = {slot: size * rng.standard_normal(3) for slot, size in sizes.items()}
    values = np.array(
        [
            sum(
                parts[slot][table.distinct.index(name)]
                for slot, name in zip(table.meta.slots, table.space.chromosome(int(i)), strict=True)
            )
            for i in table.indices
        ]
    )
    found = analysis.effects(table, values)
    total = sum(part.var() for part in parts.values())
    for slot, part in parts.items():
        assert found[slot] == pytest.approx(part.var() / total)
    assert sum(v for k, v in found.items() if "*" in k or k == "rest") == pytest.approx(0, abs=1e-9)


def test_effects_of_one_interaction_are_that(table):
    signs = dict(zip(table.distinct, (-1, 0, 1), strict=True))
    chromosomes = [table.space.chromosome(int(i)) for i in table.indices]
    values = np.array([signs[c[0]] * signs[c[3]] for c in chromosomes], dtype=float)
    found = analysis.effects(table, values)
    assert found[f"{table.meta.slots[0]}*{table.meta.slots[3]}"] == pytest.approx(1)


def test_random_search_by_arithmetic_is_what_drawing_gives(table):
    """The mean of the lowest of five draws, which draw Swish twice as often as the others."""
    values = analysis.losses(table, 0)
    found = analysis.random_search(table, values, 5)
    rng = np.random.default_rng(0)
    full = np.full(len(table.space), np.nan)
    full[table.indices] = analysis.finite(values)
    names = [[table.operators[i] for i in row] for row in rng.integers(4, size=(20_000, 4))]
    drawn = full[[table.space.index(n) for n in names]].reshape(-1, 5).min(1)
    error = drawn.std() / len(drawn) ** 0.5
    assert abs(drawn.mean() - found["mean"]) < 4 * error
    assert found["q10"] == pytest.approx(np.quantile(drawn, 0.1), abs=0.05)


def test_the_early_loss_of_a_landscape_that_never_changes_tells_all(table):
    for epoch in table.meta.epochs[:-1]:
        table.frame[f"train_loss_{epoch}"] = table.frame["train_loss_80"]
    same = type(table)(table.meta, table.frame)
    for row in analysis.fidelity(same):
        assert row["all"] == pytest.approx(1)
        assert row["shared"] == 1
        assert row["regret"] == 0


def test_a_mask_s_best_has_no_regret_at_home(table):
    rows = {(r["on"], r["chromosome"]): r for r in analysis.transfer(table)}
    for replicate in table.replicates:
        own = rows[replicate, f"best of replicate {replicate}"]
        assert own["regret"] == 0
        assert own["better"] == 0
        assert all(row["regret"] >= 0 for (on, _), row in rows.items() if on == replicate)


def test_shares_of_variance_over_masks_sum_to_one(table):
    found = analysis.between(table)
    assert found["chromosome"] + found["replicate"] + found["interaction"] == pytest.approx(1)
    assert 0 <= found["noise"] < 1
    grid = np.array([analysis.finite(analysis.losses(table, r)) for r in table.replicates])
    assert found["chromosome"] == pytest.approx(grid.mean(0).var() / grid.var())
    assert found["replicate"] == pytest.approx(grid.mean(1).var() / grid.var())


def rows_of(table, replicate, order=0):
    """The rows of a replicate, a failed training's loss the highest and its accuracies 0."""
    frame = table.frame
    found = frame[(frame["replicate"] == replicate) & (frame["order"] == order)].copy()
    failed = found["failed_epoch"] > 0
    found["loss"] = found["train_loss_80"].where(~failed).fillna(found["train_loss_80"].max())
    for part in ("test", "validation"):
        found[part] = found[f"{part}_accuracy"].where(~failed, 0.0)
    return found.set_index("index").sort_index()


def test_shape_is_that_of_the_rows(table):
    """How many failed, how many stay where a network that learns nothing is, quantiles, tests."""
    first = table.frame.index[(table.frame["replicate"] == 0) & (table.frame["order"] == 0)]
    ended = first[table.frame.loc[first, "failed_epoch"] == 0][:3]
    table.frame.loc[ended, "train_loss_80"] = np.float32(math.log(10)) + np.float32(
        [0, 0.009, -0.009]
    )
    for row in analysis.shape(table):
        found = rows_of(table, row["replicate"])
        failed = found["failed_epoch"] > 0
        assert row["chromosomes"] == len(found) == 81 and row["failed"] == failed.sum()
        near = (found["train_loss_80"] - math.log(10)).abs() < 0.01
        assert row["stuck"] == (near & ~failed).sum() >= 3 * (row["replicate"] == 0)
        best = found["loss"].idxmin()
        assert row["best"] == " ".join(table.space.chromosome(int(best)))
        assert row["lowest"] == pytest.approx(found["loss"].min())
        for percent in (1, 10, 50, 90):
            assert row[f"q{percent}"] == pytest.approx(found["loss"].quantile(percent / 100))
        assert row["test_of_best"] == pytest.approx(found.loc[best, "test"])
        assert row["highest_test"] == pytest.approx(found["test"].max())
        assert row["median_test"] == pytest.approx(found["test"].median())


def test_agreement_is_spearmans_of_the_rows(table):
    """Over all, and among the tenth with the lowest loss; ``noise`` is the second batch order's."""
    found = {(row["replicate"], row["measures"]): row for row in analysis.agreement(table)}
    for replicate in table.replicates:
        rows, again = rows_of(table, replicate), rows_of(table, replicate, 1)
        for each in (rows, again):  # below every other
            each["loss"] = each["loss"].where(each["failed_epoch"] == 0, math.inf)
        rows["energy"], rows["other"] = -rows["loss"], again["loss"]
        best = rows.sort_values("loss", kind="stable").head(8)
        for name, a, b in (
            ("loss_test", "energy", "test"),
            ("loss_validation", "energy", "validation"),
            ("validation_test", "validation", "test"),
            ("noise", "loss", "other"),
        ):
            told = found[replicate, name]
            assert told["n"] == rows[b].notna().sum()
            for key, of in (("all", rows), ("among_best", best)):
                known = of[of[b].notna()]
                ranked = known[a].rank().corr(known[b].rank()) if len(known) > 2 else math.nan
                assert told[key] == pytest.approx(ranked, nan_ok=True)


def test_an_early_loss_that_ranks_the_other_way_round_is_seen(table):
    table.frame["failed_epoch"] = 0
    end = table.frame["train_loss_80"]
    table.frame["train_loss_80"] = end.fillna(end.max() + 1)
    table.frame["train_loss_10"] = -table.frame["train_loss_80"]
    for row in (row for row in analysis.fidelity(table) if row["epochs"] == 10):
        loss = analysis.losses(table, row["replicate"])
        assert row["all"] == pytest.approx(-1) and row["among_best"] == pytest.approx(-1)
        assert row["shared"] == 0
        assert row["regret"] == pytest.approx(loss.max() - loss.min())


def test_an_operators_mean_is_that_of_the_chromosomes_that_have_it_there(table):
    for row in analysis.operator_means(table):
        found = rows_of(table, row["replicate"])
        chromosomes = [table.space.chromosome(int(index)) for index in found.index]
        here = [chromosome[row["place"]] == row["operator"] for chromosome in chromosomes]
        assert row["slot"] == table.meta.slots[row["place"]] and sum(here) == 27
        assert row["loss"] == pytest.approx(found["loss"][here].mean())
        assert row["best"] == pytest.approx(found["loss"][here].min())


# The race


@pytest.mark.parametrize("name", [n for n in race.algorithms() if n not in race.SURROGATE])
def test_every_search_without_a_surrogate_races_and_repeats(table, name):
    chosen, lowest = race.race(table, name, 0, 12, range(5))
    again, _ = race.race(table, name, 0, 12, range(3, 5))
    assert chosen[3:] == again, "a run is its number's, whoever runs it"
    assert (np.diff(lowest, axis=1) <= 0).all()
    best = analysis.losses(table, 0).min()
    assert (lowest >= best).all()


def test_random_search_races_as_arithmetic_says(table):
    _, lowest = race.race(table, "random", 0, 6, range(400))
    said = analysis.random_search(table, analysis.losses(table, 0), 6)["mean"]
    ended = lowest[:, -1]
    ended = np.where(np.isfinite(ended), ended, analysis.finite(analysis.losses(table, 0)).max())
    assert abs(ended.mean() - said) < 4 * ended.std() / 20


def test_a_search_of_one_s_own_takes_part(table):
    @SEARCHES.register("first_operator")
    class First(Searcher):
        def _propose(self):
            return (self.operators[0],) * self.slots

        def _learn(self, chromosome, energy):
            return True

    try:
        assert "first_operator" in race.algorithms()
        chosen, _ = race.race(table, "first_operator", 0, 3, range(2))
        assert len(chosen) == 2
    finally:
        SEARCHES.remove("first_operator")


@pytest.mark.parametrize("budget", [3, 21, 100])
def test_halving_spends_no_more_epochs(budget):
    rungs = (10, 20, 40, 80)
    count = race.candidates(rungs, budget, 10_000)
    spent = lambda n: sum(a * b for a, b in race.planned(n, rungs, race.ETA))  # noqa: E731
    assert spent(count) <= budget * 80 < spent(count + 1)


def raced(table, name, chosen, budget=21):
    return race.Raced(
        algorithm=name, replicate=0, budget=budget, table=table.digest, identity="x",
        picked=" ".join(map(str, chosen)), lines=(),
    )  # fmt: skip


def test_differences_are_taken_run_by_run(table):
    loss = analysis.losses(table, 0)
    best = int(table.indices[np.argmin(loss)])
    others = [int(i) for i in table.indices[np.argsort(loss)][1:9]]
    rows = list(
        regret.compared(table, [raced(table, "lahc", [best] * 8), raced(table, "random", others)])
    )
    own = next(row for row in rows if row["algorithm"] == "lahc")
    change = loss.min() - np.sort(loss)[1:9]
    assert own["regret"] == 0
    assert own["optimum"] == 1
    assert own["test"] == pytest.approx(table.final(table.space.chromosome(best), 0))
    assert own["difference"] == pytest.approx(change.mean())
    assert own["low"] < own["difference"] < own["high"] < 0
    assert own["pairs"] >= 2
    assert "difference" not in next(row for row in rows if row["algorithm"] == "random")


def test_the_pairs_are_those_of_a_paired_t_test(table):
    """With as many pairs a paired t test finds the difference in 80 % of simulated studies."""
    from scipy import stats

    told = regret._difference(np.arange(1.0, 6.0), np.zeros(5))
    mean, sd = 3.0, np.std([1, 2, 3, 4, 5], ddof=1)
    draws = np.random.default_rng(0).normal(mean, sd, size=(4000, int(told["pairs"])))
    power = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    fewer = np.random.default_rng(0).normal(mean, sd, size=(4000, int(told["pairs"]) - 1))
    assert (stats.ttest_1samp(fewer, 0, axis=1).pvalue < 0.05).mean() < 0.8 < power + 0.02


def test_the_interval_of_few_runs_is_that_of_paired_t():
    """Two runs that are both ahead do not yet show that a search is."""
    from scipy import stats

    own, other = np.array([0.010, 0.013]), np.array([0.030, 0.042])
    told = regret._difference(own, other)
    low, high = stats.ttest_rel(own, other).confidence_interval(0.95)
    assert (told["low"], told["high"]) == pytest.approx((low, high))
    assert told["high"] > 0 > told["difference"]
    assert np.isnan(told["pairs"]), "two runs do not tell how many are needed"
    assert np.isnan(regret._difference(own[:1], other)["low"])
