"""The switches between readings of the paper: the kept epoch, SReLU, spared layers, arithmetic."""

import copy

import numpy as np
import pytest
import torch
from counting import survivors

from safs import masks, slots
from safs.arms import ARMS, chromosome
from safs.datasets import Augmentation
from safs.datasets.generated import templates
from safs.errors import SafsError
from safs.networks import build, prunable
from safs.pruning import scopes
from safs.pruning.prune import prune, spared
from safs.settings import Protocol
from safs.spec import Acceleration, Recipe
from safs.training.data import BatchOrder, Fold, Images
from safs.training.evaluation import score
from safs.training.loop import train
from safs.training.start import Pruned

SHAPE = (1, 28, 28)
ORDER = BatchOrder(1, 0, "final")
UNSTEADY = Recipe(optimizer="adam", lr=0.01, batch_size=32)
RECIPE = Recipe(lr=0.05, momentum=0.9, batch_size=32)
both_backends = pytest.mark.parametrize("backend", ["dense", "sparse"])


@pytest.fixture(scope="module")
def fold():
    arrays = templates("train", SHAPE, 10)
    order = np.random.default_rng(0).permutation(len(arrays.labels))
    one = torch.ones(1, 1, 1)
    pixels, labels = (torch.from_numpy(a[order]) for a in arrays)
    train_part = Images(pixels[:120], labels[:120], 0 * one, one)
    return Fold(
        train_part, Images(pixels[120:180], labels[120:180], 0 * one, one), Augmentation(), 10
    )


def pruned_lenet(ratio=0.9):
    network = build("lenet5", SHAPE, 10)
    mask = prune(network, ratio)
    masks.apply(mask, network)
    return network, mask


@both_backends
def test_the_best_validation_epoch_is_kept_where_asked_for(fold, backend):
    runs = {}
    for keep in ("last", "best_validation"):
        network, mask = pruned_lenet(0.5)
        outcome = train(
            network,
            fold,
            UNSTEADY,
            5,
            ORDER,
            mask=mask,
            backend=backend,
            validate="every",
            keep=keep,
        )
        runs[keep] = outcome, score(network.eval(), fold.validation).top1
    measured = [entry.validation_accuracy for entry in runs["last"][0].history]
    assert runs["last"][0].history == runs["best_validation"][0].history
    assert max(measured) > measured[-1], "the case shows nothing"
    assert runs["last"][0].kept == 5 and runs["last"][1] == pytest.approx(measured[-1])
    best, accuracy = runs["best_validation"]
    assert best.kept == 1 + measured.index(max(measured))
    assert accuracy == pytest.approx(max(measured))


@both_backends
def test_the_best_epoch_survives_an_interruption(fold, backend):
    def run(resume=None, until=None, on_epoch=None):
        network, mask = pruned_lenet(0.5)
        how = {"mask": mask, "backend": backend, "validate": "every", "keep": "best_validation"}
        outcome = train(
            network, fold, UNSTEADY, 5, ORDER, until=until, resume=resume, on_epoch=on_epoch, **how
        )
        return outcome, network.state_dict()

    whole, expected = run()
    states = []
    run(until=4, on_epoch=lambda snapshot: states.append(copy.deepcopy(snapshot.state())))
    assert len(states) == 4
    resumed, weights = run(resume=states[-1])
    assert resumed.history == whole.history and resumed.kept == whole.kept < 5
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_a_training_that_ends_early_follows_the_schedule_of_all_its_epochs(fold):
    recipe = Recipe(lr=0.05, schedule="cosine", batch_size=32)
    network, mask = pruned_lenet()
    early = train(network, fold, recipe, 6, ORDER, mask=mask, until=3)
    network, mask = pruned_lenet()
    whole = train(network, fold, recipe, 6, ORDER, mask=mask, validate="every")
    assert [e.lr for e in early.history] == [e.lr for e in whole.history[:3]]
    assert early.last.train_loss == whole.history[2].train_loss
    assert early.last.validation_accuracy == whole.history[2].validation_accuracy


@pytest.mark.parametrize(
    ("reading", "operator", "sizes"),
    [
        ("per_channel", "srelu", {6, 16, 120, 84}),
        ("per_layer", "srelu_layer", {1}),
        ("as_released", "srelu_released", {1}),
    ],
)
def test_each_reading_of_srelu(fold, reading, operator, sizes):
    network, mask = pruned_lenet()
    genes = chromosome("srelu", ("relu",) * 4, Protocol(srelu=reading))
    assert genes == (operator,) * 4
    made = Pruned(network, mask).network(genes, fold.train)
    places = list(slots.slots(made).values())
    assert {len(slot.own["t_right"]) for slot in places} == sizes
    if reading == "as_released":
        x = torch.linspace(-3, 3, 13)[None]
        torch.testing.assert_close(places[3](x), x - 1)
    else:
        assert all(bool((slot.own["t_right"] >= 1e-3).all()) for slot in places)
        assert len({slot.own["t_right"].mean().item() for slot in places}) == 4, "from the data"
    outcome = train(made, fold, RECIPE, 2, ORDER, mask=mask, backend="sparse")
    assert outcome.failure is None and outcome.backend == "sparse"


@pytest.mark.parametrize("reading", ["per_channel", "per_layer", "as_released"])
def test_srelu_per_layer_is_an_arm_of_its_own_under_every_reading(reading):
    for arm in ("srelu_layer", "srelu_layer_hpo"):
        assert chromosome(arm, ("relu",) * 4, Protocol(srelu=reading)) == ("srelu_layer",) * 4
        assert ARMS[arm].beyond_paper and not ARMS[arm].scaled
    assert [ARMS[arm].tuned for arm in ("srelu_layer", "srelu_layer_hpo")] == [False, True]


def test_a_threshold_per_layer_is_the_layers_quantile(fold):
    network, mask = pruned_lenet()
    made = Pruned(network, mask).network(("srelu_layer",) * 4, fold.train)
    first = next(iter(slots.slots(made).values()))
    probe = Pruned(network, mask).network(("relu",) * 4, fold.train)
    with torch.no_grad():
        inputs = probe.conv1(fold.train.normalised(slice(None))).flatten()
    below = float((inputs <= first.own["t_right"]).float().mean())
    assert below == pytest.approx(0.9, abs=1e-4)


def test_spared_layers_stay_dense_and_the_others_keep_their_ratio():
    network = build("efficientnet_b0", (3, 16, 16), 10, options={"width": 0.125})
    dense = spared(network, ["*.squeeze.fc2", "head.conv"])
    assert len(prunable(network)) - len(dense) == 65
    mask = prune(network, 0.9, spare=["*.squeeze.fc2", "head.conv"])
    masks.check(mask, network)
    for name, keep in mask.items():
        expected = keep.numel() if name in dense else scopes.kept(keep.numel(), 0.9)
        assert int(keep.sum()) == expected, name


def test_spared_layers_stay_dense_in_every_round_of_a_pruner():
    network = build("lenet5", SHAPE, 10)
    mask = prune(network, 0.8, "synflow", scope="global", spare=["conv1"], shape=SHAPE)
    assert bool(mask["conv1"].all())
    others = sum(keep.numel() for name, keep in mask.items() if name != "conv1")
    kept = sum(int(keep.sum()) for name, keep in mask.items() if name != "conv1")
    assert kept == scopes.kept(others, 0.8)


def test_a_pattern_that_spares_nothing_is_refused():
    with pytest.raises(SafsError, match=r"no prunable layer matches 'cnv1'.*conv1"):
        prune(pruned_lenet()[0], 0.9, spare=["cnv1"])


@pytest.mark.parametrize(
    "options",
    [{"channels_last": True}, {"bf16": True}, {"compile": "on"}, {"tf32": True}],
    ids=lambda o: next(iter(o)),
)
def test_faster_arithmetic_learns_as_well_and_keeps_pruned_weights_at_zero(fold, options):
    network, mask = pruned_lenet()
    plain = train(network, fold, RECIPE, 3, ORDER, mask=mask)
    network, mask = pruned_lenet()
    faster = train(network, fold, RECIPE, 3, ORDER, mask=mask, acceleration=Acceleration(**options))
    assert faster.failure is None and faster.last.train_loss < faster.history[0].train_loss
    assert faster.last.train_loss == pytest.approx(plain.last.train_loss, rel=0.05)
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert survivors(network) == {name: int(k.sum()) for name, k in mask.items()}
