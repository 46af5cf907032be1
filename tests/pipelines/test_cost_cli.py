"""What ``safs-bench cost`` says of the machine, and that it needs no torch to say so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.cost.steps import Step
from pipelines.cli.cost import entry
from pipelines.engine import environment
from safs import processor


def step(**more) -> Step:
    values = {"pair": "lenet5_mnist5k", "phase": "final", "ratio": 0.99, "backend": "dense"}
    sizes = {"images": 10, "epoch_images": 10, "epoch_seconds": (0.1,), "protocol_epochs": 1}
    return Step(**(values | sizes | more))


def test_the_processor_has_one_name_everywhere():
    assert environment.describe()["cpu"] == entry([step()]).machine.cpu == processor.cpu_name()


def test_the_processor_has_a_name_where_linux_tells_none(monkeypatch, tmp_path):
    monkeypatch.setattr(processor, "_INFO", tmp_path / "nothing")
    assert processor.cpu_name() != ""


@pytest.mark.parametrize("gpu", [None, "NVIDIA H100 80GB HBM3"])
def test_an_entry_names_the_gpu_that_trained(gpu):
    assert entry([step(device=gpu)]).machine.device == gpu


def test_it_imports_no_torch():
    code = (
        "import sys; from pipelines.cli.cost import entry; from bench.cost.steps import Step\n"
        f"entry([Step.model_validate_json({step().model_dump_json()!r})])\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
