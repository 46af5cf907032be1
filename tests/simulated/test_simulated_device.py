"""The simulated device itself: what it refuses, counts and leaves behind."""

import copy
import gc
import io
import threading
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import optimizer

from simulated import tensor
from simulated.cuda import NAME, installed
from simulated.tensor import SimulatedTensor

HERE = "tests/simulated/test_simulated_device.py"


def functions(owner):
    """All that lies in it but modules, some of which torch imports when they are needed."""
    return [(k, v) for k, v in vars(owner).items() if not isinstance(v, ModuleType)]


def torch_as_it_is():
    """All that an installation replaces or sets, by name."""
    return {
        **{f"cuda.{name}": value for name, value in functions(torch.cuda)},
        **{f"Tensor.{name}": value for name, value in functions(torch.Tensor)},
        "autocast": torch.autocast,
        "accelerator": torch.accelerator.is_available,
        "foreach": list(optimizer._foreach_supported_types),
        "overwrite": torch.__future__.get_overwrite_module_params_on_conversion(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "lenient": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "products": torch.backends.cuda.matmul.allow_tf32,
        "convolutions": torch.backends.cudnn.allow_tf32,
        "precision": precision(),
        "threads": torch.get_num_threads(),
        "random": torch.get_rng_state().tolist(),
        "mode": torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE),
        "lifting": torch._C._only_lift_cpu_tensors(),
    }


def precision():
    """How products and convolutions round, by the names of newer versions of torch."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    places = (torch.backends, cuda.matmul, cudnn.conv, cudnn.rnn) if hasattr(cudnn, "conv") else ()
    return [place.fp32_precision for place in places]


def change_everything():
    """What programs do to a process that has a device."""
    torch.manual_seed(123)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = False


def on_cuda(*shape):
    return torch.ones(shape, device="cuda")


# -- it comes and goes --


def test_nothing_is_left_of_it(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch_as_it_is()
    with installed():
        change_everything()
        assert torch.cuda.is_available() and torch_as_it_is() != before
    assert torch_as_it_is() == before


def test_nothing_is_left_after_an_exception():
    before = torch_as_it_is()
    with pytest.raises(KeyError), installed():
        change_everything()
        raise KeyError
    assert torch_as_it_is() == before


def test_a_tensor_that_outlives_its_device_is_refused():
    with installed():
        left = on_cuda(2)
    with pytest.raises(RuntimeError, match="no simulated CUDA device is installed"):
        left + 1


def test_there_is_one_installation_at_a_time(simulated):
    with pytest.raises(RuntimeError, match="installed already"), installed():
        pass
    assert on_cuda(2).device == simulated.device


@pytest.mark.skipif(not precision(), reason="this version of torch has the older names alone")
def test_the_newer_switches_of_tf32_come_back():
    before = precision()
    with installed():
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.cudnn.conv.fp32_precision = "ieee"
        torch.backends.fp32_precision = "tf32"
    assert precision() == before
    assert not torch.backends.cuda.matmul.allow_tf32, "it can still be asked"


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a real one")
def test_without_it_there_is_no_device():
    with pytest.raises((RuntimeError, AssertionError)):
        on_cuda(2)


# -- where tensors are --


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda", 1)])
@pytest.mark.parametrize(
    "make",
    [
        lambda device: torch.zeros(2, device=device),
        lambda device: torch.arange(2, device=device),
        lambda device: torch.rand(2, device=device),
        lambda device: torch.ones(2).to(device),
        lambda device: torch.ones(2).to(device, torch.float64),
        lambda device: torch.ones(2).to(device=device),
        lambda device: torch.ones(2).cuda(device),
        lambda device: torch.ones(2).to(torch.zeros((), device=device)),
        lambda device: torch.zeros(2, device=device).new_tensor([1.0]),
        lambda device: torch.zeros(2, device=device).new_ones(2),
        lambda device: torch.zeros_like(torch.zeros(2, device=device)),
        lambda device: nn.Linear(2, 2).to(device).weight,
    ],
)
def test_tensors_are_where_they_are_asked_for(simulated, make, device):
    made = make(device)
    wanted = torch.device(device)
    assert made.device == torch.device("cuda", wanted.index or 0)
    assert made.is_cuda and not made.is_cpu and made.get_device() == made.device.index
    assert (made + 1).device == made.device and made.view(-1).device == made.device
    back = made.cpu()
    assert back.device.type == "cpu" and not isinstance(back, SimulatedTensor)


def test_constants_are_where_they_are_asked_for(simulated):
    for data in (1.5, [1.5, 2.0], np.zeros(2)):
        assert torch.tensor(data, device=simulated.device).device == simulated.device


def test_numbers_gradients_and_draws_are_those_of_the_cpu(simulated):
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout())
        network.append(nn.Linear(12, 2)).to(device)
        images = torch.rand(5, 1, 4, 4).to(device)
        torch.manual_seed(1)
        loss = functional.cross_entropy(network(images), torch.arange(5).to(device) % 2)
        loss.backward()
        found.append([loss.detach().cpu(), *(p.grad.cpu() for p in network.parameters())])
    assert all(torch.equal(ours, cpus) for cpus, ours in zip(*found, strict=True))


def test_copies_and_files_hold_the_same(simulated):
    layer = nn.Linear(3, 2).to("cuda")
    again = copy.deepcopy(layer)
    assert again.weight.device == simulated.device and isinstance(again.weight, nn.Parameter)
    again.weight.data.zero_()
    assert bool(layer.weight.any()) and not bool(again.weight.any())
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, map_location="cpu", weights_only=True)
    assert torch.equal(state["weight"], layer.weight.detach().cpu())
    again.load_state_dict(state)
    assert torch.equal(again.weight, layer.weight)


def test_each_device_has_a_stream_of_its_own(simulated):
    torch.manual_seed(5)
    host = torch.get_rng_state()
    state = torch.cuda.get_rng_state(simulated.device)
    first = torch.rand(3, device="cuda")
    assert torch.equal(torch.get_rng_state(), host), "a draw on the device leaves the CPU's"
    torch.cuda.set_rng_state(state, simulated.device)
    with torch.random.fork_rng(devices=[simulated.device]):
        assert torch.equal(torch.rand(3, device="cuda"), first)
    assert torch.equal(torch.rand(3, device="cuda"), first)
    second = torch.rand(3, device="cuda:1").cpu()
    assert torch.equal(second, first.cpu()), "both were seeded alike"


def test_memory_counts_what_is_alive(simulated):
    before = torch.cuda.memory_allocated("cuda")
    held = on_cuda(1000)
    view = held.view(10, 100)
    temporary = held + 1
    assert torch.cuda.memory_allocated("cuda") == before + 8000
    del held, temporary
    gc.collect()
    assert torch.cuda.memory_allocated("cuda") == before + 4000, "a view keeps its memory"
    assert torch.cuda.max_memory_allocated("cuda") >= before + 8000
    torch.cuda.reset_peak_memory_stats("cuda")
    assert torch.cuda.max_memory_allocated("cuda") == before + 4000
    assert torch.cuda.memory_allocated("cuda:1") == 0 and view.numel() == 1000


def test_another_thread_may_use_it(simulated):
    found = []

    def work():
        with simulated.thread():
            found.append(on_cuda(2).device)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [simulated.device]


def test_its_name_and_number(simulated):
    assert torch.cuda.get_device_name(simulated.device) == NAME
    assert torch.cuda.device_count() == 2
    torch.cuda.set_device(1)
    assert torch.cuda.current_device() == simulated.current == 1


# -- what CUDA refuses --

MISPLACED = {
    "add": lambda: on_cuda(2) + torch.ones(2),
    "matrix product": lambda: on_cuda(2, 2) @ torch.ones(2, 2),
    "convolution": lambda: functional.conv2d(on_cuda(1, 1, 3, 3), torch.ones(1, 1, 2, 2)),
    "loss": lambda: functional.cross_entropy(on_cuda(2, 3), torch.zeros(2, dtype=torch.int64)),
    "concatenation": lambda: torch.cat([on_cuda(2), torch.ones(2)]),
    "concatenation with a number": lambda: torch.stack([on_cuda(), torch.ones(())]),
    "lists": lambda: torch._foreach_mul([on_cuda(2)], [torch.ones(2)]),
    "assignment": lambda: on_cuda(2).index_put_((on_cuda(2).long(),), torch.ones(2)),
    "index of the device": lambda: torch.ones(2)[on_cuda(1).long()],
    "into a CPU tensor": lambda: torch.ones(()).add_(on_cuda()),
    "comparison": lambda: torch.equal(on_cuda(2), torch.ones(2)),
    "two devices": lambda: on_cuda(2) + torch.ones(2, device="cuda:1"),
    "layer": lambda: nn.Linear(2, 2)(on_cuda(1, 2)),
}


@pytest.mark.parametrize("name", MISPLACED)
def test_operands_on_two_devices_are_refused(simulated, name):
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        MISPLACED[name]()


def test_numbers_and_indices_may_be_on_the_cpu(simulated):
    x = on_cuda(3)
    assert (x + torch.tensor(1.0)).tolist() == [2, 2, 2]
    assert x[torch.tensor([0, 2])].shape == (2,)
    x[torch.tensor([0])] = torch.tensor(5.0)
    assert torch.where(x > 1, x, torch.tensor(0.0)).tolist() == [5, 0, 0]


def test_numpy_is_refused(simulated):
    for ask in (lambda x: x.numpy(), np.asarray, lambda x: x.detach().numpy()):
        with pytest.raises(TypeError, match=r"can't convert cuda:0 .* to numpy"):
            ask(on_cuda(2))


def test_generators_of_another_device_are_refused(simulated):
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        torch.rand(2, device="cuda", generator=torch.Generator())
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        on_cuda(2).normal_(generator=torch.Generator())
    own = torch.cuda.default_generators[0]
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator"):
        torch.rand(2, generator=own)
    assert torch.rand(2, device="cuda", generator=own).device == simulated.device


def test_data_are_taken_over_if_they_are_alike(simulated):
    x, y = on_cuda(2), on_cuda(2) + 1
    x.data = y.data
    y.add_(1)
    assert x.tolist() == [3, 3], "they share their memory"
    for other in (torch.zeros(2), on_cuda(3), on_cuda(2).double(), torch.ones(2, device="cuda:1")):
        with pytest.raises(NotImplementedError, match="only data of the same device, shape"):
            x.data = other


NOT_DETERMINISTIC = {
    "kthvalue": lambda: on_cuda(3).kthvalue(2),
    "median": lambda: on_cuda(3).median(dim=0),
    "cumsum": lambda: on_cuda(3).cumsum(0),
    "histc": lambda: on_cuda(3).histc(2),
    "adaptive_avg_pool2d_backward": lambda: (
        functional.adaptive_avg_pool2d(on_cuda(1, 1, 5, 5).requires_grad_(), 2).sum().backward()
    ),
}


@pytest.mark.parametrize("name", NOT_DETERMINISTIC)
def test_strict_determinism_refuses_what_has_no_such_implementation(simulated, name):
    act = NOT_DETERMINISTIC[name]
    act()
    torch.use_deterministic_algorithms(True, warn_only=True)
    act()
    torch.use_deterministic_algorithms(True)
    with pytest.raises(RuntimeError, match=f"{name}.* does not have a deterministic"):
        act()


def test_strict_determinism_lets_the_rest_pass(simulated):
    torch.use_deterministic_algorithms(True)
    on_cuda(3).long().cumsum(0)
    x = on_cuda(1, 1, 4, 4).requires_grad_()
    functional.adaptive_avg_pool2d(functional.max_pool2d(x, 2), 1).sum().backward()
    assert x.grad.device == simulated.device


# -- what it counts --


def test_launches_are_counted_and_views_are_not(simulated):
    x = on_cuda(4, 4)
    with simulated.counting() as counts:
        x.t()[1:].reshape(-1).unsqueeze(0).detach()
        torch.empty(3, device="cuda")
    assert counts.launches == 1, "reshape copies a transposed matrix"
    with simulated.counting() as counts:
        x.add_(1).mul_(2)
        torch._foreach_add_([x, x], 1.0)
    assert counts.operators == {"add_": 1, "mul_": 1, "_foreach_add_": 1}
    with simulated.counting() as counts:
        torch._foreach_mul([x, x], [x.sum(), x.sum()])
    assert counts.operators == {"sum": 2, "_foreach_mul": 2}, "one by one where shapes differ"
    assert not (counts.to_device or counts.to_host or counts.waits)


def test_copies_are_counted_by_line(simulated):
    with simulated.counting() as counts:
        x = torch.ones(3).to("cuda")
        torch.tensor([1, 2], device=simulated.device)
        x.copy_(torch.zeros(3))
        x[torch.tensor([0])]
        assert x.to("cuda") is x
        x.to(torch.float64)
        torch.zeros(3).copy_(x.cpu().to("cpu"))
        torch.zeros(3).copy_(x)
    assert counts.to_device.total() == 4 and counts.to_host.total() == 2
    assert all(line.startswith(f"{HERE}:") for line in (*counts.to_device, *counts.to_host))
    assert len(counts.to_device) == 4 and len(counts.to_host) == 2


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x[0].item(),
        lambda x: float(x.sum()),
        lambda x: bool(x.any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: torch.equal(x, x),
        lambda x: x.unique(),
        lambda x: torch.cuda.synchronize(),
    ],
)
def test_hidden_waits_are_counted(simulated, wait):
    x = on_cuda(3)
    with simulated.counting() as counts:
        wait(x)
    assert counts.waits.total() >= 1 and all(line.startswith(HERE) for line in counts.waits)


def test_counts_add_up_in_those_around_them(simulated):
    with simulated.counting() as outer:
        on_cuda(2)
        with simulated.counting() as inner:
            on_cuda(2)
    assert (outer.launches, inner.launches) == (2, 1)


def test_lines_of_the_package_come_first(simulated):
    from safs.training.data import BatchOrder, load_fold

    fold = load_fold("generated_digits", 0, 1, simulated.device)
    with simulated.counting() as counts:
        next(BatchOrder(1, 0, "final").batches(fold, 0, 8))
    assert counts.to_device and {line.partition(":")[0] for line in counts.to_device} == {
        "safs/training/data.py"
    }


def test_autocast_rounds_as_that_of_the_cpu(simulated):
    layer = nn.Linear(4, 4).to("cuda")
    with torch.autocast("cuda", torch.bfloat16):
        out = layer(on_cuda(2, 4))
    assert out.dtype == torch.bfloat16 and out.device == simulated.device
    out.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    assert layer.weight.grad.device == simulated.device


def test_optimisers_take_its_tensors_by_the_list(simulated):
    layer = nn.Linear(4, 4).to("cuda")
    layer(on_cuda(2, 4)).sum().backward()
    with simulated.counting() as counts:
        torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert set(counts.operators) == {"_foreach_add_"}


# -- graphs --


def captured(work):
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.Stream()):
        work()
    return graph


def test_a_capture_runs_nothing_and_a_replay_everything(simulated):
    layer, x = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).to("cuda"), on_cuda(3, 4)
    out, before = torch.zeros(3, 4, device="cuda"), copy.deepcopy(layer.state_dict())
    with simulated.counting() as counts:
        graph = captured(lambda: out.copy_(layer(x).detach().t().reshape(3, 4)))
    assert not counts.launches and not out.cpu().any()
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    for value in (2.0, 3.0):
        x.fill_(value)
        with simulated.counting() as counts:
            graph.replay()
        assert counts.operators == {"graph": 1}
        twin = copy.deepcopy(layer)
        twin.load_state_dict(before)
        assert torch.equal(out, twin(x).detach().t().reshape(3, 4))
    assert layer[1].num_batches_tracked.item() == 2


def test_a_graph_trains_as_its_steps_do(simulated):
    ends = []
    for replays in (0, 4):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 1)).to("cuda")
        adam = torch.optim.Adam(layers.parameters(), lr=0.01, capturable=True)
        x = on_cuda(5, 4)

        def step(layers=layers, adam=adam, x=x):
            adam.zero_grad()
            layers(x).square().sum().backward()
            adam.step()

        step()
        graph = captured(step)
        for _ in range(replays):
            graph.replay()
        for _ in range(4 - replays):
            step()
        ends.append([value.cpu() for value in layers.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_numbers_of_the_host_are_those_of_the_capture(simulated):
    x, scale = on_cuda(2), torch.tensor(2.0)
    graph = captured(lambda: x.mul_(scale))
    scale.fill_(5.0)
    graph.replay()
    assert x.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    "work",
    [
        lambda x: float(x.sum()),
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: x.add_(torch.ones(3).to("cuda")),
        lambda x: x.copy_(torch.zeros(3)),
        lambda x: x[torch.tensor([0])],
        lambda x: torch.cuda.synchronize(),
    ],
)
def test_a_capture_refuses_copies_and_waits(simulated, work):
    x = on_cuda(3)
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        captured(lambda: work(x))
    assert not torch.cuda.is_current_stream_capturing()
    assert x.tolist() == [1.0] * 3


def test_the_default_stream_cannot_be_captured(simulated):
    with (
        pytest.raises(RuntimeError, match="non-default stream"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        pass


def test_a_graph_is_not_replayed_on_freed_memory(simulated):
    x, others = on_cuda(2), [on_cuda(2)]
    graph = captured(lambda: x.add_(others[0]))
    graph.replay()
    others.clear()
    with pytest.raises(RuntimeError, match="memory that was freed"):
        graph.replay()


def test_the_module_that_dispatches_has_no_ledger_without_a_device():
    with pytest.raises(RuntimeError, match="no simulated CUDA device"):
        tensor.ledger()
