"""The option ``graphs``: a training step captured once and replayed, on the simulated device.

There a graph repeats its operations on the memory of its capture, so a number of the host that
changes from step to step, or memory that is replaced, ends in other bits than the steps themselves.
"""

import copy
import io

import pytest
import torch
from simulated.launches import DATA, NARROW, noise
from torch import nn
from torch.optim import SGD

from safs import masks, slots
from safs.backends import graphs
from safs.backends.dense import DenseBackend
from safs.datasets import DATASETS
from safs.errors import SafsError
from safs.networks import build
from safs.pruning.prune import prune
from safs.settings import OPTIMIZERS
from safs.spec import Acceleration, Recipe
from safs.training.data import BatchOrder
from safs.training.loop import train

CPU = torch.device("cpu")
ORDER = BatchOrder(1, 0, "final")
GRAPHS, PLAIN = Acceleration(graphs=True), Acceleration()
BATCH, IMAGES = 4, 22  # five full batches, two more than are run before a capture, and a partial
RATES = (0.002, 0.001, 0.0005)


def with_batch_norm():
    """And with dropout, a layer with alpha and beta, and one whose operator has own parameters."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 6, 5), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(4), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(54, 12), nn.ReLU(), nn.Linear(12, 20),
    ]  # fmt: skip
    network = slots.install(nn.Sequential(*layers), torch.zeros(2, 3, 16, 16), "relu")
    slots.fill(network, ["swish", "acon"], scaled=True, train_own=True)
    return network, "generated_imagenet16"


def paper(name):
    entry = DATASETS[DATA[name]]
    return build(name, entry.shape, entry.classes, options=NARROW[name]), DATA[name]


def start(name, device):
    """A pruned network on a device, its mask and its images."""
    network, dataset = with_batch_norm() if name == "small" else paper(name)
    mask = prune(network, 0.5)
    masks.apply(mask, network)
    return network.to(device), mask, noise(dataset, IMAGES, device)


def recipe(optimizer):
    decay = 0.0 if optimizer == "fromage" else 5e-4
    momentum = 0.9 if optimizer == "sgd" else 0.0
    return Recipe(
        optimizer=optimizer, lr=0.002, momentum=momentum, weight_decay=decay, batch_size=BATCH,
        schedule="cosine",
    )  # fmt: skip


def backend(name, device, optimizer="sgd", how=GRAPHS, captured=True):
    network, mask, fold = start(name, device)
    made = DenseBackend(network, fold, recipe(optimizer), ORDER, mask, how)
    assert (made.captured is not None) == (how.graphs and device != CPU)
    if not captured:
        made.captured = None  # the same steps, each run as it is
    return made


def tensors(made):
    """All that a training changes, by where it stands."""
    state = copy.deepcopy(made.state())
    found = {f"network.{name}": value for name, value in state["network"].items()}
    for index, of in state["optimizer"]["state"].items():
        found |= {f"optimizer.{index}.{name}": value for name, value in of.items()}
    return {name: value.cpu() for name, value in found.items()}


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in one.items())


def epochs(made, rates=RATES):
    return [made.train_epoch(epoch, rate) for epoch, rate in enumerate(rates)]


# -- the same bits as without a capture --


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["lenet5", "small"])
def test_replays_end_in_the_bits_of_the_steps(simulated, name, optimizer):
    """Under learning rates that change, and with a partial last batch."""
    captured = backend(name, simulated.device, optimizer)
    plain = backend(name, simulated.device, optimizer, captured=False)
    assert epochs(captured) == epochs(plain)
    assert captured.captured.graph is not None
    assert same(tensors(captured), tensors(plain))


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "efficientnet_b0"])
def test_so_do_those_of_deep_networks(simulated, name):
    torch.use_deterministic_algorithms(True)
    captured = backend(name, simulated.device)
    plain = backend(name, simulated.device, captured=False)
    assert epochs(captured, RATES[:1]) == epochs(plain, RATES[:1])
    assert captured.captured.graph is not None
    assert same(tensors(captured), tensors(plain))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_without_the_option_results_differ_by_rounding(simulated, optimizer):
    captured = epochs(backend("small", simulated.device, optimizer))
    plain = epochs(backend("small", simulated.device, optimizer, PLAIN))
    for ours, theirs in zip(captured, plain, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
        assert ours.flow == pytest.approx(theirs.flow, rel=1e-2)
        assert ours.flow_step == pytest.approx(theirs.flow_step, rel=1e-2)
        assert (ours.steps, ours.images) == (theirs.steps, theirs.images)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name, keep", [("lenet5", "last"), ("small", "best_validation")])
def test_a_training_resumed_from_a_file_ends_bit_for_bit(simulated, name, keep, optimizer):
    files = []

    def write(snapshot):
        files.append(io.BytesIO())
        torch.save(snapshot.state(), files[-1])

    def trained(**more):
        network, mask, fold = start(name, simulated.device)
        how = {"acceleration": GRAPHS, "validate": "every", "keep": keep}
        outcome = train(network, fold, recipe(optimizer), 3, ORDER, mask=mask, **how, **more)
        assert outcome.failure is None
        return outcome, {k: v.cpu() for k, v in network.state_dict().items()}

    whole, weights = trained(on_epoch=write)
    files[0].seek(0)
    state = torch.load(files[0], map_location="cpu", weights_only=True)
    again, others = trained(resume=state)
    assert again.history == whole.history and again.kept == whole.kept
    assert same(weights, others)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_going_back_to_a_state_captures_anew(simulated, optimizer):
    ends = []
    for captured in (True, False):
        made = backend("small", simulated.device, optimizer, captured=captured)
        made.train_epoch(0, 0.002)
        state = copy.deepcopy(made.state())
        first = made.train_epoch(1, 0.002)
        made.load(state)
        assert made.train_epoch(1, 0.002) == first
        ends.append(tensors(made))
    assert same(*ends)


def test_a_training_that_diverges_tells_its_first_step(simulated):
    for captured in (True, False):
        made = backend("lenet5", simulated.device, captured=captured)
        made.train_epoch(0, 0.002)
        sums = made.train_epoch(1, 1e30)
        assert sums.failed_step == 2 and sums.steps == 6


# -- what a capture does --


def test_a_capture_changes_nothing(simulated):
    made = backend("small", simulated.device, "tadam")
    made.train_epoch(0, 0.002)
    weights, sums = tensors(made), made.totals.values.cpu()
    stream = torch.cuda.get_rng_state(simulated.device)
    images, labels = next(ORDER.batches(made.fold, 1, BATCH))
    with made.captured.side_stream():
        graph = made.captured._captured(made.step, images, labels)
    assert same(tensors(made), weights) and torch.equal(made.totals.values.cpu(), sums)
    assert torch.equal(torch.cuda.get_rng_state(simulated.device), stream)
    graph.replay()
    assert not same(tensors(made), weights)
    assert not torch.equal(torch.cuda.get_rng_state(simulated.device), stream), "dropout drew"


def test_small_batches_and_the_first_are_run_as_they_are(simulated):
    made, ran = backend("lenet5", simulated.device), []
    real = made.step
    made.step = lambda images, labels: ran.append(len(labels)) or real(images, labels)
    made.train_epoch(0, 0.002)
    assert ran == [BATCH] * (graphs.WARM_UP + 1) + [IMAGES % BATCH], "the fourth is the capture"
    made.train_epoch(1, 0.002)
    assert ran[5:] == [IMAGES % BATCH]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_replayed_step_is_a_few_launches(simulated, optimizer):
    """Those that make the batch, two that copy it, and the graph; and it waits for nothing."""
    made = backend("lenet5", simulated.device, optimizer)
    made.train_epoch(0, 0.002)
    made.begin(1, 0.002)
    batches = ORDER.batches(made.fold, 1, BATCH)
    made.advance(*next(batches))
    with simulated.counting() as counts:
        made.advance(*next(batches))
    print(counts.operators)
    assert counts.operators["graph"] == 1 and counts.launches <= 10
    assert not counts.waits and not counts.to_host and not counts.to_device


# -- what does not belong in a graph is found --


def test_a_host_read_is_refused_in_a_line(simulated):
    made = backend("lenet5", simulated.device)
    real = made.totals.add

    def reading(loss, output, labels):
        real(loss, output, labels)
        made.last = float(loss)

    made.totals.add = reading
    with pytest.raises(SafsError, match=r"acceleration.graphs: .* cannot be captured \(operation"):
        made.train_epoch(0, 0.002)


def test_a_copy_from_the_host_is_refused(simulated):
    made = backend("lenet5", simulated.device)
    real = made.step
    made.step = lambda images, labels: real(images * torch.tensor([1.0]).to("cuda"), labels)
    with pytest.raises(SafsError, match=r"when stream is capturing \(_to_copy"):
        made.train_epoch(0, 0.002)


def test_torchs_own_sgd_reads_the_learning_rate(simulated):
    made = backend("lenet5", simulated.device)
    groups = [{**group, "params": group["params"]} for group in made.optimizer.param_groups]
    made.optimizer = SGD(groups, lr=made.lr, momentum=0.9)
    with pytest.raises(SafsError, match="_local_scalar_dense"):
        made.train_epoch(0, 0.002)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_learning_rate_that_is_a_number_ends_in_other_bits(simulated, optimizer):
    """So that the tests above would find one."""
    ends = []
    for captured in (True, False):
        made = backend("lenet5", simulated.device, optimizer, captured=captured)
        made.lr = 0.002  # ``begin`` then hands on a number
        epochs(made)
        ends.append(tensors(made))
    assert not same(*ends)


@pytest.mark.parametrize("optimizer", ["adam", "tadam"])
def test_a_count_of_steps_on_the_host_ends_in_other_bits(simulated, optimizer):
    ends = []
    for captured in (True, False):
        made = backend("lenet5", simulated.device, optimizer, captured=captured)
        for group in made.optimizer.param_groups:
            group["capturable"] = group["foreach"] = False
        made.lr = 0.002
        epochs(made, (0.002, 0.002))
        ends.append(tensors_of(made.network))
    assert not same(*ends)


def tensors_of(network):
    return {name: value.cpu() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_optimisers_state_lies_on_the_device(simulated, optimizer):
    made = backend("small", simulated.device, optimizer)
    made.train_epoch(0, 0.002)
    held = [value for state in made.optimizer.state.values() for value in state.values()]
    assert all(value.device == simulated.device for value in held)
    assert all(
        group["capturable"] and group["lr"] is made.lr for group in made.optimizer.param_groups
    )


# -- where the option does nothing, and what it is refused with --


def test_a_cpu_ignores_it(simulated):
    made = [backend("lenet5", CPU, "tadam", how) for how in (GRAPHS, PLAIN)]
    assert epochs(made[0]) == epochs(made[1])
    assert same(*(tensors_of(one.network) for one in made))


@pytest.mark.parametrize("way", ["on", "cuda_graphs"])
def test_it_is_refused_together_with_compile(way):
    with pytest.raises(SafsError, match=f"graphs is for compile: off only, got compile: {way}"):
        Acceleration(graphs=True, compile=way)


def test_where_it_is_off_it_stands_in_no_identity():
    off, on = Acceleration(), GRAPHS
    assert off.model_dump() == {
        "tf32": False,
        "bf16": False,
        "channels_last": False,
        "compile": "off",
    }
    assert on.model_dump() == {**off.model_dump(), "graphs": True}
    assert off.model_dump(exclude_defaults=True) == {}
    assert on.model_dump(exclude_defaults=True) == {"graphs": True}
    assert Acceleration.model_validate(on.model_dump()) == on
