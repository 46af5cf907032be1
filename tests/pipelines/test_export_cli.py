"""``safs-bench export`` finds a run's network from its record or artefact."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.cli import main as cli
from pipelines.results import exporting
from pipelines.storage import artefacts, layout
from pipelines.tasks.shared import empty
from safs import sealed, slots
from safs.spec import NetworkSpec

ROOT = Path(__file__).parents[2]
SPEC, DATASET = NetworkSpec(name="lenet5"), "generated_digits"
OPERATORS = ("symlog", "tanh", "srs", "elu")

try:
    import onnx  # noqa: F401
    import onnxruntime
    import onnxscript  # noqa: F401
except ImportError as error:
    needs_extra = pytest.mark.skip(f"the extra `export` is not installed: {error}")
else:
    needs_extra = pytest.mark.filterwarnings("default")


def write_run(arm, stage, ratio, operators=OPERATORS, scaled=True, failure=None):
    """An artefact and its record as the stages write them, as far as the export reads them."""
    network = empty(SPEC, DATASET)
    slots.fill(network, operators, scaled=scaled)
    with torch.no_grad():
        for parameter in slots.activation_parameters(network):
            parameter.add_(0.25)
    place = layout.folder("p", stage, "pair", ratio)
    place.mkdir(parents=True)
    weights = place / f"{arm}-r0.safetensors"
    if failure is None:
        save_file(network.state_dict(), weights)
    described = [{"name": n, **slot.describe()} for n, slot in slots.slots(network).items()]
    job = {"network": SPEC.model_dump(), "dataset": DATASET, "scaled": scaled}
    content = {
        "job": job,
        "result": {"failure": failure, "slots": [] if failure else described},
    }
    artefacts.write(weights.with_suffix(".json"), content, "identity")
    record = {"profile": "p", "pair": "pair", "ratio": ratio or 0.0, "replicate": 0}
    sealed.write(Path("record.json"), {**record, "arm": arm})
    return network, weights.with_suffix(".json")


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


@needs_extra
def test_record_and_artefact_give_the_same_checked_network(capsys):
    network, artefact = write_run("safs", "tune", 0.9)
    assert cli.main(["export", "record.json", "--to", "a"]) == 0
    assert "onnxruntime differs from torch by" in capsys.readouterr().out
    assert cli.main(["export", str(artefact), "--to", "b"]) == 0
    for name in ("model.safetensors", "about.json"):
        assert (Path("a") / name).read_bytes() == (Path("b") / name).read_bytes()
    about = json.loads(Path("a/about.json").read_text())
    assert [slot["operator"] for slot in about["slots"]] == list(OPERATORS)
    assert {slot["alpha"] for slot in about["slots"]} == {1.25}
    session = onnxruntime.InferenceSession("a/model.onnx", providers=["CPUExecutionProvider"])
    x = torch.randn(3, 1, 28, 28)
    found = torch.from_numpy(session.run(None, {"input": x.numpy()})[0])
    assert torch.allclose(found, network.eval()(x), atol=1e-5)


@pytest.mark.parametrize(
    ("arm", "stage", "ratio"),
    [
        ("dense", "pretrain", None),
        ("vanilla", "baselines", 0.9),
        ("srelu", "baselines", 0.9),
        ("stage1_only", "search", 0.9),
        ("stage2_only", "tune", 0.9),
        ("default_hpo", "tune", 0.9),
    ],
)
def test_every_arm_is_found_where_its_stage_puts_it(arm, stage, ratio):
    _, artefact = write_run(arm, stage, ratio, ("relu",) * 4, scaled=False)
    assert exporting.artefact(Path("record.json")) == artefact


def error_of(source, capsys):
    code = cli.main(["export", str(source), "--to", "out"])
    text = capsys.readouterr().err
    assert code == 2 and text.count("\n") == 1
    return text


def test_what_cannot_be_exported_is_one_line(capsys):
    _, artefact = write_run("safs", "tune", 0.9)
    weights = artefact.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes() + b" ")
    assert "not the weights that safs-r0.json was written with" in error_of(artefact, capsys)
    weights.unlink()
    assert "safs-r0.safetensors: no such file" in error_of("record.json", capsys)
    artefact.unlink()
    assert "safs-r0.json: no such file" in error_of("record.json", capsys)
    sealed.write(Path("mask.json"), {"ratio": 0.9})
    assert "neither a record nor the artefact" in error_of("mask.json", capsys)
    many = ROOT / "results/quick/records/lenet5_mnist5k/r0.json"
    assert "records of many runs, without weights" in error_of(many, capsys)
    Path("broken.json").write_text("{")
    assert "broken.json: not JSON" in error_of("broken.json", capsys)
    Path("other.json").write_text("{}", encoding="utf-16")
    assert "other.json: not UTF-8 at byte 0" in error_of("other.json", capsys)
    os.mkfifo("pipe.json")
    assert "pipe.json: not a regular file" in error_of("pipe.json", capsys)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arm": []}, "arm: got []; expected a valid string"),
        ({"arm": "saffs"}, "unknown arm 'saffs'; did you mean 'safs'?"),
        ({"profile": 1}, "profile: got 1; expected a valid string"),
        ({"profile": "../.."}, "profile: got '../..'; expected match pattern"),
        (
            {"profile": "readings/as_released"},
            "runs/readings/as_released/tune/pair/0.9/safs-r0.json: no",
        ),
        ({"pair": "../.."}, "pair: got '../..'; expected match pattern"),
        ({"ratio": None}, "ratio: got null; expected a valid number"),
        ({"replicate": "x"}, "replicate: got 'x'; expected a valid integer"),
    ],
)
def test_a_record_of_no_run_is_one_line(changes, words, capsys):
    run = {"profile": "p", "pair": "pair", "ratio": 0.9, "replicate": 0, "arm": "safs"}
    sealed.write(Path("record.json"), run | changes)
    assert words in error_of("record.json", capsys)


def test_a_failed_run_has_nothing_to_export(capsys):
    write_run("safs", "tune", 0.9, failure="training loss became nan in epoch 3")
    assert "the run failed, it has no network: training loss" in error_of("record.json", capsys)
