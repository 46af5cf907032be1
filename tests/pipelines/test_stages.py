"""The training stages in this process: sparsity of every saved net, reads of the test images,
what is kept and what is trained again, and what a diverged run leaves behind."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from bench.records import finals
from bench.records.archive import Replicate
from bench.records.record import Record
from bench.records.schema import Protocol
from pipelines.cli import main as cli
from pipelines.cli import runs as cli_runs
from pipelines.config.pair import Pair
from pipelines.config.profile import Profile, Reading, Studies
from pipelines.config.study import Study, load
from pipelines.dvc import launch
from pipelines.dvc.alone import alone
from pipelines.engine import recorded
from pipelines.engine import trainings as jobs
from pipelines.engine.work import Work
from pipelines.results import archiving, describing
from pipelines.results import sums as digests
from pipelines.results.publishing import collection, context, expected
from pipelines.results.publishing import published as opened
from pipelines.stages import (
    activations,
    algorithms,
    baselines,
    compare,
    evaluate,
    pretrain,
    prune,
    readings,
    records,
    report,
    search,
    sums,
    tables,
    tune,
)
from pipelines.storage import artefacts, layout
from pipelines.tasks import evaluation as scoring
from pipelines.tasks.shared import empty
from pipelines.verification import checking, rebuilding, retraining
from safs import sealed
from safs.errors import SafsError
from safs.pruning.scopes import kept
from safs.rows import Trained
from safs.slots import slots
from safs.spec import Spec
from safs.training import evaluation, scores

ROOT = Path(__file__).parents[2]
PAIR, RATIO = "lenet5_generated", 0.95
ARMS = ("vanilla", "srelu", "stage1_only", "stage2_only", "safs")
SWEPT = ("all_tanh", "all_prelu")
EDITS = [(r"(\d\.)(\d)", r"\g<1>9\g<2>"), (r"(: \d+)(,?\n)", r"\g<1>1\g<2>")]
"""The first number with a decimal point, and the first whole one, are given a digit more."""


def study(**recipe: object) -> Study:
    """The smoke profile with few arms at one ratio, its dense recipe changed."""
    whole = load(Path("pipelines/profiles/smoke/params.yaml"), ROOT)
    cell = whole.profile.cells[f"{PAIR}-0.90"].model_copy(update={"ratio": RATIO})
    studies = Studies(
        activations={"operators": ("tanh", "prelu"), "cells": ("only",)},
        algorithms={"algorithms": ("lahc", "random"), "cells": ("only",)},
    )
    profile = whole.profile.model_copy(
        update={"arms": ARMS, "pairs": (PAIR,), "cells": {"only": cell}, "studies": studies}
    )
    pair = whole.pairs[PAIR]
    pair = pair.model_copy(update={"recipe": pair.recipe.model_copy(update=recipe)})
    return Study(profile=profile, pairs={PAIR: pair})


CELL = (PAIR, RATIO)
PLACES = {
    pretrain: (PAIR,), prune: CELL, baselines: CELL, search: CELL, tune: CELL,
    activations: (PAIR,), algorithms: (PAIR,), evaluate: (PAIR,),
}  # fmt: skip
READ: dict[str, dict[type, set[str]]] = {stage.__name__.rpartition(".")[2]: {} for stage in PLACES}
"""Which fields of the profile and the pair each stage read when it made everything."""


def run_all(of: Study) -> None:
    for stage, place in PLACES.items():
        stage.run(of, *place)


def watched(spec: Spec, read: dict[type, set[str]]) -> Spec:
    """The same values, where every field that is read is noted by its class."""
    kind = type(spec)
    fields = read.setdefault(kind, set())

    class Watched(kind):
        def __getattribute__(self, name: str) -> object:
            if name in kind.model_fields:
                fields.add(name)
            return super().__getattribute__(name)

    return Watched.model_construct(**dict(spec))


@contextmanager
def restored(*paths: Path) -> Iterator[None]:
    """Files of the shared folder, which are as they were again afterwards."""
    before = {path: path.read_bytes() for path in paths}
    try:
        yield
    finally:
        for path, content in before.items():
            path.write_bytes(content)


class Reads:
    """Counts how often the test images are opened for scoring."""

    def __init__(self) -> None:
        self.count, self.original = 0, evaluation.load_test

    def __call__(self, *arguments):
        self.count += 1
        return self.original(*arguments)


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    """An empty working folder in which stages train in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFS_WORKERS", "0")
        patch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
        patch.chdir(tmp_path_factory.mktemp("stages"))
        reads = Reads()
        patch.setattr(evaluation, "load_test", reads)
        yield reads


@pytest.fixture(scope="module")
def done(inline):
    of = study()
    for stage, read in zip(PLACES, READ.values(), strict=True):
        pairs = {PAIR: watched(of.pairs[PAIR], read)}
        profile = watched(of.profile, read)
        stage.run(Study.model_construct(profile=profile, pairs=pairs, readings={}), *PLACES[stage])
    return inline


def modified() -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in Path("runs").rglob("*") if p.is_file()}


def test_test_images_are_opened_once_per_arm_and_replicate(done):
    runs = (len(ARMS) + len(SWEPT) + 1) * 2
    assert done.count == runs
    evaluate.run(study(), PAIR)
    assert done.count == runs, "a record that exists is not measured again"


@pytest.mark.parametrize("stage", READ)
def test_dvc_follows_every_value_that_a_stage_reads(done, stage):
    """What names a stage's folder DVC has in its command; what counts epochs, or chooses a
    device, changes no result."""
    told = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["do"]["params"]
    of_pair, of_profile = (next(iter(part.values())) for part in told)
    counts = {"search", "tune", "fast"}
    names = {"profile", "pairs", "cells", "params_file"}
    read = READ[stage]
    assert read[Pair] and read[Pair] - counts <= set(of_pair or Pair.model_fields)
    if stage == "prune":
        names.add("backend")  # chooses the device, as for the dense network that it depends on
    assert read[Profile] - names <= {key.partition(".")[0] for key in of_profile}


def test_every_saved_net_has_exactly_k_weights_per_layer(done):
    """Every final net of every arm, against its replicate's mask, weight by weight."""
    seen = 0
    for stage in ("baselines", "search", "tune", "activations"):
        for path in Path("runs/smoke", stage, PAIR).rglob("*.safetensors"):
            replicate = path.stem.rpartition("-")[2]
            mask = load_file(f"runs/smoke/prune/{PAIR}/{RATIO}/mask-{replicate}.safetensors")
            net = load_file(path)
            for layer, keep in mask.items():
                weight = net[f"{layer}.weight"]
                assert int(keep.sum()) == kept(weight.numel(), RATIO)
                assert not weight[keep == 0].any()
                assert int(weight.count_nonzero()) == int(keep.sum())
            seen += 1
    assert seen == (len(ARMS) + len(SWEPT)) * 2


def test_stages_that_are_done_do_nothing(done):
    before = modified()
    run_all(study())
    assert modified() == before


@pytest.mark.parametrize("old, new", [('"fold": 0', '"fold": "odd"'), ("}", ""), *EDITS])
def test_a_record_that_is_not_whole_is_made_again(done, old, new):
    path = Path("runs/smoke/evaluate", PAIR, f"vanilla-{RATIO}-r0.json")
    whole, count = path.read_text(), done.count
    damaged = re.sub(old, new, whole, count=1)
    assert damaged != whole
    path.write_text(damaged)
    evaluate.run(study(), PAIR)
    assert path.read_text() == whole
    done.count -= 1
    assert done.count == count, "the test images of the damaged record alone"


def test_old_seconds_of_a_record_are_replaced(done):
    path = Path("runs/smoke/evaluate", PAIR, f"vanilla-{RATIO}-r1.json")
    whole, count = path.read_text(), done.count
    record = sealed.read(path)
    sealed.write(path, record | {"seconds": record["seconds"] | {"final": 1e6}})
    evaluate.run(study(), PAIR)
    assert path.read_text() == whole and done.count == count


def test_a_label_opens_no_test_images(done):
    of, path = study(), Path("runs/smoke/evaluate", PAIR, f"vanilla-{RATIO}-r1.json")
    about = of.pairs[PAIR].about.model_copy(update={"label": "Another name"})
    pair = of.pairs[PAIR].model_copy(update={"about": about})
    before, count = Record.read(path), done.count
    evaluate.run(of.model_copy(update={"pairs": {PAIR: pair}}), PAIR)
    now = Record.read(path)
    assert done.count == count and now.digests.parameters != before.digests.parameters
    assert now.finals == before.finals and now.environment == before.environment
    evaluate.run(of, PAIR)
    assert Record.read(path) == before and done.count == count


def test_a_surviving_weight_that_became_zero_still_counts_as_one(done, tmp_path):
    """It is the mask that the arms of a replicate share."""
    place = Path("runs/smoke")
    mask = place / f"prune/{PAIR}/{RATIO}/mask-r0.safetensors"
    net = load_file(place / f"baselines/{PAIR}/{RATIO}/vanilla-r0.safetensors")
    weight = net["conv1.weight"]
    weight[weight != 0] *= torch.arange(int(weight.count_nonzero())).bool()  # the first is 0 now
    save_file(net, tmp_path / "net.safetensors")
    told = Record.read(place / f"evaluate/{PAIR}/vanilla-{RATIO}-r0.json")
    operators = tuple(slot.operator for slot in told.slots)
    learned = {"scaled": False, "train_own": False}
    spec, name = study().pairs[PAIR].network, study().pairs[PAIR].dataset.name
    weights = [tmp_path / "net.safetensors"]
    _, counted = scoring.evaluate(spec, name, weights, operators, learned, mask, None)
    done.count -= 1
    found = {name: layer["kept"] for name, layer in counted["parameters"]["layers"].items()}
    assert found == {name: layer.kept for name, layer in told.parameters.layers.items()}


RANDOM = ("acon", "sigmoid", "elu", "tanh")
LEARNED, FIXED = {"scaled": True, "train_own": True}, {"scaled": False, "train_own": False}
TUNED = {"scaled": False, "train_own": True}
ARMS_OF_VERSION_3 = {
    "vanilla": ("relu", FIXED),
    "srelu": ("srelu", FIXED),
    "srelu_layer": ("srelu_layer", FIXED),
    "stage1_only": ("found", FIXED),
    "stage2_only": ("relu", LEARNED),
    "safs": ("found", LEARNED),
    "default_hpo": ("relu", TUNED),
    "srelu_hpo": ("srelu", TUNED),
    "srelu_layer_hpo": ("srelu_layer", TUNED),
    "random_hpo": ("random", LEARNED),
    "default_hpo_total": ("relu", LEARNED),
    "safs_fast": ("fast", LEARNED),
    "best_single_hpo": ("single", LEARNED),
    "all_tanh": ("tanh", FIXED),
}


@pytest.fixture
def found(done):
    """The chromosome of replicate 0 by where an arm has it from."""
    place = Path(f"runs/smoke/search/{PAIR}/{RATIO}")
    search = sealed.read(place / "search-r0.json")
    others = {"singles": ("gelu",) * 4, "safs_fast-search": ("symexp", "gelu", "elu", "tanh")}
    files = {name: place / f"{name}-r0.json" for name in others}
    for name, chromosome in others.items():
        sealed.write(files[name], search | {"chromosome": chromosome})
    single, fast = others.values()
    yield {"found": tuple(search["chromosome"]), "random": RANDOM, "single": single, "fast": fast}
    for file in files.values():
        file.unlink()


@pytest.mark.parametrize("arm", ARMS_OF_VERSION_3)
def test_an_arm_trains_what_version_3_of_the_protocol_says(found, arm):
    """Records that stand have names of arms in their identity: what these mean is the protocol."""
    operators, learns = ARMS_OF_VERSION_3[arm]
    of = study()
    stage2 = of.profile.protocol.model_copy(update={"own_parameters": "stage2"})
    profile = of.profile.model_copy(update={"protocol": stage2})
    work = Work(of.model_copy(update={"profile": profile}), "tune", PAIR, RATIO)
    with work.pool:
        start = work.start(0)
        chosen = tune._operators(work, arm, 0, start)
        made = [
            jobs.trial(work, arm, 0, start, chosen, work.pair.recipe),
            jobs.final(work, arm, 0, start, chosen, work.pair.recipe, 0),
        ]
    for job in made:
        assert job.chromosome == found.get(operators, (operators,) * len(start.slots))
        assert {key: getattr(job, key) for key in learns} == learns


def test_a_chain_names_what_a_run_rests_on(done):
    """The same dense network and mask for all arms, the searches' own trainings in order."""
    place = Path("runs/smoke")
    dense = sealed.read(place / f"evaluate/{PAIR}/dense-r0.json")["chain"]
    mask = sealed.read(place / f"prune/{PAIR}/{RATIO}/mask-r0.json")["weights"]
    search = sealed.read(place / f"search/{PAIR}/{RATIO}/search-r0.json")["trace"]["evaluations"]
    tune = sealed.read(place / f"tune/{PAIR}/{RATIO}/safs-tune-r0.json")["trace"]["trials"]
    chain = sealed.read(place / f"evaluate/{PAIR}/safs-{RATIO}-r0.json")["chain"]
    trained = sealed.read(place / f"pretrain/{PAIR}/dense-r0.json")
    assert dense["dense"] is None and dense["mask"] is None
    assert (chain["dense"], chain["mask"]) == (dense["finals"][0], mask[:32])
    assert chain["data"] == dense["data"] == trained["fold"]
    assert chain["candidates"] == [row["outcome"] for row in search]
    assert chain["trials"] == [row["outcome"] for row in tune]
    finals = [sealed.read(p)["chain"]["finals"][0] for p in place.glob(f"evaluate/{PAIR}/*.json")]
    assert len(set(finals)) == len(finals)


@pytest.mark.parametrize("old, new", [("{", ""), *EDITS])
def test_a_damaged_artefact_is_never_used_and_made_again_by_its_stage(done, old, new):
    artefact = Path(f"runs/smoke/baselines/{PAIR}/{RATIO}/vanilla-r0.json")
    whole, count = artefact.read_text(), done.count
    artefact.write_text(re.sub(old, new, whole, count=1))
    assert artefact.read_text() != whole
    with pytest.raises(SafsError, match=r"^[^\n]*vanilla-r0\.json: [^\n]*$"):
        evaluate.run(study(), PAIR)
    baselines.run(study(), PAIR, RATIO)
    assert artefact.read_text() == whole and done.count == count


def test_a_replicate_stays_on_the_kind_of_device_it_began_on(done):
    """Its arms could not be compared, and the tables would say so only after the training."""
    path = Path("runs/smoke/baselines") / PAIR / str(RATIO) / "srelu-r0.json"
    content = sealed.read(path)
    content["result"]["bits"]["device"] = "cuda"
    line = r"replicate 0: .*srelu-r0.json was trained on cuda, "
    with restored(path), pytest.raises(SafsError, match=line):
        sealed.write(path, content)
        search.run(study(lr=0.02), PAIR, RATIO)


def test_a_lost_file_is_brought_back_from_scratch_without_training(done):
    path = Path(f"runs/smoke/baselines/{PAIR}/{RATIO}/vanilla-r0.safetensors")
    content = path.read_bytes()
    told = path.with_suffix(".json").read_bytes()
    path.write_bytes(content[:-1])
    journal = modified()
    baselines.run(study(), PAIR, RATIO)
    assert path.read_bytes() == content
    assert path.with_suffix(".json").read_bytes() == told, "with the seconds of another training"
    assert {name for name in journal if modified()[name] != journal[name]} >= {str(path)}


def test_files_that_the_parameters_no_longer_name_are_removed(done):
    stray = Path(f"runs/smoke/baselines/{PAIR}/{RATIO}/vanilla-r9.json")
    stray.write_text("{}")
    baselines.run(study(), PAIR, RATIO)
    assert not stray.exists()


def test_results_of_other_parameters_are_never_taken(done):
    """A changed recipe trains anew, and the old result comes back when it is changed back."""
    path = Path(f"runs/smoke/baselines/{PAIR}/{RATIO}/vanilla-r0.json")
    first = json.loads(path.read_text())
    baselines.run(study(lr=0.02), PAIR, RATIO)
    second = json.loads(path.read_text())
    assert second["identity"] != first["identity"] and second["weights"] != first["weights"]
    baselines.run(study(), PAIR, RATIO)
    assert json.loads(path.read_text()) == first


def test_tables_comparisons_and_report_of_these_runs(done):
    of = study()
    run_all(of)  # other tests have changed recipes since
    records.run(of)
    tables.run(of)
    compare.run(of)
    report.run(of)
    frame = collection(of).frame
    assert len(frame) == len(expected(of)) and set(frame["status"]) == {"ok"}
    found = opened(of).traces
    assert [trace.algorithm for trace in found.search] == ["lahc", "random"] * 2
    assert len(found.tune) == 2 * 2
    epochs = of.pairs[PAIR].finetune.epochs
    assert len(found.curves) == len(ARMS) * 2 * epochs and set(found.curves["arm"]) == set(ARMS)
    assert context(of).arms == ("dense", *ARMS) and context(of).swept == SWEPT
    assert Path("results/smoke/report.html").exists()


@pytest.fixture(scope="module")
def published(done):
    """The study with everything in ``results/``."""
    of = study()
    run_all(of)  # other tests have changed recipes since
    for stage in (records, tables, compare, report, sums):
        stage.run(of)
    return of


def test_check_goes_through_everything_that_is_published(published):
    told, artefacts, files = checking.check(published)
    assert told.text == f"{len(expected(published))} records, {told.here} whole"
    assert artefacts.text == f"{artefacts.here} artefacts, {artefacts.here} whole"
    assert files.text == f"{files.here} published files, {files.here} whole"
    assert artefacts.here == 2 * (2 + len(ARMS) + len(SWEPT) + 4) and files.here > 20


def digits(path: Path) -> list[int]:
    return [found.start() for found in re.finditer(rb"\d", path.read_bytes())]


def test_a_digit_that_is_changed_anywhere_is_found(published):
    draw = random.Random(0)
    places = [p for place in ("runs", "results") for p in sorted(Path(place).rglob("*.*"))]
    for path in draw.sample([p for p in places if p.is_file() and digits(p)], 25):
        whole, at = path.read_bytes(), draw.choice(digits(path))
        digit = draw.choice([d for d in b"0123456789" if d != whole[at]])
        with restored(path):
            path.write_bytes(whole[:at] + bytes([digit]) + whole[at + 1 :])
            faults = [fault for part in checking.check(published) for fault in part.faults]
            assert any(path.stem in fault for fault in faults), (path, at)
    assert not any(part.faults for part in checking.check(published))


def test_a_record_of_another_chain_a_stray_and_a_lost_file_are_found(published):
    record = Path(f"runs/smoke/evaluate/{PAIR}/safs-{RATIO}-r0.json")
    stray, lost = Path("results/smoke/stray.csv"), Path("results/smoke/tables/runs.csv")
    content = sealed.read(record)
    content["chain"]["candidates"][0] = "0" * 32
    with restored(record, lost):
        sealed.write(record, content)
        stray.touch()
        lost.unlink()
        told, _, files = checking.check(published)
        stray.unlink()
    assert (told.whole, files.whole) == (told.here - 1, files.here - 1)
    assert told.faults == (f"{record}: chain.candidates: not what the artefact in runs/ says",)
    assert files.missing == 1
    for path in (stray, lost):
        assert [fault for fault in files.faults if fault.startswith(f"{path}: not ")]


def test_every_fault_of_a_record_has_a_line(published):
    record = Path(f"runs/smoke/evaluate/{PAIR}/safs-{RATIO}-r0.json")
    with restored(record):
        sealed.write(record, sealed.read(record) | {"network": 5, "ratio": "x"})
        told, *_ = checking.check(published)
    assert told.whole == told.here - 1
    assert told.faults == (
        f"{record}: network: got 5; expected a valid string",
        f"{record}: ratio: got 'x'; expected a valid number",
    )


def test_published_files_without_their_digests_are_a_fault(published):
    digested = Path("results/smoke", digests.SUMS)
    with restored(digested):
        digested.unlink()
        *_, files = checking.check(published)
    assert files.whole == 0 and files.faults[0].endswith("`safs-bench run smoke` writes it")


@pytest.fixture
def commit(published):
    """Makes the working folder a repository and ``results/`` its last commit, when called.

    Afterwards ``results/`` is as it was.
    """

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=lab", "-c", "user.email=lab@example.org"]
        subprocess.run(["git", *who, *arguments], check=True, capture_output=True)

    def commit() -> None:
        git("init", "--quiet")
        git("add", "--force", "results")
        git("commit", "--quiet", "--allow-empty", "--message", "Publish")

    with restored(*(path for path in Path("results").rglob("*") if path.is_file())):
        yield commit
    shutil.rmtree(".git", ignore_errors=True)


def verified(of: Study, capsys, *options: str) -> tuple[int, str]:
    """Exit code and output of ``safs-bench verify`` for a study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_runs, "study_of", lambda name: of)
        code = cli.main(["verify", *options])
    return code, capsys.readouterr().out


def trainings(of: Study) -> int:
    """Distinct trainings behind the records, by hand: the two arms of a search share it."""
    pair = of.pairs[PAIR]
    finals = 1 + len(ARMS) + len(SWEPT)
    return of.profile.replicates * (finals + pair.search.evaluations + 2 * pair.tune.trials)


def test_a_finished_run_is_held_to_what_the_last_commit_publishes(published, commit, capsys):
    code, said = verified(published, capsys)
    assert code == 3 and "results/smoke/records: no git repository here, or no git" in said
    subprocess.run(["git", "init", "--quiet"], check=True)
    code, said = verified(published, capsys)
    assert code == 3 and "results/smoke/records: not in the last commit: nothing" in said
    commit()
    path = Path(f"results/smoke/records/{PAIR}/r0.json")
    count = trainings(published)
    code, said = verified(published, capsys)
    line = f"smoke: {count} of {count} trainings identical to the published results\n"
    assert (code, said) == (0, line)
    path.write_text("a run writes its own, which is not what was published")
    assert verified(published, capsys) == (0, line)
    assert json.loads(verified(published, capsys, "--json")[1])["identical"] is True


def test_where_a_run_begins_to_differ_is_said_in_numbers(published, commit, capsys):
    record = Path(f"runs/smoke/evaluate/{PAIR}/safs-{RATIO}-r1.json")
    commit()
    content = sealed.read(record)
    content["chain"]["trials"][1] = "0" * 32
    tune = sealed.read(Path(f"runs/smoke/tune/{PAIR}/{RATIO}/safs-tune-r1.json"))["trace"]
    reached = f"{100 * tune['trials'][1]['validation_top1']:.6g} % on both sides"
    with restored(record):
        sealed.write(record, content)
        code, said = verified(published, capsys)
        told = json.loads(verified(published, capsys, "--json")[1])
    where = f"{PAIR}, ratio {RATIO}, replicate 1, safs: trial 1 differs: validation accuracy"
    count, (first, second, *ran) = trainings(published), said.splitlines()
    assert code == 1 and first.startswith(f"smoke: NOT IDENTICAL: {count - 1} of {count} trainings")
    assert second.startswith(f"{where} {reached}; ")
    assert [line.partition(":")[0] for line in ran] == ["ran here", "ran published"]
    (difference,) = told["differences"]
    assert (difference["link"], difference["index"]) == ("trials", 1)
    assert difference["resting"] == published.pairs[PAIR].tune.trials - 2 + 1


def test_other_versions_and_damage_are_no_comparison(published, commit, capsys):
    paths = [Path(f"results/smoke/records/{PAIR}/r{r}.json") for r in range(2)]
    whole = [path.read_text() for path in paths]
    paths[0].write_text(whole[0].replace('"energy":', '"energy":1', 1))
    commit()
    code = verified(published, capsys)[0]
    assert code == 2, "a damaged file is bad input"
    for path, text in zip(paths, whole, strict=True):
        path.write_text(text)
        older = Replicate.read(path)
        old = Protocol(version=2, preset="paper")
        runs = [r.model_copy(update={"protocol": old, "digest": None}) for r in older.records]
        older.model_copy(update={"records": runs}).write(path)
    commit()
    code, said = verified(published, capsys)
    assert code == 3 and said == (
        "nothing to compare: results/smoke: published by protocol version 2, which this version 3 "
        "does not reproduce\n"
    )
    code, said = verified(published, capsys, "--json")
    assert code == 3 and "published by protocol version 2" in json.loads(said)["reason"]


def retrained(of: Study, capsys, *options: str) -> tuple[int, str, list[str]]:
    """Exit code, output and lines of errors of ``safs-bench retrain`` for a study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_runs, "study_of", lambda name: of)
        patch.setenv("SAFS_QUIET", "1")
        code = cli.main(["retrain", *options])
    told = capsys.readouterr()
    return code, told.out, told.err.splitlines()


def test_a_sample_of_what_is_published_is_trained_once_more(published, commit, capsys, done):
    code, _, said = retrained(published, capsys)
    assert code == 3 and "no git repository here" in said[0]
    commit()
    compared = published.profile.replicates * published.pairs[PAIR].search.evaluations
    assert len(list(retraining.published_trainings(published))) == trainings(published) + compared
    reads = done.count
    shutil.move("runs", "elsewhere")
    try:
        code, said, _ = retrained(published, capsys, "--sample", "14", "--seed", "3", "--json")
        rows = json.loads(said)
        assert code == 0 and len(rows) == 14 and {row["differs"] for row in rows} == {None}
        kinds = {row["training"].split()[0] for row in rows}
        assert kinds == {"dense", "candidate", "trial", "final"}
        left = {path.relative_to("runs/smoke").parts[0] for path in Path("runs").rglob("*.json")}
        assert left == {"pretrain", "prune"}
        assert not list(Path("scratch").glob("retrain-*")) and done.count == reads
        code, again, _ = retrained(published, capsys, "--sample", "14", "--seed", "3")
        assert again == "14 of 14 trainings identical to the published results (--seed 3)\n"
    finally:
        shutil.rmtree("runs", ignore_errors=True)
        shutil.move("elsewhere", "runs")


TRAINED = {"failure": None, "seconds": 0, "backend": "none", "history": (), "kept": 0}


def published_otherwise(found: Replicate, **links: object) -> list[Record]:
    """The records of a replicate with other links in their chains."""
    return [
        record.model_copy(update={"chain": record.chain.model_copy(update=links), "digest": None})
        for record in found.records
    ]


def test_a_training_that_was_not_as_published_is_told_by_its_first_link(published, commit, capsys):
    path = Path(f"results/smoke/records/{PAIR}/r1.json")
    found = Replicate.read(path)
    runs = published_otherwise(found, finals=["0" * 32])
    found.model_copy(update={"records": runs}).write(path)
    commit()
    everything = len(list(retraining.published_trainings(published)))
    code, said, errors = retrained(published, capsys, "--sample", str(everything))
    assert code == 1 and len(errors) == len(runs)
    assert f"smoke: {PAIR} 95%, replicate 1, final 0 of SAFS: differs" in errors
    assert f"smoke: {PAIR} dense, replicate 1, dense training: differs" in errors
    assert said.startswith(f"{everything - len(runs)} of {everything} trainings identical to")
    runs = [r for r in published_otherwise(found, mask="0" * 32) if r.arm == "srelu"]
    found.model_copy(update={"records": runs, "searches": [], "tunings": []}).write(path)
    commit()
    code, _, errors = retrained(published, capsys, "--sample", str(everything))
    where = f"smoke: {PAIR} 95%, replicate 1, final 0 of SReLU"
    assert code == 1 and errors == [f"{where}: starts from something else: mask differs"]


def test_a_training_whose_worker_dies_is_not_one_that_differs(
    published, commit, capsys, monkeypatch
):
    commit()
    death = Trained(**TRAINED | {"failure": artefacts.DIED})
    monkeypatch.setattr(Work, "trained", lambda *job: death)
    code, said, errors = retrained(published, capsys, "--sample", "3")
    assert code == 1 and said.startswith("0 of 3 trainings identical")
    assert len(errors) == 3 and all("not done, its worker died" in line for line in errors)


def failing(words):
    raise OSError(words)


def asked_to_end(_):
    raise KeyboardInterrupt


def test_everything_is_rebuilt_from_the_records_alone(published, capsys):
    shutil.move("runs", "elsewhere")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cli_runs, "study_of", lambda name: published)
            assert cli.main(["rebuild"]) == 0
            said = capsys.readouterr().out
            files = [path for path in Path("results/smoke").rglob("*") if path.is_file()]
            assert said == f"{len(files)} files, {len(files)} as they were\n"
            table = Path("results/smoke/tables/table1.csv")
            whole = table.read_text()
            table.write_text(whole + "edited\n")
            assert cli.main(["rebuild"]) == 1
            assert capsys.readouterr().err == f"{table}: not what it was\n"
            assert table.read_text() == whole
            forged = table.with_name("forged.csv")
            forged.write_text(whole)
            assert cli.main(["rebuild"]) == 1
            assert capsys.readouterr().err == f"{forged}: removed: the records do not give it\n"
            with alone("another"):
                assert cli.main(["rebuild"]) == 2
            assert "`another`" in capsys.readouterr().err

            def fails(study):
                (study.results / "new").mkdir()
                failing("no report")

            before = {path: path.read_bytes() for path in files}
            with patch.context() as interrupted, pytest.raises(KeyboardInterrupt):
                interrupted.setattr(rebuilding.tables, "run", asked_to_end)
                rebuilding.rebuild(published)
            with patch.context() as half, pytest.raises(OSError, match="no folder"):
                half.setattr(Path, "mkdir", lambda *_: failing("no folder"))
                rebuilding.rebuild(published)
            patch.setattr(rebuilding.report, "run", fails)
            with pytest.raises(OSError, match="no report"):
                rebuilding.rebuild(published)
            left = [path for path in Path("results/smoke").rglob("*") if path.is_file()]
            assert {path: path.read_bytes() for path in left} == before, "put back"
            assert not Path("results/smoke/new").exists()
            assert not list(Path("results").glob(".rebuild-*"))
            shutil.move("results/smoke/records", "records")
            assert cli.main(["rebuild"]) == 2
            assert "results/smoke/records: no records" in capsys.readouterr().err
            shutil.move("records", "results/smoke/records")
    finally:
        shutil.move("elsewhere", "runs")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"replicate": 1}, r"r0\.json: holds replicate 1 of .*; expected replicate 0 of "),
        ({"profile": "other"}, r"r0\.json: holds .* in profile 'other'; expected .* 'smoke'"),
        ({"version": 2}, r"r0\.json: protocol: version 2, 'paper'; expected version 3, 'paper'"),
        ({"preset": "as_released"}, r"r0\.json: protocol: .*'as_released'; expected .* 'paper'"),
    ],
)
def test_records_that_are_not_this_studys_are_never_told_as_its_own(published, changed, words):
    """Whole by their digest, and yet of another replicate, profile, version or preset."""
    path = Path(f"results/smoke/records/{PAIR}/r0.json")
    found = Replicate.read(path.with_name(f"r{changed.get('replicate', 0)}.json"))
    said = found.records[0].protocol.model_copy(update=changed)
    parts = {"profile": changed.get("profile", found.profile)}
    own = parts | {"protocol": said, "digest": None}
    runs = [record.model_copy(update=own) for record in found.records]
    with restored(path), pytest.raises(SafsError, match=words):
        found.model_copy(update={**parts, "records": runs}).write(path)
        opened(published)


@pytest.mark.parametrize(("channels", "kept"), [((6, 120), (6, 120)), ((96, 1152), (32, 384))])
def test_a_record_keeps_some_channels_of_a_large_network(channels, kept):
    """All of LeNet-5's; of more than a thousand values every n-th, in each slot alike."""
    names = ("t_left", "t_right")
    slots = tuple(
        {"name": f"act{n}", "own": {name: [float(c) for c in range(n)] for name in names}}
        for n in channels
    )
    alone = {"name": "last", "own": {"k": 2.0}}
    found = describing._slots(Trained(slots=(*slots, alone), **TRAINED))
    assert found[-1] == alone
    for slot, whole, count in zip(found, channels, kept, strict=False):
        assert (
            slot["own"]["t_left"] == slot["own"]["t_right"] == list(range(0, whole, whole // count))
        )


def test_a_backend_that_was_asked_for_decides_a_replicate():
    """So records of the kernels never stand for trainings that PyTorch was to do."""
    of = study()
    other = of.model_copy(update={"profile": of.profile.model_copy(update={"backend": "dense"})})
    assert recorded.identity(of, PAIR, 0) != recorded.identity(other, PAIR, 0)


def test_folders_that_no_stage_made_stop_none(published):
    strays = Path("results/smoke/records/pair.v2"), Path(f"runs/smoke/prune/{PAIR}/{RATIO}/.strays")
    for stray in strays:
        stray.mkdir()
        (stray / "notes.txt").touch()
    records.run(published)
    prune.run(published, PAIR, RATIO)
    assert not any((stray / "notes.txt").exists() for stray in strays)


def test_a_search_that_pairs_share_has_the_name_of_each_in_its_records(published):
    path = Path(f"runs/smoke/search/{PAIR}/{RATIO}/search-r0.json")
    content = sealed.read(path)
    content["trace"]["pair"] = "the_pair_that_came_first"
    with restored(path):
        sealed.write(path, content)
        packed = archiving.pack(published, PAIR, 0)
    assert {search.trace.pair for search in packed.searches} == {PAIR}
    assert packed == archiving.pack(published, PAIR, 0)


def test_a_run_goes_on_from_published_records(published, monkeypatch):
    """A replicate whose records stand is not trained; what follows comes out the same."""
    whole = {p: p.read_bytes() for p in Path("results/smoke").rglob("*") if p.is_file()}
    shutil.move("runs", "elsewhere")
    monkeypatch.setenv(recorded.ASKED, "1")
    evaluated = Path(f"runs/smoke/evaluate/{PAIR}")
    try:
        lost = Path(f"results/smoke/records/{PAIR}/r1.json")
        assert sorted(recorded.replicates(published, PAIR, evaluated)) == [0, 1]
        assert recorded.replicates(study(lr=0.02), PAIR, evaluated) == {}, "of other parameters"
        lost.unlink()
        assert launch.left_out(published) == {PAIR: 1}
        assert Work(published, "tune", PAIR, RATIO, epochs=3).progress.total == 3, "of one"
        run_all(published)
        names = {path.name for path in Path("runs").rglob("*.json")}
        assert {name for name in names if "-r0" in name} == {"recorded-r0.json"}
        for stage in (records, tables, compare, report, sums):
            stage.run(published)
        assert recorded.replicates(published, PAIR, evaluated).keys() == {0, 1}
        told = sealed.read(Path(f"runs/smoke/tune/{PAIR}/{RATIO}/recorded-r0.json"))
        assert told["records"] == f"results/smoke/records/{PAIR}/r0.json"
        monkeypatch.delenv(recorded.ASKED)
        records.run(published)
        assert Path(told["records"]).is_file(), "nothing else has this replicate"
        assert recorded.replicates(published, PAIR, evaluated).keys() == {0}, "as it was left"
        with Work(published, "tune", PAIR, RATIO) as work:
            assert work.replicates == [1], "so plain `dvc repro` goes on as well"
            assert [work.named(path.name) for path in work.out.iterdir()]
        assert recorded.replicates(study(lr=0.02), PAIR, evaluated) == {}, "of other parameters"
        monkeypatch.setenv(recorded.ASKED, "1")
        changed = {p for p, text in whole.items() if p.read_bytes() != text}
        timed = {"cost", "runs", "r1", "compression", "SHA256SUMS", "report", "table1", "table2"}
        assert {path.stem for path in changed} <= timed, "seconds and memory alone"
        Path(f"results/smoke/records/{PAIR}/r0.json").write_text("{}")
        with pytest.raises(SafsError, match=r"r0\.json: its content does not fit its digest"):
            recorded.replicates(published, PAIR, evaluated)
        recorded.forget(Path("runs"), known=[Path(told["records"])])
        assert (evaluated / "recorded-r0.json").is_file()
        recorded.forget(Path("runs"))
        assert not list(Path("runs").rglob("recorded-*")), "so that DVC trains them"
    finally:
        shutil.rmtree("runs")
        shutil.move("elsewhere", "runs")
        for path, text in whole.items():
            path.write_bytes(text)


def test_part_of_a_replicate_never_replaces_a_whole_published_one(published):
    """Of which ``runs/`` has some records alone, as after a run of one pruning ratio."""
    whole = Path(f"results/smoke/records/{PAIR}/r0.json")
    one = Path(f"runs/smoke/evaluate/{PAIR}/safs-{RATIO}-r0.json")
    before = whole.read_bytes()
    with restored(one, whole):
        one.unlink()
        assert archiving.pack(published, PAIR, 0).identity is None
        records.run(published)
        assert whole.read_bytes() == before
        whole.unlink()
        records.run(published)
        assert len(Replicate.read(whole).records) == len(published.profile.runs(PAIR)) - 1


def test_a_whole_replicate_replaces_a_published_file_that_is_damaged(published):
    """To run again is the way out of a merge gone wrong."""
    whole = Path(f"results/smoke/records/{PAIR}/r0.json")
    before = whole.read_bytes()
    with restored(whole):
        whole.write_text("<<<<<<< HEAD\n")
        records.run(published)
        assert whole.read_bytes() == before


def with_protocol(**switches: object) -> Study:
    of = study()
    protocol = of.profile.protocol.model_copy(update=switches)
    return of.model_copy(update={"profile": of.profile.model_copy(update={"protocol": protocol})})


def test_every_arm_has_its_finals(inline, tmp_path, monkeypatch):
    """Three batch orders an arm, the first of them the one of a profile with one."""
    monkeypatch.chdir(tmp_path)
    before, of = inline.count, with_protocol(finals=3)
    run_all(of)
    place = Path(f"runs/smoke/evaluate/{PAIR}")
    read = {path.stem: Record.read(path) for path in place.glob("*.json")}
    assert inline.count - before == len(read), "test images are opened once for all finals"
    for record in read.values():
        one = record.arm == "dense" or record.arm in SWEPT
        assert len(record.finals) == len(record.chain.finals) == (1 if one else 3)
        assert len({final.weights for final in record.finals}) == len(record.finals)
    orders = [
        sealed.read(Path(f"runs/smoke/baselines/{PAIR}/{RATIO}/vanilla{name}-r1.json"))["job"]
        for name in ("", "-f1", "-f2")
    ]
    assert [job.pop("final") for job in orders] == [0, 1, 2]
    assert orders[0] == orders[1] == orders[2], "they differ in batch order alone"
    run_all(study())
    for name, record in read.items():
        alone = Record.read(place / f"{name}.json")
        assert (alone.finals, alone.chain.finals) == (record.finals[:1], record.chain.finals[:1])
    assert not list(Path("runs").rglob("*-f1-*"))


def test_a_selected_trial_may_meet_the_test_images_itself(inline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of = with_protocol(finals=2, reported="selected")
    run_all(of)
    place = Path(f"runs/smoke/evaluate/{PAIR}")
    safs = Record.read(place / f"safs-{RATIO}-r0.json")
    trace = sealed.read(Path(f"runs/smoke/tune/{PAIR}/{RATIO}/safs-tune-r0.json"))["trace"]
    best = trace["trials"][trace["best"]]
    assert len(safs.finals) == 1 and safs.epochs.final == best["epochs"]
    assert safs.finals[0].validation.top1 == best["validation_top1"]
    assert safs.recipe.model_dump(mode="json") == best["config"]
    assert len(Record.read(place / f"vanilla-{RATIO}-r0.json").finals) == 2


def test_the_activation_study_fills_every_slot_with_one_operator(done):
    folder = Path(f"runs/smoke/activations/{PAIR}/{RATIO}")
    for arm, operator in (("all_tanh", "tanh"), ("all_prelu", "prelu")):
        content = json.loads((folder / f"{arm}-r0.json").read_text())
        assert content["job"]["chromosome"] == [operator] * 4
        assert content["job"]["recipe"] == study().pairs[PAIR].recipe.model_dump(mode="json")
        record = Record.read(Path(f"runs/smoke/evaluate/{PAIR}/{arm}-{RATIO}-r0.json"))
        assert record.status == "ok" and {slot.operator for slot in record.slots} == {operator}


def test_other_algorithms_start_like_the_profiles_own_and_have_its_budget(done):
    own = json.loads(Path(f"runs/smoke/search/{PAIR}/{RATIO}/search-r0.json").read_text())
    folder = Path(f"runs/smoke/algorithms/{PAIR}/{RATIO}")
    assert sorted(p.name for p in folder.iterdir()) == ["random-r0.json", "random-r1.json"]
    other = json.loads((folder / "random-r0.json").read_text())
    first, second = (t["trace"]["evaluations"] for t in (own, other))
    assert len(first) == len(second)
    assert first[0] == second[0], "the same start, trained the same way"


def test_a_profile_without_studies_trains_none(done, tmp_path, monkeypatch):
    of = study()
    of = Study(profile=of.profile.model_copy(update={"studies": Studies()}), pairs=of.pairs)
    kept = sorted(Path("runs").rglob("dense-*"))
    for path in [*kept, *Path("runs").rglob("mask-*")]:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    for stage in (activations, algorithms):
        stage.run(of, PAIR)
        name = stage.__name__.rpartition(".")[2]
        assert list(Path(f"runs/smoke/{name}/{PAIR}/{RATIO}").iterdir()) == []


def test_readings_share_what_they_do_not_change(done):
    """Two readings: one changes what is reported, the other SReLU alone."""
    reading = Reading(title="t", pair=PAIR, arms=("srelu",))
    of = study()
    profile = of.profile.model_copy(update={"readings": {"layer": reading, "best": reading}})
    readings_of = {}
    for name, change in (
        ("layer", {"srelu": "per_layer"}),
        ("best", {"reported_epoch": "best_validation"}),
    ):
        protocol = of.profile.protocol.model_copy(update=change)
        own = {"profile": f"smoke/readings/{PAIR}/{name}", "protocol": protocol}
        own |= {"arms": ("srelu",), "studies": Studies()}
        readings_of[name] = Study(profile=of.profile.model_copy(update=own), pairs=of.pairs)
    of = Study(profile=profile, pairs=of.pairs, readings=readings_of)
    readings.run(of, PAIR)
    base = Path(f"runs/smoke/readings/{PAIR}")
    assert sorted(p.name for p in base.iterdir()) == ["best", "layer"]
    whole = json.loads(Path(f"runs/smoke/pretrain/{PAIR}/dense-r0.json").read_text())
    assert json.loads((base / f"layer/pretrain/{PAIR}/dense-r0.json").read_text()) == whole
    best = json.loads((base / f"best/pretrain/{PAIR}/dense-r0.json").read_text())
    assert best["job"]["keep"] == "best_validation"
    record = Record.read(base / f"layer/evaluate/{PAIR}/srelu-{RATIO}-r0.json")
    assert {slot.operator for slot in record.slots} == {"srelu_layer"}
    assert record.parameters.activation == 4 * 4
    records.run(of)
    (table,) = opened(of).tables
    assert list(table.frame["reading"]) == ["profile", "layer", "best"]
    assert table.frame["vanilla_mean"].notna().tolist() == [True, False, False]
    assert table.frame["srelu_mean"].notna().all()
    (base / "note.txt").touch()
    readings.run(Study(profile=study().profile, pairs=of.pairs), PAIR)
    assert list(base.iterdir()) == [], "a reading that is gone leaves nothing behind"


def test_records_account_for_parameters_and_multiplications(done):
    record = Record.read(Path(f"runs/smoke/evaluate/{PAIR}/safs-{RATIO}-r0.json"))
    srelu = Record.read(Path(f"runs/smoke/evaluate/{PAIR}/srelu-{RATIO}-r0.json"))
    weights = sum(kept(layer.total, RATIO) for layer in record.parameters.layers.values())
    assert record.parameters.activation == 2 * 4
    assert srelu.parameters.activation == 4 * (6 + 16 + 120 + 84)
    biases = 6 + 16 + 120 + 84 + 10
    assert record.parameters.nonzero == weights + biases + 8
    assert record.macs.dense == 25 * 6 * 576 + 25 * 96 * 64 + 256 * 120 + 120 * 84 + 84 * 10
    assert 0 < record.macs.sparse < 0.06 * record.macs.dense
    assert record.memory.of == "process" and record.memory.bytes > 2**26


def test_trainings_are_told_what_a_reading_switches(done):
    """Which epochs are validated, and which stages learn the activations' own parameters."""
    chromosome = ("srs",) * 4

    def told(own: str, fitness: str = "training_loss", objective: str = "last") -> tuple[bool, ...]:
        of = with_protocol(own_parameters=own)
        pair = of.pairs[PAIR]
        search = pair.search.model_copy(update={"fitness": fitness})
        tune = pair.tune.model_copy(update={"objective": objective})
        of = of.model_copy(update={"pairs": {PAIR: pair.model_copy(update={"tune": tune})}})
        work = Work(of, "search", PAIR, RATIO)
        first = jobs.candidate(work, 0, work.start(0), search, chromosome)
        second = jobs.trial(work, "safs", 0, work.start(0), chromosome, pair.recipe)
        return first.validate_every, first.train_own, second.validate_every, second.train_own

    assert told("frozen") == (False, False, False, False)
    assert told("stage2", "best_validation_error") == (True, False, False, True)
    assert told("both", objective="best") == (False, True, True, True)


def test_threads_of_a_stage_ask_once_what_its_workers_are(done, monkeypatch):
    """Python 3.12 took the lock out of cached_property."""
    work, asked = Work(study(), "tune", PAIR, RATIO), []

    def slowly(function, *arguments):
        asked.append(function)
        time.sleep(0.05)
        return SimpleNamespace(where={"device": "cpu"})

    monkeypatch.setattr(work, "run", slowly)
    assert len(set(map(id, work.each(lambda _: work.worker, [(n,) for n in range(8)])))) == 1
    assert len(asked) == 1


def test_a_stage_of_many_units_has_few_threads(done, monkeypatch):
    monkeypatch.setattr("pipelines.engine.work._AT_ONCE", 3)
    work, names = Work(study(), "tune", PAIR, RATIO), set()

    def named_here(unit):
        names.add(threading.current_thread().name)
        time.sleep(0.001)
        return unit

    assert work.each(named_here, [(n,) for n in range(50)]) == list(range(50))
    assert len(names) == 3


def test_an_error_removes_nothing(done):
    before = modified()
    with pytest.raises(RuntimeError), Work(study(), "baselines", PAIR, RATIO):
        raise RuntimeError
    assert modified() == before


def test_the_dense_recipe_is_trial_0_and_the_best_trial_is_trained(done):
    folder = Path(f"runs/smoke/tune/{PAIR}/{RATIO}")
    for r in (0, 1):
        content = json.loads((folder / f"safs-tune-r{r}.json").read_text())
        trials = content["trace"]["trials"]
        recipe = study().pairs[PAIR].recipe.model_dump(mode="json")
        assert trials[0]["config"] == recipe
        ended = [t for t in trials if t["status"] == "ok"]
        assert ended and all(t["cost"] == 1 - t["validation_top1"] for t in ended)
        best = min(range(len(trials)), key=lambda i: (trials[i]["cost"], i))
        assert content["trace"]["best"] == best
        final = json.loads((folder / f"safs-r{r}.json").read_text())
        assert final["job"]["recipe"] == trials[best]["config"] == content["recipe"]


def test_stage1_takes_the_candidate_of_least_training_loss(done):
    folder = Path(f"runs/smoke/search/{PAIR}/{RATIO}")
    for r in (0, 1):
        content = json.loads((folder / f"search-r{r}.json").read_text())
        rows = content["trace"]["evaluations"]
        ended = [row for row in rows if row["energy"] is not None]
        best = min(ended, key=lambda row: (row["energy"], row["index"]))
        assert content["chromosome"] == best["chromosome"]
        final = json.loads((folder / f"stage1_only-r{r}.json").read_text())
        assert final["job"]["chromosome"] == best["chromosome"]
        assert not final["job"]["scaled"]
        assert all(s["alpha"] == s["beta"] == 1 for s in final["result"]["slots"])


def test_a_chromosome_keeps_the_order_of_use(inline, tmp_path, monkeypatch):
    """ResNet-18's slots are not in alphabetical order; the files must not sort them."""
    monkeypatch.chdir(tmp_path)
    whole = load(Path("pipelines/profiles/smoke/params.yaml"), ROOT)
    cell = whole.profile.cells["resnet18_generated-0.90"]
    profile = whole.profile.model_copy(
        update={
            "arms": ("stage1_only",),
            "pairs": (cell.pair,),
            "cells": {"only": cell},
            "replicates": 1,
            "studies": Studies(),
        }
    )
    of = Study(profile=profile, pairs={cell.pair: whole.pairs[cell.pair]})
    pretrain.run(of, cell.pair)
    for stage in (prune, search):
        stage.run(of, cell.pair, cell.ratio)
    evaluate.run(of, cell.pair)
    spec = of.pairs[cell.pair]
    names = list(slots(empty(spec.network, spec.dataset.name)))
    assert names != sorted(names)
    final = json.loads(Path(f"runs/smoke/search/{cell.pair}/0.9/stage1_only-r0.json").read_text())
    assert [slot["name"] for slot in final["result"]["slots"]] == names
    operators = [slot["operator"] for slot in final["result"]["slots"]]
    assert operators == final["job"]["chromosome"]
    record = Record.read(Path(f"runs/smoke/evaluate/{cell.pair}/stage1_only-0.9-r0.json"))
    assert [slot.operator for slot in record.slots] == operators and record.status == "ok"
    assert record.portable is True and record.backend == "sparse" and record.compiler


def test_a_diverged_run_whose_parameters_are_nan_is_kept(inline, tmp_path, monkeypatch):
    """SReLU's own parameters become NaN with the weights; JSON has no NaN, the record no value."""
    monkeypatch.chdir(tmp_path)
    pretrain.run(study(), PAIR)
    prune.run(study(), PAIR, RATIO)
    broken = study()
    recipe = broken.pairs[PAIR].recipe.model_copy(update={"lr": 1e6})
    pair = broken.pairs[PAIR].model_copy(update={"recipe": recipe})
    baselines.run(Study(profile=broken.profile, pairs={PAIR: pair}), PAIR, RATIO)
    for arm in ("vanilla", "srelu"):
        path = Path(f"runs/smoke/baselines/{PAIR}/{RATIO}/{arm}-r0.json")
        content = json.loads(path.read_text())
        assert "loss became" in content["result"]["failure"] and content["weights"] is None
        assert [slot["operator"] for slot in content["result"]["slots"]] == (
            ["srelu" if arm == "srelu" else "relu"] * 4
        )


def test_what_overflows_on_the_test_images_has_failed(inline, tmp_path, monkeypatch):
    """One logit that is not finite: the final counts as chance, not as 0 %."""
    monkeypatch.chdir(tmp_path)
    pretrain.run(study(), PAIR)
    prune.run(study(), PAIR, RATIO)
    baselines.run(study(), PAIR, RATIO)

    def overflowing(network, images):
        logits = network(images.normalised(slice(None)))
        logits[0, 0] = float("inf")
        return scores.of_logits(logits, images.labels)

    monkeypatch.setattr(evaluation, "score", overflowing)
    evaluate.run(study(), PAIR, RATIO)
    record = Record.read(layout.folder("smoke", "evaluate", PAIR) / f"vanilla-{RATIO}-r0.json")
    (final,) = record.finals
    assert final.reason == "the test loss is not finite" and final.test is None
    assert record.status == "failed" and finals.top1(record) == 1 / record.classes


def test_a_diverged_run_is_a_failed_row_with_its_reason(inline, tmp_path, monkeypatch):
    """The dense training diverges: every run fails, says why, and the tables say so."""
    monkeypatch.chdir(tmp_path)
    before, of = inline.count, study(lr=1e6)
    run_all(of)
    assert inline.count == before, "no test image is opened for a failed run"
    runs = collection(of)
    assert set(runs.frame["status"]) == {"failed"}
    records.run(of)
    reasons = dict(zip(runs.frame["arm"], runs.frame["reason"], strict=True))
    assert "training loss became" in reasons["dense"]
    assert reasons["vanilla"] == reasons["safs"] == "the dense training failed"
    tables.run(of)
    compare.run(of)
    report.run(of)
    assert "training loss became" in Path("results/smoke/tables/failures.md").read_text()
    record = Record.read(Path(f"runs/smoke/evaluate/{PAIR}/dense-r0.json"))
    assert record.finals[0].test is None and record.status == "failed"
