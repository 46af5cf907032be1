"""Every public surface on the simulated device, beside the same on the CPU.

The device computes with the CPU's arithmetic, so results agree bit for bit unless something is in
the wrong place, or an optimiser steps through whole lists of tensors, which it does on CUDA alone.
"""

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from simulated.launches import DATA, NARROW, noise
from torch import nn
from torch.nn.utils import prune as torch_prune
from torch.utils.data import DataLoader, TensorDataset

import safs
from safs import masks, slots
from safs.api import export
from safs.datasets import DATASETS
from safs.networks import build
from safs.operators import OPERATORS
from safs.pruning.compression import account
from safs.pruning.connectivity import connectivity
from safs.pruning.prune import prune, scoring_batch
from safs.pruning.pruners import PRUNERS
from safs.pruning.scopes import SCOPES
from safs.search import predictors, spectrum
from safs.settings import OPTIMIZERS
from safs.spec import Acceleration, Recipe
from safs.training import evaluation, scores
from safs.training.data import BatchOrder, load_test
from safs.training.loop import train
from safs.training.start import Pruned

CPU = torch.device("cpu")
ORDER = BatchOrder(1, 0, "search")
SMALL, SHAPE, CLASSES = "generated_imagenet16", (3, 16, 16), 20
"""Images with augmentation on which LeNet-5 has a thousand weights in its convolutions."""
CHROMOSOME = ("srelu", "acon", "swish", "falu")
MINI = safs.Budget(moves=1, search_epochs=1, trials=2, tune_epochs=1)
pytestmark = [
    pytest.mark.filterwarnings("ignore:stage 2 is repeatable:UserWarning"),
    pytest.mark.filterwarnings("ignore:CUDA is in use already:UserWarning"),
]


@pytest.fixture
def places(simulated):
    return CPU, simulated.device


def lenet():
    """On the CPU, with its mask."""
    network = build("lenet5", SHAPE, CLASSES)
    return network, prune(network, 0.8)


def started(place, chromosome=("relu",) * 4, **how):
    """A pruned network and its mask on one device, and a fold with a partial last batch."""
    network, mask = lenet()
    fold = noise(SMALL, 20, place)
    return Pruned(network.to(place), mask).network(chromosome, fold.train, **how), mask, fold


def trained(place, recipe, epochs=1, chromosome=("relu",) * 4, how=None, **options):
    network, mask, fold = started(place, chromosome, **(how or {}))
    outcome = train(network, fold, recipe, epochs, ORDER, mask=mask, **options)
    assert outcome.failure is None and outcome.backend == "dense"
    masks.check_applied(mask, network)
    assert {p.device for p in network.parameters()} == {place}
    return network, outcome


def same_state(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs)


def losses(outcome):
    return [(entry.train_loss, entry.validation_loss) for entry in outcome.history]


# -- data, masks and what is counted of them --


def test_batches_are_those_of_the_cpu(places):
    epochs = []
    for place in places:
        batches = list(ORDER.batches(noise(SMALL, 20, place), 3, 16))
        assert {part.device for batch in batches for part in batch} == {place}
        epochs.append([part.cpu() for batch in batches for part in batch])
    assert all(torch.equal(a, b) for a, b in zip(*epochs, strict=True))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("method", PRUNERS)
def test_masks_are_those_of_the_cpu(places, method, scope, monkeypatch):
    if method == "synflow":
        monkeypatch.setattr(PRUNERS[method], "rounds", 5)  # instead of a hundred
    found = []
    for place in places:
        network, first = lenet()
        batch = scoring_batch(noise(SMALL, 40, place).train, 20, 1, 0)
        assert batch["images"].device == place
        extra = {"shape": SHAPE, "rng": np.random.default_rng(0)}
        if method == "given":
            extra["given"] = {name: keep.to(place) for name, keep in first.items()}
        found.append(prune(network.to(place), 0.8, method, scope=scope, **batch, **extra))
    cpus, ours = found
    assert all(keep.device == CPU for keep in ours.values()), "a mask lies on the CPU"
    assert all(torch.equal(cpus[name], keep) for name, keep in ours.items())


@pytest.mark.parametrize("mask_there", [False, True])
def test_connectivity_size_and_sparsity_are_those_of_the_cpu(simulated, mask_there):
    network, mask = lenet()
    labels = np.arange(60) % CLASSES
    told = [
        (asdict(account(network, mask, SHAPE)), asdict(connectivity(network, mask, SHAPE, labels)))
    ]
    network = network.to(simulated.device)
    theirs = {k: v.to(simulated.device) if mask_there else v for k, v in mask.items()}
    masks.apply(theirs, network)
    masks.check_applied(theirs, network)
    told.append(
        (asdict(account(network, mask, SHAPE)), asdict(connectivity(network, mask, SHAPE, labels)))
    )
    assert told[0] == told[1]
    assert masks.sparsity(theirs) == masks.sparsity(mask)
    assert masks.counts(theirs) == masks.counts(mask)


# -- slots and operators --


@pytest.mark.parametrize("operator", ["relu", *(n for n, entry in OPERATORS.items() if entry.own)])
def test_slots_lie_where_the_network_does(simulated, operator):
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).to(simulated.device)
    network = slots.install(model, torch.zeros(2, 4, device=simulated.device), operator)
    assert {p.device for p in network.parameters()} == {simulated.device}
    slots.fill(network, [operator], scaled=True, train_own=True)
    assert {p.device for p in network.parameters()} == {simulated.device}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_trains_as_on_the_cpu(places, operator, scaled):
    found = []
    for place in places:
        how = {"scaled": scaled, "train_own": scaled}
        recipe = Recipe(lr=0.01, momentum=0.9, weight_decay=5e-4, batch_size=16)
        network, outcome = trained(place, recipe, 1, (operator,) * 4, how)
        described = [slot.describe() for slot in slots.slots(network).values()]
        found.append((losses(outcome), described))
    assert found[0] == found[1]


def test_thresholds_are_read_off_the_same_numbers(places):
    found = []
    for place in places:
        network, _, _ = started(place, ("srelu", "srelu_layer", "srelu", "relu"))
        slot_list = [slot for slot in slots.slots(network).values() if "t_right" in slot.own]
        found.append([slot.own["t_right"].detach().cpu() for slot in slot_list])
    assert len(found[0]) == 3
    assert all(torch.equal(cpus, ours) for cpus, ours in zip(*found, strict=True))


def test_under_bf16_every_operator_returns_what_it_was_given(simulated):
    returned = set()
    for operator in OPERATORS:
        slot = slots.Slot(operator, 6).to(simulated.device)
        x = torch.ones(2, 6, 4, 4, dtype=torch.bfloat16, device=simulated.device)
        with torch.autocast("cuda", torch.bfloat16):
            returned.add(slot(x).dtype)
    assert len(returned) == 1


# -- training --


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_trains_as_on_the_cpu(places, optimizer):
    recipe = Recipe(optimizer=optimizer, lr=0.01, batch_size=16)
    (one, cpus), (other, ours) = (
        trained(place, recipe, 2, CHROMOSOME, {"scaled": True, "train_own": True})
        for place in places
    )
    if optimizer == "adam":  # torch's own steps through lists on CUDA, in another order
        assert ours.last.train_loss == pytest.approx(cpus.last.train_loss, rel=1e-5)
    else:
        assert ours.history == cpus.history and same_state(one, other)


@pytest.mark.parametrize(
    "optimizer, keep", [*((name, "last") for name in OPTIMIZERS), ("tadam", "best_validation")]
)
def test_a_training_resumed_from_a_file_ends_bit_for_bit(simulated, optimizer, keep):
    recipe = Recipe(optimizer=optimizer, lr=0.01, batch_size=16)
    files = []

    def write(snapshot):
        files.append(io.BytesIO())
        torch.save(snapshot.state(), files[-1])

    options = {"validate": "every", "keep": keep}
    whole, first = trained(
        simulated.device, recipe, 2, CHROMOSOME, {"scaled": True}, on_epoch=write, **options
    )
    files[0].seek(0)
    state = torch.load(files[0], map_location="cpu", weights_only=True)
    again, second = trained(
        simulated.device, recipe, 2, CHROMOSOME, {"scaled": True}, resume=state, **options
    )
    assert second.history == first.history and second.kept == first.kept
    assert same_state(whole, again)


def test_dropout_draws_from_the_seeded_stream_of_the_device(places):
    found = []
    for place in places:
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 2, 8), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(162, CLASSES)
        network = slots.install(nn.Sequential(*layers), torch.zeros(2, *SHAPE), "relu").to(place)
        torch.rand(7, device=place)  # what was drawn before plays no part
        outcome = train(network, noise(SMALL, 20, place), Recipe(lr=0.01), 2, ORDER)
        found.append(losses(outcome))
    assert found[0] == found[1]


def test_the_kernels_are_not_asked_on_the_device(simulated):
    network, mask, fold = started(simulated.device)
    for backend in ("auto", "sparse"):
        outcome = train(network, fold, Recipe(lr=0.01), 1, ORDER, mask=mask, backend=backend)
        assert outcome.backend == "dense" and outcome.failure is None


def test_a_mask_may_lie_on_the_device(places):
    found = []
    for place in places:
        network, mask, fold = started(place)
        there = {name: keep.to(place) for name, keep in mask.items()}
        found.append(losses(train(network, fold, Recipe(lr=0.01), 1, ORDER, mask=there)))
    assert found[0] == found[1]


@pytest.mark.parametrize("options", [{"channels_last": True}, {"bf16": True}, {"tf32": True}])
def test_operators_with_own_parameters_train_faster_too(simulated, options):
    how = {"scaled": True, "train_own": True}
    recipe = Recipe(lr=0.01, momentum=0.9, batch_size=16)
    faster = Acceleration(**options)
    _, outcome = trained(simulated.device, recipe, 1, CHROMOSOME, how, acceleration=faster)
    plain = trained(CPU, recipe, 1, CHROMOSOME, how)[1]
    assert outcome.last.train_loss == pytest.approx(plain.last.train_loss, rel=0.05)


# -- scores --


@pytest.mark.parametrize("name", predictors.PREDICTORS)
def test_predictors_say_what_they_say_on_the_cpu(places, name):
    found = []
    for place in places:
        network, _, fold = started(place, CHROMOSOME, scaled=True)
        batch = scoring_batch(fold.train, 20, 1, 0)
        found.append(predictors.score([name], network, **batch))
    assert found[0] == found[1] and np.isfinite(found[0][name])


def test_a_spectrum_is_that_of_the_cpu(places):
    found = []
    for place in places:
        network, _, fold = started(place, CHROMOSOME, scaled=True)
        images = scoring_batch(fold.train, 6, 1, 0)["images"]
        found.append(spectrum.spectrum(network, images))
    assert found[0] == found[1] and np.isfinite([*found[0].values()]).all()


def test_evaluation_is_that_of_the_cpu(simulated):
    network, _, _ = started(CPU, CHROMOSOME)
    cpus = scores.by_torch(network, load_test(SMALL, CPU))
    (ours,) = evaluation.test([network.to(simulated.device)], SMALL, simulated.device)
    assert (ours.top1, ours.top5, ours.loss) == (cpus.top1, cpus.top5, cpus.loss)
    assert np.array_equal(ours.correct, cpus.correct)


# -- the four networks --


@pytest.mark.parametrize("name", NARROW)
def test_every_network_steps_as_on_the_cpu(places, name):
    """Under strict determinism."""
    entry = DATASETS[DATA[name]]
    found = []
    for place in places:
        torch.use_deterministic_algorithms(place.type == "cuda")
        network = build(name, entry.shape, entry.classes, options=NARROW[name])
        mask = prune(network, 0.5)
        masks.apply(mask, network)
        recipe = Recipe(lr=0.001, momentum=0.9, weight_decay=5e-4, batch_size=4)
        fold = noise(DATA[name], 4, place)
        outcome = train(network.to(place), fold, recipe, 1, ORDER, mask=mask)
        assert outcome.failure is None
        found.append((losses(outcome), outcome.last.flow, network))
    (*cpus, one), (*ours, other) = found
    assert ours == cpus and same_state(one, other)


# -- the public interface --


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 3),
    )  # fmt: skip


def data(place=CPU):
    torch.manual_seed(1)
    x, y = torch.randn(48, 1, 8, 8), torch.arange(48) % 3
    return x.to(place), y.to(place)


def tuned(place, data_at=CPU, **asked):
    asked = {"ratio": 0.5, "budget": MINI, "backend": "dense"} | asked
    own = asked.pop("model", None) or model()
    pair = asked.pop("data", None) or data(data_at)
    return safs.search_and_tune(own.to(place), pair, pair, **asked)


@pytest.mark.parametrize("method", ["magnitude", "grasp"])
def test_search_and_tune_finds_what_it_finds_on_the_cpu(places, method):
    cpus, ours = (tuned(place, method=method, scope="global") for place in places)
    assert {p.device for p in ours.module.parameters()} == {places[1]}
    assert all(torch.equal(cpus.mask[name], keep) for name, keep in ours.mask.items())
    found = [result.report["search"]["evaluations"] for result in (cpus, ours)]
    assert [row["chromosome"] for row in found[0]] == [row["chromosome"] for row in found[1]]
    assert [row["energy"] for row in found[0]] == [row["energy"] for row in found[1]]
    assert cpus.report["validation"] == ours.report["validation"]


def test_data_may_lie_on_the_device_or_in_a_loader(simulated):
    loader = DataLoader(TensorDataset(*data()), batch_size=10)
    first = tuned(simulated.device)
    for given in (data(simulated.device), loader):
        again = tuned(simulated.device, data=given)
        assert again.report["tuning"] == first.report["tuning"]
        assert same_state(again.module, first.module)


def test_augmentation_and_a_default_with_own_parameters(simulated):
    own = model()
    own[2] = nn.Hardtanh(-0.3, 0.3)
    augmentation = safs.Augmentation(pad=1, flip=True)
    result = tuned(simulated.device, model=own, default="srelu", augmentation=augmentation)
    assert {p.device for p in result.module.parameters()} == {simulated.device}


def test_masks_from_elsewhere_may_lie_on_the_device(simulated):
    here = model()
    mask = {name: (w.abs() > w.abs().median()) for name, w in prunable_of(here).items()}
    there = {name: keep.to(simulated.device) for name, keep in mask.items()}
    result = tuned(simulated.device, ratio=None, mask=there)
    assert all(torch.equal(result.mask[name], keep) for name, keep in mask.items())
    sparse = model().to(simulated.device)
    for layer in (sparse[0], sparse[5], sparse[7]):
        torch_prune.l1_unstructured(layer, "weight", 0.5)
    result = tuned(simulated.device, model=sparse, ratio=None)
    assert masks.sparsity(result.mask) == pytest.approx(0.5, abs=0.01)


def prunable_of(module):
    return {
        name: layer.weight.detach()
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }


def test_a_saved_result_loads_onto_the_device_bit_for_bit(simulated, tmp_path):
    result = tuned(simulated.device)
    loaded = safs.load(result.save(tmp_path), model().to(simulated.device))
    x = data(simulated.device)[0]
    with torch.no_grad():
        assert torch.equal(loaded(x), result.module(x))
        assert torch.equal(safs.load(tmp_path, model())(x.cpu()), result.module(x).cpu())


@pytest.mark.parametrize("kind", ["cpu", "simulated"])
def test_a_model_in_channels_last_can_be_saved(places, kind, tmp_path):
    place = places[kind == "simulated"]
    own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    x, y = torch.randn(24, 3, 8, 8), torch.arange(24) % 3
    own = own.to(place).to(memory_format=torch.channels_last)
    result = tuned(place, model=own, data=(x, y))
    assert result.save(tmp_path).exists()


def test_a_network_on_the_device_is_written_as_it_is(simulated, tmp_path):
    network, _, _ = started(simulated.device, CHROMOSOME, scaled=True)
    export.save_state(network, tmp_path / "weights.safetensors")
    again = build("lenet5", SHAPE, CLASSES)
    slots.fill(again, CHROMOSOME, scaled=True)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert same_state(network, again)


def test_onnx_is_made_of_a_copy_on_the_cpu(simulated, tmp_path, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    given = []

    def write(network, inputs, path, **options):
        given.append(network)
        Path(path).touch()

    monkeypatch.setattr(torch.onnx, "export", write)
    monkeypatch.setattr(export, "compare", lambda network, *_: given.append(network) or 0.0)
    network, _, _ = started(simulated.device, CHROMOSOME, scaled=True)
    assert export.to_onnx(network, SHAPE, tmp_path / "model.onnx") == 0.0
    exported, compared = given
    assert exported is compared and {p.device for p in exported.parameters()} == {CPU}
    assert {p.device for p in network.parameters()} == {simulated.device}
    assert same_state(exported, network)
