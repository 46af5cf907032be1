"""Tasks and stages on the simulated CUDA device, in this process."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from simulated.cuda import NAME, installed

from pipelines import compute
from pipelines.compute import pool
from pipelines.config.profile import Studies
from pipelines.config.study import Study, load
from pipelines.results.publishing import collection, expected
from pipelines.stages import (
    baselines,
    evaluate,
    fast,
    pretrain,
    prune,
    search,
    tune,
)
from pipelines.tasks import evaluation, prediction, pruning, shared, timing, training
from pipelines.tasks.jobs import Files, Job
from safs import sealed
from safs.datasets import load_part
from safs.networks import build, prunable
from safs.spec import Acceleration, NetworkSpec, Recipe

ROOT = Path(__file__).parents[2]
PAIR, RATIO, DATASET = "lenet5_generated", 0.9, "generated_digits"
LENET = NetworkSpec(name="lenet5")
ARMS = ("srelu", "safs", "safs_fast")
TOPIC = "test"


@cache
def smoke():
    return load(Path("pipelines/profiles/smoke/params.yaml"), ROOT)


class Threads(ThreadPoolExecutor):
    """A pool of threads that may use the simulated device."""

    def __init__(self, simulated, max_workers):
        self.stack = ExitStack()
        enter = partial(self.stack.enter_context, simulated.thread())
        super().__init__(max_workers, initializer=enter)

    def shutdown(self, *arguments, **options):
        self.submit(self.stack.close)  # in the thread that entered
        super().shutdown(*arguments, **options)


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """The device of the tasks, in an empty folder."""
    with installed(devices=2) as simulated, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFS_WORKERS", "0")
        patch.setenv("SAFS_DEVICE", "cuda")
        patch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
        patch.chdir(tmp_path_factory.mktemp("cuda"))
        patch.setattr(pool, "ThreadPoolExecutor", partial(Threads, simulated))
        patch.setitem(pool._inline_listeners, TOPIC, lambda identity, epoch: None)
        yield simulated


@pytest.fixture
def files(device, tmp_path):
    """A dense network and a mask as files."""
    network = build("lenet5", (1, 28, 28), 10)
    shared.save(network.state_dict(), tmp_path / "dense.safetensors")
    told = pruning.prune(
        LENET, DATASET, tmp_path / "dense.safetensors", RATIO,
        smoke().pairs[PAIR].prune, (7, 0),
        tmp_path / "mask.safetensors",
    )  # fmt: skip
    assert told["layers"]["fc1"]["kept"] < told["layers"]["fc1"]["total"]
    return Files(
        dense=tmp_path / "dense.safetensors",
        mask=tmp_path / "mask.safetensors",
        folder=tmp_path / "work",
        folds=tmp_path / "folds",
        keep_weights=True,
    )


def job(name, **changes):
    """A training of a pruned network; the name stands for the digests of its files."""
    data = load_part(DATASET, "train").checksum()
    fields = {
        "code": "", "data": data, "network": LENET, "dataset": DATASET, "seed": 7, "replicate": 0,
        "phase": "final", "backend": "auto", "recipe": Recipe(lr=0.05, batch_size=64),
        "epochs": 2, "dense": name, "mask": name, "chromosome": ("srelu", "acon", "swish", "tanh"),
        "scaled": True, "validate_every": True,
    }  # fmt: skip
    return Job(**(fields | changes))


def epochs_of(wanted, files, monkeypatch):
    """A training, and the epochs that it did itself."""
    epochs = []
    with monkeypatch.context() as patch:
        patch.setattr(training, "_ANNOUNCE_SECONDS", -1.0)
        listen = lambda identity, epoch: epochs.append(epoch)  # noqa: E731
        patch.setitem(pool._inline_listeners, TOPIC, listen)
        return training.train(wanted, files, TOPIC), epochs


# -- tasks --


def test_each_worker_has_its_own_device(device, monkeypatch):
    assert shared.own_device() == torch.device("cuda", 0)
    monkeypatch.setattr(compute, "worker_number", lambda: 3)
    assert shared.own_device() == torch.device("cuda", 1), "the second of two"
    monkeypatch.setenv("SAFS_DEVICE", "cuda:0")
    assert shared.own_device() == torch.device("cuda", 0)


def test_a_worker_says_what_it_is(device):
    worker = training.worker("auto", LENET, DATASET, ("srelu",))
    assert (worker.bits["device"], worker.bits["processor"]) == ("cuda", NAME)
    assert (worker.where["device"], worker.where["name"]) == ("cuda", NAME)
    assert "kernels" not in worker.bits


def test_a_training_runs_and_is_written(device, files, tmp_path):
    files.folder.mkdir()
    trained = training.train(job(str(tmp_path)), files, TOPIC)
    assert trained.failure is None and trained.backend == "dense"
    assert trained.bits["device"] == trained.where["device"] == "cuda"
    assert trained.memory["of"] == "device" and trained.memory["bytes"] > 0
    assert [slot["operator"] for slot in trained.slots] == ["srelu", "acon", "swish", "tanh"]
    weights, mask = load_file(files.folder / shared.WEIGHTS), load_file(files.mask)
    for layer, keep in mask.items():
        assert not weights[f"{layer}.weight"][keep == 0].any()


@pytest.mark.parametrize("optimizer", ["sgd", "tadam"])
def test_a_training_goes_on_from_the_state_of_a_shorter_one(
    device, files, tmp_path, optimizer, monkeypatch
):
    recipe = Recipe(optimizer=optimizer, lr=0.01, batch_size=64)
    state = tmp_path / "state.pt"
    found = []
    for name, until, resume, left in (
        ("whole", None, None, None),
        ("first", 1, None, state),
        ("then", None, state, None),
    ):
        folder = tmp_path / name
        folder.mkdir()
        changed = files.model_copy(update={"folder": folder, "resume": resume, "state": left})
        wanted = job(str(tmp_path), recipe=recipe, until=until, keep="best_validation")
        trained, epochs = epochs_of(wanted, changed, monkeypatch)
        found.append((trained, folder / shared.WEIGHTS))
    assert epochs == [2], "the first is not trained again"
    (whole, weights), _, (then, again) = found
    assert then.history == whole.history
    assert weights.read_bytes() == again.read_bytes()
    read = torch.load(io.BytesIO(sealed.read_bytes(state)), map_location="cpu", weights_only=True)
    assert all(value.device.type == "cpu" for value in read["backend"]["network"].values())


def test_a_killed_training_goes_on_from_its_checkpoint(device, files, tmp_path, monkeypatch):
    wanted, folders = job(str(tmp_path), epochs=3), [tmp_path / "whole", tmp_path / "killed"]
    whole, killed = (files.model_copy(update={"folder": folder}) for folder in folders)
    for folder in folders:
        folder.mkdir()
    first = training.train(wanted, whole, TOPIC)

    def die(identity, epoch):
        if epoch == 2:
            raise compute.Abandoned(identity)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_CHECKPOINT_SECONDS", -1.0)
        patch.setattr(training, "_ANNOUNCE_SECONDS", -1.0)
        patch.setitem(pool._inline_listeners, TOPIC, die)
        with pytest.raises(compute.Abandoned):
            training.train(wanted, killed, TOPIC)
    assert [path.name for path in killed.folder.iterdir()] == ["checkpoint.pt"]
    second, epochs = epochs_of(wanted, killed, monkeypatch)
    assert epochs == [2, 3], "the first is not trained again"
    assert second.history == first.history
    one, other = (folder / shared.WEIGHTS for folder in folders)
    assert one.read_bytes() == other.read_bytes()


def test_predictions_are_those_of_the_cpu(device, files, tmp_path, monkeypatch):
    asked = ([("relu6",) * 4, ("srelu",) * 4], ["snip", "naswot"], 32)
    ours = prediction.predict(job(str(tmp_path)), files, *asked, spectra=True)
    monkeypatch.setenv("SAFS_DEVICE", "cpu")
    cpus = prediction.predict(job(str(tmp_path)), files, *asked, spectra=True)
    assert ours["scores"] == cpus["scores"] and ours["spectra"] == cpus["spectra"]
    assert ours["epochs"] == cpus["epochs"]


def test_test_images_are_scored_there(device, files, monkeypatch):
    learned = {"scaled": False, "train_own": False}
    asked = (LENET, DATASET, [files.dense], ("relu",) * 4, learned, files.mask, None)
    (ours,), counted = evaluation.evaluate(*asked)
    monkeypatch.setenv("SAFS_DEVICE", "cpu")
    (cpus,), there = evaluation.evaluate(*asked)
    assert counted == there
    assert ours["top1"] == pytest.approx(cpus["top1"], abs=0.02)
    assert ours["loss"] == pytest.approx(cpus["loss"], rel=1e-5)


@pytest.mark.parametrize("method", ["magnitude", "snip", "random"])
def test_masks_of_every_kind_are_those_of_the_cpu(device, files, tmp_path, monkeypatch, method):
    settings = smoke().pairs[PAIR].prune
    settings = settings.model_copy(update={"method": method, "scope": "global"})
    written = []
    for where in ("cuda", "cpu"):
        monkeypatch.setenv("SAFS_DEVICE", where)
        target = tmp_path / f"{where}.safetensors"
        pruning.prune(LENET, DATASET, files.dense, RATIO, settings, (7, 0), target)
        written.append(target.read_bytes())
    assert written[0] == written[1]


def test_an_epoch_is_timed_there(device, monkeypatch):
    monkeypatch.setattr(timing, "_LONG_ENOUGH", 0.0)
    seconds = timing.epoch_seconds(
        LENET, DATASET, Recipe(lr=0.1, batch_size=16), RATIO, "auto", Acceleration(), 160
    )
    assert seconds > 0


def test_a_task_that_fails_leaves_no_checkpoint_on_the_device(device, files, tmp_path):
    files.folder.mkdir()
    diverging = job(str(tmp_path), recipe=Recipe(lr=1e6, batch_size=64), epochs=3)
    trained = training.train(diverging, files, TOPIC)
    assert trained.failure is not None and trained.slots[0]["alpha"] is None
    assert not list(files.folder.iterdir())


# -- stages --


def study():
    """The smoke profile with one replicate of every arm at one ratio."""
    whole = smoke()
    cell = whole.profile.cells[f"{PAIR}-0.90"]
    profile = whole.profile.model_copy(
        update={"arms": ARMS, "pairs": (PAIR,), "cells": {"only": cell}, "studies": Studies(),
                "replicates": 1}
    )  # fmt: skip
    pair = whole.pairs[PAIR]
    recipe = pair.recipe.model_copy(update={"batch_size": 64})
    return Study(profile=profile, pairs={PAIR: pair.model_copy(update={"recipe": recipe})})


@pytest.fixture(scope="module")
def done(device):
    of = study()
    pretrain.run(of, PAIR)
    for stage in (prune, baselines, search, tune):
        stage.run(of, PAIR, RATIO)
    for stage in (fast, evaluate):
        stage.run(of, PAIR)
    return of


def test_every_stage_ran_on_the_device(done):
    records = [sealed.read(path) for path in Path("runs/smoke/evaluate").rglob("*.json")]
    assert len(records) == len(expected(done)) == 1 + len(ARMS)
    for record in records:
        assert (record["finals"][0]["reason"], record["backend"]) == (None, "dense")
        assert record["device"] == {"type": "cuda", "name": NAME}
        assert (record["bits"]["device"], record["memory"]["of"]) == ("cuda", "device")
        assert record["seconds"]["of"] == "wall"
    assert set(collection(done).frame["status"]) == {"ok"}


def test_every_network_of_the_stages_is_as_pruned(done):
    mask = load_file(f"runs/smoke/prune/{PAIR}/{RATIO}/mask-r0.safetensors")
    layers = set(prunable(build("lenet5", (1, 28, 28), 10)))
    assert set(mask) == layers
    networks = [p for p in Path("runs/smoke").rglob("*.safetensors") if str(RATIO) in p.parts]
    networks = [path for path in networks if not path.name.startswith("mask")]
    assert len(networks) >= len(ARMS)
    for path in networks:
        weights = load_file(path)
        assert all(not weights[f"{layer}.weight"][keep == 0].any() for layer, keep in mask.items())


def test_a_stage_that_is_done_trains_nothing_again(done, device):
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*.json")}
    with device.counting() as counts:
        pretrain.run(done, PAIR)
        search.run(done, PAIR, RATIO)
    assert counts.launches == 0
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*.json")} == before
