"""What ``safs-bench cost`` says of the machine, and that it needs no torch to say so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.cost.history import CostRatio
from bench.cost.steps import Step
from pipelines.cli import main as cli
from pipelines.cli.cost import entry
from pipelines.storage import environment
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


@pytest.mark.parametrize("watts", ["-5", "0", "nan", "inf", "1e7"])
def test_a_power_that_no_device_has_is_refused(watts, capsys):
    assert cli.main(["cost", "quick", "--watts", watts]) == 2
    told = capsys.readouterr().err
    assert told == f"error: --watts: got {float(watts):g}; expected above 0, at most 1e+06\n"


@pytest.mark.parametrize(
    ("words", "option"),
    [("diff a b", "--save"), ("gate a b", "--json"), ("trend", "--json"), ("trend", "--watts 9")],
)
def test_an_option_that_would_do_nothing_is_refused(words, option, capsys):
    assert cli.main(["cost", *words.split(), *option.split()]) == 2
    told = f"error: cost {words.split()[0]}: {option.split()[0]} does nothing here; expected cost "
    assert capsys.readouterr().err.startswith(told)


def test_a_word_too_many_is_refused(capsys):
    assert cli.main(["cost", "trend", "x"]) == 2
    assert capsys.readouterr().err.startswith("error: cost: 'trend x'; expected cost [PROFILE], ")


def gate(folder, before, after):
    """What the gate says of two entries whose ratios have these names."""
    paths = []
    for place, names in enumerate((before, after)):
        ratios = [CostRatio(name=name, value=1.5 + place, low=1, high=3) for name in names]
        made = entry([step()]).model_copy(update={"commit": f"{place}", "ratios": tuple(ratios)})
        paths.append(str(made.write(folder)))
    return cli.main(["cost", "gate", *paths])


def test_a_gate_says_how_many_ratios_it_compared(tmp_path, capsys):
    assert gate(tmp_path, "abc", "abc") == 0
    assert capsys.readouterr().out.startswith("0 of 3 ratios worse than 0-")
    assert gate(tmp_path, "abc", "bcd") == 0
    told = capsys.readouterr().out
    assert told.startswith("0 of 2 ratios worse than 0-")
    assert told.endswith("beyond noise (2 not compared: only one of the two has them)\n")


@pytest.mark.parametrize(("before", "after"), [("ab", "cd"), ("", "ab"), ("ab", "")])
def test_a_gate_that_compares_nothing_does_not_pass(before, after, tmp_path, capsys):
    assert gate(tmp_path, before, after) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.endswith("have no ratio in common\n")


def test_it_imports_no_torch():
    code = (
        "import sys; from pipelines.cli.cost import entry; from bench.cost.steps import Step\n"
        f"entry([Step.model_validate_json({step().model_dump_json()!r})])\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
