"""A landscape in this process: what is trained, kept, gone on with, and trained once more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.landscape.promises import values
from bench.landscape.space import Space
from bench.landscape.table import load
from pipelines.cli import landscape as cli
from pipelines.config.profile import LandscapeStudy, Studies
from pipelines.config.study import Study
from pipelines.config.study import load as load_study
from pipelines.engine import recorded
from pipelines.results import archiving, landscapes, promises, racing, recomputed
from pipelines.stages import compare, landscape, pretrain, prune, records, report, search, tables
from pipelines.verification import landscape_sample
from safs import sealed
from safs.errors import SafsError
from safs.search.predictors import PREDICTORS
from safs.spec import Acceleration

ROOT = Path(__file__).parents[2]
PAIR, RATIO = "lenet5_generated", 0.95
PLACE = Path(f"results/smoke/records/{PAIR}/landscape-{RATIO}.parquet")


def study(*operators: str) -> Study:
    """Two replicates of the smoke profile at one ratio, with a landscape of some operators."""
    whole = load_study(Path("pipelines/profiles/smoke/params.yaml"), ROOT)
    cell = whole.profile.cells[f"{PAIR}-0.90"].model_copy(update={"ratio": RATIO})
    part = {"cells": ("only",), "operators": operators, "runs": 20, "surrogate_runs": (2, 2)}
    update = {
        "arms": ("stage1_only",), "pairs": (PAIR,), "cells": {"only": cell},
        "studies": Studies(landscape=LandscapeStudy(**part)), "replicates": 2,
    }  # fmt: skip
    pair = whole.pairs[PAIR]
    names = ("relu6", "acon", "srs", "swish", "symexp")
    search = pair.search.model_copy(update={"operators": names, "epochs": 4})
    fast = pair.fast.model_copy(update={"images": 32})  # fewer to ask predictors on
    pair = pair.model_copy(update={"search": search, "fast": fast})
    return Study(profile=whole.profile.model_copy(update=update), pairs={PAIR: pair})


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    """An empty working folder in which stages train in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFS_WORKERS", "0")
        patch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
        patch.chdir(tmp_path_factory.mktemp("landscape"))
        yield


@pytest.fixture(scope="module")
def finished(inline, tmp_path_factory):
    """The landscape of two operators, published, and a copy of all that it left."""
    of, kept = study("srs", "swish"), tmp_path_factory.mktemp("kept")
    pretrain.run(of, PAIR)
    prune.run(of, PAIR, RATIO)
    landscape.run(of, PAIR)
    table = landscapes.pack(of, PAIR, RATIO)
    table.write(PLACE)
    shutil.copytree(".", kept, symlinks=True, dirs_exist_ok=True)
    return of, kept


@pytest.fixture
def done(finished):
    """That landscape, whatever other tests did to its files."""
    of, kept = finished
    for path in Path().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(kept, ".", symlinks=True, dirs_exist_ok=True)
    return of


def stand() -> None:
    """Note, as the stage does, that the published rows of both replicates stand."""
    folder = Path(f"runs/smoke/landscape/{PAIR}/{RATIO}")
    for replicate in range(2):
        recorded.tell(folder / landscapes.note_of(replicate), PLACE)


def parts() -> dict[str, int]:
    found = Path(f"runs/smoke/landscape/{PAIR}/{RATIO}").glob("rows-*.json")
    return {path.name: path.stat().st_mtime_ns for path in found}


def test_every_chromosome_has_a_row_on_every_replicate(done):
    table = load(PLACE)
    assert table.replicates == (0, 1)
    assert table.distinct == ("srs", "swish")
    assert table.operators == ("acon", "srs", "swish")
    assert len(table.indices) == 16
    rows = table.frame
    assert (rows.groupby(["replicate", "order"]).size()[:, 0] == 16).all()
    assert set(rows["order"]) == {0, 1}, "some are trained under a second order"
    assert (table.seconds > 0).all()


def test_a_second_order_is_of_the_same_start(done):
    table = load(PLACE)
    other = table.values("train_loss_4", 0, order=1)
    first = table.values("train_loss_4", 0)
    both = ~np.isnan(other)
    assert both.any()
    assert (other[both] != first[both]).all()
    assert np.abs(other[both] - first[both]).max() < 1.0


def test_rows_are_what_stage_1_trains(done):
    """Every candidate of a search among the table's operators came out the same, bit for bit."""
    table, of = load(PLACE), study("srs", "swish")
    spec = of.pairs[PAIR].search.model_copy(update={"operators": ("srs", "swish")})
    pair = of.pairs[PAIR].model_copy(update={"search": spec})
    search.run(of.model_copy(update={"pairs": {PAIR: pair}}), PAIR, RATIO)
    for replicate in range(2):
        path = Path(f"runs/smoke/search/{PAIR}/{RATIO}/search-r{replicate}.json")
        rows = sealed.read(path)["trace"]["evaluations"]
        assert len(rows) == spec.evaluations
        for row in rows:
            place = table.row(row["chromosome"], replicate)
            assert int(table.frame["outcome"][place]) == int(row["outcome"][:16], 16)


def test_acon_is_swish_at_its_published_parameters(done):
    """The two names are one training: losses, accuracies and failures are the same bits."""
    of, table = study("srs", "swish"), load(PLACE)
    with landscape.Work(of, "landscape", PAIR, RATIO) as work:
        start = work.start(0)
        named = [("acon",) * 4, ("srs", "acon", "swish", "acon")]
        from pipelines.results.recomputed import trained

        for chromosome, told in zip(named, trained(work, start, table, 0, 0, named), strict=True):
            row = table.row(chromosome)
            for name, value in told.items():
                if name != "outcome":  # which names the operators
                    assert np.array_equal(table.frame[name][row], np.float32(value), equal_nan=True)
        for path in work.out.glob("rows-*.json"):
            work.named(path.name)


def test_a_finished_landscape_trains_nothing(done):
    before = parts()
    landscape.run(done, PAIR)
    assert parts() == before


def test_a_lost_part_alone_is_trained_again(done):
    before = parts()
    lost = Path(f"runs/smoke/landscape/{PAIR}/{RATIO}", sorted(before)[0])
    told = sealed.read(lost)["rows"]
    lost.unlink()
    shutil.rmtree("scratch/landscape")
    landscape.run(done, PAIR)
    after = parts()
    assert {name for name in after if after[name] != before.get(name)} == {lost.name}
    again = sealed.read(lost)["rows"]
    assert [{**r, "seconds": 0} for r in again] == [{**r, "seconds": 0} for r in told]


@pytest.fixture
def unasked(monkeypatch):
    """No predictor is asked, which takes longer than the trainings do; other tests ask them."""
    monkeypatch.setattr(landscape, "describe", lambda *_: None)


def test_another_operator_leaves_what_is_trained(done, unasked):
    before = parts()
    landscape.run(study("srs", "swish", "relu6"), PAIR)
    after = parts()
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)


def test_a_run_goes_on_from_the_published_table(done, unasked, monkeypatch):
    """In a clone without runs/ the published rows stand, after some of them were trained."""
    monkeypatch.setenv(recorded.ASKED, "1")
    shutil.rmtree("runs/smoke/landscape")
    shutil.rmtree("scratch/landscape", ignore_errors=True)
    more, again = study("srs", "swish", "relu6"), []

    def train_rows(work, starts, table, rows):
        again.append(len(rows))
        return recomputed.train_rows(work, starts, table, rows)

    monkeypatch.setattr(landscape, "train_rows", train_rows)
    landscape.run(more, PAIR)
    assert again == [landscape.CHECKED] * 2 == [8, 8], "some rows of each replicate are checked"
    table, before = landscapes.pack(more, PAIR, RATIO), load(PLACE)
    assert table.distinct == ("srs", "swish", "relu6")
    new = {(r, i) for r, part in landscapes.parts(more, PAIR, RATIO) for i in part["indices"]}
    old = {(r, i) for r in range(2) for i in before.trained(r)}
    assert new and not new & old, "what is published is not trained again"


def test_rows_from_another_start_are_not_joined(done, monkeypatch):
    """Replicate 0 has another mask now: its published rows go, those of replicate 1 stay."""
    of = study("srs", "swish")
    stand()
    found = [(0, {**part, "inputs": {**part["inputs"], "mask": "0" * 64}})
             for r, part in landscapes.parts(of, PAIR, RATIO) if r == 0][:1]  # fmt: skip
    monkeypatch.setattr(landscapes, "parts", lambda *_: iter(found))
    table = landscapes.pack(of, PAIR, RATIO)
    assert table.trained(1) == load(PLACE).trained(1)
    assert table.trained(0) | table.trained(0, 1) == set(found[0][1]["indices"])
    assert table.meta.starts["0"].mask == "0" * 64


@pytest.mark.parametrize("here", [(), (0,)])
def test_published_rows_that_stand_stay(done, monkeypatch, here):
    """In a plain ``dvc repro`` too; not those of other recipes, replicates or chromosomes."""
    monkeypatch.delenv(recorded.ASKED, raising=False)
    of, before = study("srs", "swish"), load(PLACE)
    found = [(r, part) for r, part in landscapes.parts(of, PAIR, RATIO) if r in here]
    monkeypatch.setattr(landscapes, "parts", lambda *_: iter(found))
    alone = landscapes.pack(of, PAIR, RATIO)
    assert (alone.replicates if alone else ()) == here, "nothing says that the rows stand"
    stand()
    assert landscapes.pack(of, PAIR, RATIO).frame.equals(before.frame)
    one = of.profile.model_copy(update={"replicates": 1})
    assert landscapes.pack(Study(profile=one, pairs=of.pairs), PAIR, RATIO).replicates == (0,)
    if not here:
        fewer = landscapes.pack(study("srs"), PAIR, RATIO)
        assert fewer.meta.trained == fewer.distinct == ("srs",)
        assert fewer.trained(0) == fewer.trained(1) == {fewer.space.index(("srs",) * 4)}
        pair = of.pairs[PAIR]
        recipe = pair.recipe.model_copy(update={"lr": 0.02})
        other = Study(profile=of.profile, pairs={PAIR: pair.model_copy(update={"recipe": recipe})})
        assert landscapes.pack(other, PAIR, RATIO) is None


def test_a_plain_repro_goes_on_with_rows_until_a_run_forgets_them(done, monkeypatch):
    monkeypatch.setenv(recorded.ASKED, "1")
    shutil.rmtree("runs/smoke/landscape")
    of, trained = study("srs", "swish"), landscape.train
    monkeypatch.setattr(landscape, "train", lambda *_: pytest.fail("published rows trained"))
    landscape.run(of, PAIR)
    monkeypatch.delenv(recorded.ASKED)
    landscape.run(of, PAIR)
    assert landscapes.pack(of, PAIR, RATIO).frame.equals(load(PLACE).frame)
    recorded.forget(Path("runs"), known=[PLACE])
    assert landscapes.going_on(of, PAIR, RATIO) is not None
    recorded.forget(Path("runs"))
    monkeypatch.setattr(landscape, "train", trained)
    landscape.run(of, PAIR)
    assert {r for r, _ in landscapes.parts(of, PAIR, RATIO)} == {0, 1}, "all trained"


def test_a_landscape_trains_with_the_profiles_acceleration(done, monkeypatch):
    of = study("srs", "relu6")
    faster = of.profile.model_copy(update={"acceleration": Acceleration(tf32=True)})
    told = []

    def train(*arguments, acceleration=None, **options):
        told.append(acceleration)
        raise SafsError("enough")

    monkeypatch.setattr("safs.training.loop.train", train)
    with pytest.raises(SafsError, match="enough"):
        landscape.run(Study(profile=faster, pairs=of.pairs), PAIR)
    assert told and all(each == faster.acceleration for each in told)


def test_an_operator_under_both_of_its_names_counts_once(done, monkeypatch):
    monkeypatch.setenv(recorded.ASKED, "1")
    of = study("acon", "srs", "swish")
    table = landscapes.pack(of, PAIR, RATIO)
    assert table.distinct == ("swish", "srs")
    assert table.operators == ("acon", "srs", "swish")


def test_a_published_row_that_does_not_come_out_is_refused(done, monkeypatch):
    monkeypatch.setenv(recorded.ASKED, "1")
    monkeypatch.setattr(landscape, "CHECKED", 1000)
    table = load(PLACE)
    table.frame.loc[3, "train_loss_4"] += np.float32(1e-6)
    table.write(PLACE)
    with pytest.raises(
        SafsError, match=r"train_loss_4 is .* here, .* in the table; move the table"
    ):
        landscape.run(study("srs", "swish", "symexp"), PAIR)


def test_rows_are_trained_once_more_by_command(done, monkeypatch, capsys):
    monkeypatch.setattr(cli, "study_of", lambda name: study("srs", "swish"))
    assert cli.retrain.callback("smoke", 5, 0, False) == 0
    assert "5 of 5 rows identical to the published table" in capsys.readouterr().out
    found = landscape_sample.retrain_sample(study("srs", "swish"), load(PLACE), 3, seed=1)
    assert all(each.same for each in found)


def test_what_rows_start_from_is_made_after_a_run_that_left_it_out(done):
    """A run from records leaves notes in runs/ in the place of networks and masks."""
    for stage, name in (("pretrain", "dense"), ("prune", "mask")):
        (place,) = {path.parent for path in Path("runs/smoke", stage).rglob(f"{name}-r0.*")}
        shutil.rmtree(place)
        for replicate in range(2):
            recorded.tell(place / f"recorded-r{replicate}.json", PLACE)
    found = landscape_sample.retrain_sample(study("srs", "swish"), load(PLACE), 2, seed=1)
    assert len(found) == 2 and all(each.same for each in found)


def test_another_start_is_refused(done):
    table = load(PLACE)
    start = table.meta.starts["0"].model_copy(update={"mask": "0" * 64})
    starts = {**table.meta.starts, "0": start}
    table.meta = table.meta.model_copy(update={"starts": starts})
    with pytest.raises(SafsError, match=r"replicate 0 does not start from .*: mask differs"):
        landscape_sample.retrain_sample(study("srs", "swish"), table, 3, seed=1)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"own_parameters": "both"}, "own_parameters: both"),
        ({}, "'tanh' is no candidate of lenet5_generated"),
    ],
)
def test_what_is_no_landscape_is_one_line(change, line):
    of = study("srs", "tanh")
    protocol = of.profile.protocol.model_copy(update=change)
    of = of.model_copy(update={"profile": of.profile.model_copy(update={"protocol": protocol})})
    with pytest.raises(SafsError, match=line):
        landscapes.space(of, PAIR, ("a", "b"))


def test_a_space_too_large_is_one_line():
    with pytest.raises(SafsError, match=r"4\^30 chromosomes; expected at most 1,000,000"):
        landscapes.space(study("srs"), PAIR, tuple(map(str, range(30))))


def test_the_records_stage_publishes_table_and_races(done, monkeypatch):
    """Table, races, tables, figures and page come out of the stages; a race done is kept."""
    monkeypatch.setattr(racing, "BUDGETS", (3, 4))  # a surrogate is fitted from five on
    of = study("srs", "swish")
    landscape.run(of, PAIR)
    search.run(of, PAIR, RATIO)
    records.run(of)
    races = sorted(PLACE.parent.glob("race-*.json"))
    assert len(races) >= 6
    with monkeypatch.context() as patch:
        patch.setattr(racing, "run", lambda *_: pytest.fail("raced again"))
        records.run(of)
    again = {p: sealed.read(p) for p in races}
    assert all(len(content["runs"]) == 4 for content in again.values())
    for stage in (tables, compare, report):
        stage.run(of)
    page = Path("results/smoke/report.html").read_text()
    assert "Searches raced on the landscape" in page
    assert "What could be said before any training" in page
    for name in ("race", "predictors"):
        assert Path(f"results/smoke/tables/landscape_{name}.csv").is_file()


def published(of: Study) -> Path:
    """What is said of the landscape of a study, brought into the open."""
    (place,) = promises.keep(of, PAIR, RATIO, load(PLACE))
    return place


def test_what_predictors_say_is_said_of_every_chromosome(done):
    """As the predictors say it of the networks themselves, from the same batch."""
    from pipelines.engine.trainings import candidate
    from pipelines.tasks.prediction import predict

    published(done)
    said, table = promises.read(done, load(PLACE)), load(PLACE)
    assert [each.replicate for each in said] == [0, 1]
    assert set(said[0].scores) == set(PREDICTORS)
    assert said[1].numbers.tolist() == table.indices.tolist()
    with landscape.Work(done, "landscape", PAIR, RATIO) as work:
        start, some = work.start(1), [("srs",) * 4, ("swish", "srs", "srs", "swish")]
        job = candidate(work, 1, start, work.pair.search, start.default)
        images = work.pair.fast.images
        told = work.run(predict, job, start.files(), some, list(PREDICTORS), images, True)
        for path in work.out.iterdir():
            work.named(path.name)
    places = [int(np.searchsorted(said[1].numbers, table.space.index(each))) for each in some]
    for name in PREDICTORS:
        assert [values(said[1].scores[name])[p] for p in places] == [
            row[name] for row in told["scores"]
        ]
    for layer, numbers in said[1].spectrum.items():
        rows = values(numbers).reshape(16, -1)
        assert [rows[p].tolist() for p in places] == [row[layer] for row in told["spectra"]]


def test_what_is_published_of_predictors_stands_while_it_would_be_said_again(done, monkeypatch):
    """Not under another batch, not for another start; and it goes where nothing holds any more."""
    place = published(done)
    before = place.read_bytes()
    for path in Path(f"runs/smoke/landscape/{PAIR}/{RATIO}").glob("predictors-*"):
        path.unlink()
    monkeypatch.setenv(recorded.ASKED, "1")
    with monkeypatch.context() as patch:
        patch.setattr(landscape, "predict", lambda *_: pytest.fail("said again"))
        landscape.run(done, PAIR)
    assert published(done).read_bytes() == before
    pair = done.pairs[PAIR]
    fast = pair.fast.model_copy(update={"images": 16})
    other = Study(profile=done.profile, pairs={PAIR: pair.model_copy(update={"fast": fast})})
    assert not list(promises.keep(other, PAIR, RATIO, load(PLACE)))
    table = load(PLACE)
    starts = {**table.meta.starts, "0": table.meta.starts["1"]}
    table.meta = table.meta.model_copy(update={"starts": starts})
    assert [each.replicate for each in promises.read(done, table)] == [1]
    table.indices = table.indices[1:]
    assert promises.read(done, table) == [], "it is of a chromosome that is not in the table"
    landscape.run(other, PAIR)
    assert published(other).read_bytes() != before


def test_what_was_said_before_a_kill_is_not_asked_again(done, monkeypatch):
    """The second part fails; the run after it asks for that one and the rest."""
    shutil.rmtree("scratch/landscape")
    for path in Path(f"runs/smoke/landscape/{PAIR}/{RATIO}").glob("predictors-*"):
        path.unlink()
    monkeypatch.setattr(landscape, "PART", 4)
    predict, asked = landscape.predict, []

    def once(job, files, part, *rest):
        asked.append((job.replicate, tuple(part)))
        if len(asked) == 3:
            raise SafsError("killed")
        return predict(job, files, part, *rest)

    monkeypatch.setattr(landscape, "predict", once)
    with pytest.raises(SafsError, match="killed"):
        landscape.run(done, PAIR)
    failed = asked[2]
    landscape.run(done, PAIR)
    assert len(asked) == 8 + 1 and asked.count(failed) == 2, "four parts of two replicates"
    assert len(promises.read(done, load(PLACE))) == 0 and published(done).is_file()


def test_a_published_file_of_predictors_that_was_edited_is_one_line(done):
    place = published(done)
    place.write_text(place.read_text().replace("0.", "0.1", 1))
    with pytest.raises(SafsError, match=r"predictors-0.95.json: its content does not fit"):
        promises.read(done, load(PLACE))


def test_searches_are_raced_by_command(done, monkeypatch, capsys):
    monkeypatch.setattr(cli, "study_of", lambda name: study("srs", "swish"))
    cli.race.callback("smoke", ("lahc,", "random,lahc"), 4, 2, 5, True)
    rows = json.loads(capsys.readouterr().out)["landscape_race"]
    assert {(row["algorithm"], row["replicate"], row["runs"]) for row in rows} == {
        (name, replicate, 4) for name in ("lahc", "random") for replicate in range(2)
    }
    assert all(row["regret"] >= 0 and row["budget"] == 5 for row in rows)
    with pytest.raises(SafsError, match="unknown search algorithm 'lach'; did you mean 'lahc'"):
        cli.race.callback("smoke", ("lach",), 4, 2, 5, False)


def test_a_profile_without_a_landscape_is_one_line(inline, monkeypatch):
    monkeypatch.setattr(cli, "study_of", lambda name: load_study(Path("params.yaml"), ROOT))
    with pytest.raises(SafsError, match="quick: no landscape is published"):
        cli.race.callback("quick", (), 4, 2, 5, False)


def test_a_predictor_without_a_finite_score_ranks_last():
    told = promises.content([{"scores": [{"a": None}], "spectra": [{"c": [None, 1.5]}]}])
    assert told == {"scores": {"a": "-inf"}, "spectrum": {"c": "inf 1.5"}}


def test_a_replicate_is_whole_with_its_landscape_alone(done, monkeypatch):
    of = study("srs", "swish")
    assert landscapes.complete(of, PAIR, RATIO, 0) and promises.complete(of, PAIR, RATIO, 0)
    with monkeypatch.context() as patched:
        patched.setattr(promises, "identity", lambda *given: "another")
        assert not promises.complete(of, PAIR, RATIO, 0)
    assert not landscapes.complete(study("srs", "swish", "symexp"), PAIR, RATIO, 0)
    assert archiving.folder(of).is_dir()


def test_the_space_of_a_profile_is_its_candidates(done):
    of = study("srs", "swish")
    space = landscapes.space(of, PAIR, load(PLACE).meta.slots)
    assert space == Space(of.pairs[PAIR].search.operators, load(PLACE).meta.slots)
    assert landscapes.marks(80) == (10, 20, 40, 80)
    assert landscapes.marks(4) == (1, 2, 4)
