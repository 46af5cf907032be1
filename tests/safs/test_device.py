"""Devices and the process-wide settings of torch, as far as a machine without a GPU can tell."""

import os
import pickle
import subprocess
import sys

import pytest
import torch

from safs.backends import device, precision
from safs.errors import SafsError, UnknownName


def _recorder(asked, name, answer):
    def record(*arguments):
        asked.append(name)
        return answer

    return record


@pytest.fixture
def cuda(monkeypatch):
    """What is asked of CUDA, in order, where there is none."""
    asked = []
    for name in (
        "init",
        "set_device",
        "reset_peak_memory_stats",
        "memory_allocated",
        "max_memory_allocated",
    ):
        answer = {"memory_allocated": 300, "max_memory_allocated": 1000}.get(name)
        monkeypatch.setattr(torch.cuda, name, _recorder(asked, name, answer))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")  # so that it is taken back
    with device.repeatable(torch.device("cpu")):  # the settings of this process come back
        yield asked


def test_cuda_is_initialised_before_its_counters_are_used(cuda):
    second = torch.device("cuda", 1)
    threads = torch.get_num_threads()
    device.prepare(second)
    torch.set_num_threads(threads)
    device.reset_peak(second)
    assert cuda.index("init") < cuda.index("reset_peak_memory_stats")


def test_memory_of_other_work_on_a_device_does_not_count(cuda):
    there = torch.device("cuda", 0)
    assert device.reset_peak(there) == 300
    assert device.peak_memory(there, foreign=200) == {"bytes": 800, "of": "device"}
    here = torch.device("cpu")
    assert device.reset_peak(here) == 0
    assert device.peak_memory(here)["of"] == "process"


def test_the_callers_settings_come_back(cuda):
    memory = torch.utils.deterministic
    precision.set_tf32(True)  # the fixture puts it back
    with pytest.raises(KeyError), device.repeatable(torch.device("cuda", 0)):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert not precision.tf32() and not memory.fill_uninitialized_memory
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()
    assert precision.tf32() and memory.fill_uninitialized_memory
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_cuda_that_is_in_use_already_is_warned_about(cuda, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with (
        pytest.warns(UserWarning, match="is started with CUBLAS_WORKSPACE_CONFIG=:4096:8"),
        device.repeatable(torch.device("cuda", 0)),
    ):
        pass


def test_workers_make_an_operation_without_a_deterministic_algorithm_an_error(cuda):
    threads = torch.get_num_threads()
    device.prepare(torch.device("cuda", 1))
    torch.set_num_threads(threads)
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert "set_device" in cuda


# Whatever a program did to torch's two generations of switches before.
SWITCHED = [
    "pass",
    "torch.backends.cuda.matmul.allow_tf32 = True",
    "torch.backends.cudnn.allow_tf32 = False",
    "torch.set_float32_matmul_precision('high')",
    "torch.set_float32_matmul_precision('medium')",
    "torch.backends.fp32_precision = 'tf32'",
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
]
LOOK = """
import torch
def told(read):
    try:
        return read()
    except RuntimeError:
        return "mixed"
def state():
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return [told(read) for read in (
        torch.get_float32_matmul_precision, lambda: cuda.allow_tf32, lambda: cudnn.allow_tf32,
        lambda: cuda.fp32_precision, lambda: cudnn.conv.fp32_precision,
        lambda: cudnn.rnn.fp32_precision)]
"""
BORROW = """
from safs.backends import precision
before = state()
with precision.kept():
    precision.set_tf32(False)
    assert not precision.tf32()
assert state() == before, (before, state())
"""


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="older torch")
def test_every_state_of_the_switches_for_tf32_is_restored():
    """Each in a process of its own, forked from one that has torch loaded."""
    source = (
        LOOK
        + f"import os, safs.backends.precision\nfor text in {SWITCHED!r}:\n"
        + (
            "    if not os.fork():\n"
            f"        exec(text + {BORROW!r}, globals())\n"
            "        os._exit(0)\n"
            "    assert os.wait()[1] == 0, text\n"
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_device_is_one_line():
    with pytest.raises(SafsError, match="device 'gpu': expected auto, cpu, cuda or cuda:N"):
        device.pick("gpu")


def test_an_unknown_name_travels_from_worker_to_stage():
    error = UnknownName("network", "lenet6", ["lenet5", "vgg16"])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is UnknownName and str(again) == str(error)
    assert "did you mean 'lenet5'" in str(again)
