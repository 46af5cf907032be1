"""Devices and the process-wide settings of torch, as far as a machine without a GPU can tell."""

import pickle

import pytest
import torch

from safs.backends import device
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
    for name in ("init", "reset_peak_memory_stats", "memory_allocated", "max_memory_allocated"):
        answer = {"memory_allocated": 300, "max_memory_allocated": 1000}.get(name)
        monkeypatch.setattr(torch.cuda, name, _recorder(asked, name, answer))
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
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    products.allow_tf32 = convolutions.allow_tf32 = True  # the fixture puts them back
    with pytest.raises(KeyError), device.repeatable(torch.device("cuda", 0)):
        assert torch.are_deterministic_algorithms_enabled()
        assert not products.allow_tf32 and not convolutions.allow_tf32
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()
    assert products.allow_tf32 and convolutions.allow_tf32


def test_an_unknown_device_is_one_line():
    with pytest.raises(SafsError, match="device 'gpu': expected auto, cpu, cuda or cuda:N"):
        device.pick("gpu")


def test_an_unknown_name_travels_from_worker_to_stage():
    error = UnknownName("network", "lenet6", ["lenet5", "vgg16"])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is UnknownName and str(again) == str(error)
    assert "did you mean 'lenet5'" in str(again)
