"""A pair whose data lie in a data directory runs from there alone, through every stage."""

import gzip
import hashlib
import struct
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import compute
from pipelines.cli import main as cli
from pipelines.cli import views
from pipelines.compute import Compute
from pipelines.config.pair import load_pair
from pipelines.config.study import Study, load
from pipelines.dvc import timing
from pipelines.dvc.launch import preflight
from pipelines.dvc.preflight import fits
from pipelines.results.publishing import collection
from pipelines.stages import baselines, evaluate, pretrain, prune, search, tune
from pipelines.storage import sources
from pipelines.tasks import training
from safs import contracts, kernels
from safs.datasets import DATASETS, base
from safs.datasets.cifar10 import SOURCE as CIFAR10_SOURCE
from safs.datasets.generated import templates
from safs.datasets.mnist import FASHION_MNIST_SOURCE, MNIST_SOURCE, fashion_mnist
from safs.errors import SafsError
from safs.kernels import misread
from safs.networks import build
from safs.operators import OPERATORS, operator
from safs.pruning.prune import prune as make_mask
from safs.pruning.pruners import PRUNERS
from safs.spec import NetworkSpec

ROOT = Path(__file__).parents[2]
PAIR, RATIO = "lenet5_fashion_mnist", 0.99


def official_files(folder: Path) -> dict[str, tuple[str, ...]]:
    """Four small files in the official format; returns their checksums."""
    folder.mkdir(parents=True)
    sums = {}
    for prefix, part in (("train", "train"), ("t10k", "test")):
        arrays = templates(part, (1, 28, 28), 10)
        images, labels = arrays.images[:240, 0], arrays.labels[:240].astype(np.uint8)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
            content = header + values.tobytes()
            name = f"{prefix}-{kind}-ubyte"
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            sums[name] = (hashlib.md5(content).hexdigest(),)
    return sums


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data directory with files of our own, whose checksums the loader is told."""
    sums = official_files(tmp_path / "elsewhere/FashionMNIST/raw")
    source = replace(FASHION_MNIST_SOURCE, files=sums, download=None)
    known = replace(DATASETS["fashion_mnist"], load=partial(fashion_mnist.load, source=source))
    monkeypatch.setitem(DATASETS._entries, "fashion_mnist", known)
    base.load_part.cache_clear()
    yield tmp_path / "elsewhere"
    base.load_part.cache_clear()


def test_fashion_mnist_runs_from_the_data_directory_alone(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFS_DATA", str(data))
    monkeypatch.setenv("SAFS_WORKERS", "0")
    whole = load(Path("pipelines/profiles/fashion_mnist/params.yaml"), ROOT)
    pair = whole.pairs[PAIR]
    short = pair.pretrain.model_copy(update={"epochs": 1})
    pair = pair.model_copy(
        update={
            "pretrain": short,
            "finetune": short,
            "search": pair.search.model_copy(update={"moves": 1, "epochs": 1}),
            "tune": pair.tune.model_copy(update={"trials": 2, "epochs": 1}),
        }
    )
    of = Study(profile=whole.profile.model_copy(update={"replicates": 1}), pairs={PAIR: pair})
    pretrain.run(of, PAIR)
    for stage in (prune, baselines, search, tune):
        stage.run(of, PAIR, RATIO)
    evaluate.run(of, PAIR)
    frame = collection(of).frame
    assert len(frame) == 6 and set(frame["status"]) == {"ok"}
    assert set(frame["dataset"]) == {"fashion_mnist"} and set(frame["images"]) == {60}


def test_missing_data_is_one_line_before_anything_starts(checkout, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAFS_DATA", "")  # restored afterwards: the command sets it
    base.load_part.cache_clear()
    where = tmp_path / "nothing"
    assert cli.main(["run", "fashion_mnist", "--data-dir", str(where)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "FashionMNIST/raw" in error and str(where) in error and "train-images" in error
    assert not Path("runs").exists()


def test_everything_that_is_missing_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFS_DATA", str(tmp_path))
    for source in (FASHION_MNIST_SOURCE, MNIST_SOURCE, CIFAR10_SOURCE):
        monkeypatch.setitem(vars(source), "download", None)
    base.load_part.cache_clear()
    study = load(Path("pipelines/profiles/paper/params.yaml"), ROOT)
    with pytest.raises(SafsError) as caught:
        preflight(study)
    folders = ("cifar-10-batches-py", "imagenet16", "MNIST/raw")
    lines = str(caught.value).splitlines()
    assert [f"into {tmp_path / name} (" in line or line.endswith(f"into {tmp_path / name}")
            for name, line in zip(folders, lines, strict=True)] == [True] * 3  # fmt: skip


def test_missing_test_images_are_found_before_anything_is_trained(data, monkeypatch):
    monkeypatch.setenv("SAFS_DATA", str(data))
    (data / "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    study = load(Path("pipelines/profiles/fashion_mnist/params.yaml"), ROOT)
    with pytest.raises(SafsError, match="t10k-labels"):
        preflight(study)


def with_section(section, values):
    """The default profile with one section of its pair changed."""
    study = load(Path("params.yaml"), ROOT)
    pair = study.pairs["lenet5_mnist5k"]
    changed = getattr(pair, section).model_copy(update=values)
    pairs = {"lenet5_mnist5k": pair.model_copy(update={section: changed})}
    return study.model_copy(update={"pairs": pairs})


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there_is_told_before_anything_starts(checkout, monkeypatch, capsys):
    monkeypatch.setenv("SAFS_DEVICE", "cuda")
    assert cli.main(["run", "quick"]) == 2
    assert capsys.readouterr().err == "error: device 'cuda': torch sees no CUDA device here\n"
    assert not Path("runs").exists()


def test_a_queue_that_is_not_there_is_told_before_anything_starts(tmp_path, monkeypatch):
    slurm = {
        "kind": "slurm",
        "workers": 2,
        "slurm": {"queue": "q", "walltime": "01:00:00", "memory": "4GB"},
    }
    settings = Compute.model_validate(slurm)
    monkeypatch.setattr(compute, "settings", lambda: settings)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SafsError, match="no command sbatch"):
        preflight(load(Path("params.yaml"), ROOT))


def test_a_labs_file_that_the_report_cannot_read_is_told_before_anything_starts(
    tmp_path, monkeypatch
):
    (tmp_path / "somewhere").mkdir()
    (tmp_path / "somewhere/quick.json").write_text("{")
    monkeypatch.setattr("pipelines.dvc.preflight.LABS", tmp_path)
    with pytest.raises(SafsError, match=r"somewhere/quick\.json"):
        preflight(load(Path("params.yaml"), ROOT))


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("recipe", {"lr": 5.0}, r"lenet5_mnist5k: recipe\.lr: 5\.0: outside .* 0\.0001 to 0\.1"),
        ("recipe", {"momentum": 0.01}, r"recipe\.momentum: 0\.01: outside .* 0\.1 to 0\.999"),
        ("network", {"name": "vgg16"}, r"network 'vgg16' on images of 'mnist5k', \(1, 28, 28\): "),
        ("network", {"name": "efficientnet_b0"}, r"network 'efficientnet_b0' on images of "),
        ("prune", {"spare": ("conv1", "con9")}, r"lenet5_mnist5k: prune\.spare: .*'con9'; did you"),
        (
            "prune",
            {"spare": ("conv*", "fc*")},
            r"prune\.spare: .* matches every layer; exp",
        ),
        ("prune", {"given": "masks/{replicate}.pt"}, r"prune\.given: no file masks/0\.pt"),
        ("prune", {"given": "params.yaml"}, r"prune\.given: params\.yaml: .*cannot be read"),
    ],
)
def test_what_a_stage_would_stumble_over_is_refused_before_anything_is_trained(
    section, values, message
):
    wrong = with_section(section, values)
    with pytest.raises(SafsError, match=message):
        preflight(wrong)
    study = load(Path("params.yaml"), ROOT)
    with pytest.raises(SafsError, match=message):
        preflight(study.model_copy(update={"readings": {"other": wrong}}))


def test_a_network_that_does_not_fit_is_one_line_also_where_nothing_runs(tmp_path):
    message = r"lenet5_mnist5k: network 'vgg16' on images of 'mnist5k', \(1, 28, 28\): "
    with pytest.raises(SafsError, match=message):
        timing.measure(with_section("network", {"name": "vgg16"}))
    file = Path("pipelines/pairs/lenet5_mnist5k.yaml")
    wrong = (ROOT / file).read_text().replace("name: lenet5\n", "name: vgg16\n")
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(wrong)
    with pytest.raises(SafsError, match=message):
        views.network_rows(tmp_path)


def test_an_operator_without_a_kernel_is_refused_where_the_others_have_one(monkeypatch):
    """A replicate would train some networks on the kernels and others on PyTorch."""
    study = with_section("search", {"operators": ("elu", "softsign")})
    known = kernels.why_not
    message = "sparse kernels: operator softsign has no kernel"
    monkeypatch.setattr(kernels, "why_not", lambda *a: message if "softsign" in a[2] else known(*a))
    with pytest.raises(SafsError) as caught:
        preflight(study)
    assert str(caught.value) == (
        f"lenet5_mnist5k: {message}, and others of its arms have one: a replicate would mix "
        "backends; expected `backend: dense`"
    )
    preflight(
        study.model_copy(update={"profile": study.profile.model_copy(update={"backend": "dense"})})
    )


def test_a_networks_own_operator_without_a_kernel_is_refused_too(monkeypatch):
    """Its vanilla arm would train on PyTorch, and SReLU on the kernels."""
    study, known = load(Path("params.yaml"), ROOT), kernels.why_not
    message = "sparse kernels: operator relu has no kernel"
    monkeypatch.setattr(kernels, "why_not", lambda *a: message if "relu" in a[2] else known(*a))
    with pytest.raises(SafsError, match=f"{message}, and others of its arms have one"):
        preflight(study)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"formla": abs}, r"has formla; expected numbers for nothing"),
        ({"width": 2.0}, r"has width; expected numbers for nothing"),
    ],
)
def test_an_operator_whose_function_takes_other_parameters_is_refused(given, words):
    @operator("bent", label="Bent", **given)
    def bent(x):
        return x

    try:
        with pytest.raises(SafsError, match=f"operator 'bent': beside label and .* {words}"):
            preflight(with_section("search", {"operators": ("elu", "bent")}))
    finally:
        OPERATORS.remove("bent")


def test_a_pruner_that_scores_something_else_is_refused_and_so_by_a_plan(capsys, monkeypatch):
    PRUNERS.add("mine", lambda network: {"conv1": network})
    wrong = with_section("prune", {"method": "mine"})
    monkeypatch.setattr("pipelines.cli.runs.study_of", lambda profile: wrong)
    message = "lenet5_mnist5k: pruning method 'mine': 'conv2': it has no scores of it; expected "
    try:
        with pytest.raises(SafsError, match=message):
            preflight(wrong)
        assert cli.main(["plan", "quick"]) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
    finally:
        PRUNERS.remove("mine")


def test_given_masks_that_fit_pass(tmp_path):
    study = load(Path("params.yaml"), ROOT)
    mask = make_mask(build("lenet5", (1, 28, 28), 10), 0.99)
    training.save(mask, tmp_path / "0.99.safetensors")
    given = {"method": "given", "given": f"{tmp_path}/{{ratio}}.safetensors"}
    cells = {k: c for k, c in study.profile.cells.items() if c.ratio == 0.99}
    profile = study.profile.model_copy(update={"cells": cells})
    fits(with_section("prune", given).model_copy(update={"profile": profile}))


@pytest.mark.parametrize("where", ["search", "activations", "network"])
def test_every_operator_that_is_used_is_tried(where, monkeypatch):
    """A pair's candidates, those of the activation study, and the network's own."""

    @operator("bent", label="Bent")
    def bent(x):
        return x.nonsense()

    study = load(Path("params.yaml"), ROOT)
    if where == "search":
        study = with_section("search", {"operators": ("elu", "bent")})
    elif where == "activations":
        asked = study.profile.studies.activations.model_copy(update={"operators": ("bent",)})
        studies = study.profile.studies.model_copy(update={"activations": asked})
        study = study.model_copy(
            update={"profile": study.profile.model_copy(update={"studies": studies})}
        )
    else:
        monkeypatch.setattr(sources, "default", lambda network: "bent")
    try:
        with pytest.raises(SafsError, match=r"^lenet5_mnist5k: operator 'bent' fails: "):
            fits(study)
        monkeypatch.setattr(contracts, "operator", lambda name: None)
        with pytest.raises(SafsError, match="operator bent has no kernel, and others of its arms"):
            fits(study)
        monkeypatch.setattr(kernels, "why_not", lambda *given: "sparse kernels: no")
        fits(study)  # PyTorch trains all of it
    finally:
        OPERATORS.remove("bent")


def test_a_network_that_the_kernels_would_train_wrongly_is_refused(monkeypatch):
    study = load(Path("params.yaml"), ROOT)
    reason = "sparse kernels: a feature map is added to itself"
    monkeypatch.setattr(misread, "misread", lambda network, shape: reason)
    for backend in ("auto", "sparse"):
        profile = study.profile.model_copy(update={"backend": backend})
        with pytest.raises(SafsError, match=f"lenet5_mnist5k: {reason}, which they get wrong"):
            preflight(study.model_copy(update={"profile": profile}))
    preflight(
        study.model_copy(update={"profile": study.profile.model_copy(update={"backend": "dense"})})
    )


def test_a_plain_dvc_repro_refuses_it_too(monkeypatch):
    """Every stage that trains asks first what its workers are."""
    monkeypatch.setattr(misread, "misread", lambda network, shape: "sparse kernels: no")
    lenet5 = NetworkSpec(name="lenet5")
    with pytest.raises(SafsError, match=r"^network 'lenet5': sparse kernels: no, which they get"):
        training.worker("auto", lenet5, "mnist5k", ("elu",))
    assert training.worker("dense", lenet5, "mnist5k", ("elu",)).where["device"] == "cpu"


@pytest.mark.parametrize(
    ("device", "network", "refused"),
    [
        ("auto", "lenet5", True),  # cores train it, whatever GPUs there are
        ("auto", "resnet18", False),
        ("cpu", "resnet18", True),
        ("cuda", "lenet5", False),
    ],
)
def test_the_kernels_are_asked_where_cores_train_a_pair(device, network, refused, monkeypatch):
    pair = f"{network}_fashion_mnist{'_rgb16' if network == 'resnet18' else ''}"
    study = load(Path("params.yaml"), ROOT)
    pairs = {"lenet5_mnist5k": load_pair(pair, root=ROOT)}
    monkeypatch.setattr(misread, "misread", lambda network, shape: "sparse kernels: no")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("SAFS_DEVICE", device)
    with pytest.raises(SafsError, match="sparse kernels: no") if refused else nullcontext():
        fits(study.model_copy(update={"pairs": pairs}))


def faulty(images, labels):
    return lambda part, directory: base.Arrays(images, labels)


IMAGES = np.zeros((4, 1, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (faulty(IMAGES, np.zeros(3, dtype=np.int64)), r"labels are int64 \(3,\); expected int64"),
        (faulty(IMAGES, np.zeros(4, dtype=np.int32)), r"labels are int32 \(4,\); expected int64"),
        (faulty(IMAGES, np.zeros(4)), r"labels are float64 \(4,\); expected int64"),
        (lambda part, directory: (IMAGES, None), r"its loader fails: AttributeError: "),
        (lambda part: None, r"its loader fails: TypeError: "),
    ],
)
def test_a_data_set_that_no_training_could_read_is_one_line(monkeypatch, loader, words):
    entry = replace(base.DATASETS["mnist5k"], load=loader)
    monkeypatch.setitem(base.DATASETS._entries, "mnist5k", entry)
    base.load_part.cache_clear()
    with pytest.raises(SafsError, match=f"data set 'mnist5k': {words}") as caught:
        preflight(load(Path("params.yaml"), ROOT))
    assert "\n" not in str(caught.value)
    base.load_part.cache_clear()
