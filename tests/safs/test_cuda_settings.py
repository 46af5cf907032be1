"""The settings of the process that decide a CUDA device's bits, on the simulated one."""

import os

import pytest
import torch
from simulated.launches import noise
from torch import nn

import safs
from safs.backends.device import bit_identity, pick, prepare, repeatable, whereabouts
from safs.backends.precision import set_tf32
from safs.networks import build
from safs.pruning.prune import prune
from safs.training import calibration
from safs.training.data import BatchOrder
from safs.training.start import Pruned

ORDER = BatchOrder(1, 0, "final")
TINY = safs.Budget(moves=0, search_epochs=1, trials=1, tune_epochs=1)
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
pytestmark = [
    pytest.mark.filterwarnings("ignore:stage 2 is repeatable:UserWarning"),
    pytest.mark.filterwarnings("ignore:CUDA is in use already:UserWarning"),
]
newer = pytest.mark.skipif(
    not hasattr(torch.backends.cudnn, "conv"), reason="this version of torch has one name for TF32"
)


def rounding():
    """``ieee`` or ``tf32`` where torch may round, by the newer names."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return [place.fp32_precision for place in (cuda.matmul, cudnn.conv, cudnn.rnn)]


def tune(place):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).to(place)
    pair = torch.randn(30, 1, 4, 4), torch.arange(30) % 3
    return safs.search_and_tune(model, pair, pair, ratio=0.5, budget=TINY, backend="dense")


# -- TF32 --


@newer
@pytest.mark.parametrize("at", ["cpu", "cuda"])
@pytest.mark.parametrize("switch, value", [("matmul", "tf32"), ("conv", "ieee")])
def test_the_callers_tf32_survives_search_and_tune(simulated, at, switch, value):
    places = {"matmul": torch.backends.cuda.matmul, "conv": torch.backends.cudnn.conv}
    places[switch].fp32_precision = value
    before = rounding()
    tune(at)
    assert rounding() == before


@newer
def test_products_and_convolutions_are_float32_unless_asked(simulated):
    torch.backends.fp32_precision = "tf32"
    prepare(simulated.device)
    assert rounding() == ["ieee"] * 3
    set_tf32(True)
    assert rounding()[:2] == ["tf32"] * 2
    set_tf32(False)
    assert rounding() == ["ieee"] * 3


# -- determinism --


def test_fresh_memory_is_not_filled(simulated):
    filled = torch.utils.deterministic.fill_uninitialized_memory
    with repeatable(simulated.device):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.utils.deterministic.fill_uninitialized_memory == filled
    prepare(simulated.device)
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_srelu_is_calibrated_under_strict_determinism(simulated):
    torch.use_deterministic_algorithms(True)
    network = build("lenet5", (3, 16, 16), 20)
    pruned = Pruned(network.to(simulated.device), prune(network, 0.5))
    images = noise("generated_imagenet16", 20, simulated.device).train
    assert calibration.wanted(["srelu"])
    pruned.network(["srelu"] * 4, images)


# -- what a borrowed process gets back, and what is recorded --


def test_the_workspace_of_cublas_is_given_back(simulated, monkeypatch):
    monkeypatch.delenv(WORKSPACE, raising=False)
    with repeatable(simulated.device):
        assert os.environ[WORKSPACE] in (":4096:8", ":16:8")
    assert WORKSPACE not in os.environ


def test_building_a_network_draws_nothing_from_the_device(simulated):
    torch.manual_seed(7)
    before = torch.cuda.get_rng_state(simulated.device)
    build("lenet5", (1, 28, 28), 10)
    assert torch.equal(torch.cuda.get_rng_state(simulated.device), before)


def test_what_decides_the_bits_is_the_devices_own(simulated):
    identity = bit_identity(simulated.device, "dense")
    assert identity["processor"] == torch.cuda.get_device_name(simulated.device)
    assert "isa" not in identity and "cudnn" in identity


def test_the_device_of_a_process_is_its_current_one(simulated):
    second = torch.device("cuda", 1)
    prepare(second)
    assert torch.cuda.current_device() == 1


def test_the_device_is_picked_and_named(simulated):
    assert pick().type == "cuda" and pick("cuda:1") == torch.device("cuda", 1)
    assert whereabouts(simulated.device, "dense")["device"] == "cuda"
