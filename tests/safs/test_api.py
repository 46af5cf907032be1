"""The public API on networks that are none of the five."""

import dataclasses
import inspect
import json
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from pydantic import BaseModel
from torch import nn
from torch.nn.utils import prune as torch_prune
from torch.utils.data import DataLoader, TensorDataset

import safs
from safs import masks, slots
from safs.api import adopt
from safs.api import tune as api
from safs.datasets import load_part
from safs.errors import SafsError
from safs.networks import prunable
from safs.pruning.prune import prune
from safs.search.tuning_space import CRASH_COST
from safs.settings import Protocol, Search
from safs.spec import Spec

ROOT = Path(__file__).parents[2]
TINY = safs.Budget(moves=1, search_epochs=1, trials=3, tune_epochs=1)
pytestmark = pytest.mark.filterwarnings("ignore:stage 2 is repeatable:UserWarning")


def test_the_default_budget_is_the_papers():
    """Table 4: 20 moves and 20 trials of 80 epochs."""
    paper = {"moves": 20, "search_epochs": 80, "trials": 20, "tune_epochs": 80}
    assert safs.Budget().model_dump() == paper


def small(**layers):
    """A convolutional network with three different activations."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.ELU(), nn.Conv2d(4, 8, 3), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16), layers.get("last", nn.ReLU()),
        nn.Linear(16, 3),
    )  # fmt: skip


def data(count=48, shape=(1, 12, 12), classes=3, seed=0):
    torch.manual_seed(seed)
    return torch.randn(count, *shape), torch.arange(count) % classes


def tune(model=None, **changes):
    asked = {"ratio": 0.8, "budget": TINY, "train": data(), "validation": data(30, seed=1)}
    return safs.search_and_tune(small() if model is None else model, **(asked | changes))


def network_is_as_pruned(result):
    for name, weight in prunable(result.module).items():
        kept = result.mask[name]
        assert bool((weight.detach()[~kept] == 0).all())
    assert result.report["pruning"]["sparsity"] == masks.sparsity(result.mask)


# -- results and files --


@pytest.fixture(scope="module")
def result():
    return tune()


def test_the_report_is_plain_data_and_says_what_was_done(result):
    report = json.loads(json.dumps(result.report.to_plain(), allow_nan=False))
    assert dict(result.report.items()) == report and "nothing" not in result.report
    assert report["default"] == ["elu", "hardswish", "relu"]
    assert [slot["name"] for slot in report["slots"]] == list(slots.slots(result.module))
    assert report["pruning"]["method"] == "magnitude" and report["pruning"]["ratio"] == 0.8
    assert len(report["search"]["evaluations"]) == 2 and len(report["tuning"]["trials"]) == 3
    assert report["size"]["parameters"] == sum(p.numel() for p in small().parameters())
    assert report["data"] == {"train": 48, "validation": 30, "classes": 3, "shape": [1, 12, 12]}
    network_is_as_pruned(result)


def test_trial_zero_is_plain_fine_tuning_and_the_best_trials_own_weights_return(result):
    trials, best = result.report["tuning"]["trials"], result.report["tuning"]["best"]
    plain, second = trials[0], trials[1]
    assert plain["chromosome"] == ("elu", "hardswish", "relu") and not plain["scaled"]
    assert plain["config"] == second["config"] == api.PLAIN
    assert second["scaled"]
    assert best == min(range(3), key=lambda index: (trials[index]["cost"], index))
    x, y = data(30, seed=1)
    measured = float((result.module(x).argmax(1) == y).float().mean())
    assert measured == pytest.approx(result.report["validation"]["tuned"])
    assert result.report["validation"]["tuned"] >= result.report["validation"]["plain"]


def test_saved_files_load_into_a_fresh_instance_bit_for_bit(result, tmp_path):
    folder = result.save(tmp_path / "deep" / "folder")
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "report.json"}
    fresh, drawn = small(), torch.get_rng_state()
    module = safs.load(folder, fresh)
    assert torch.equal(torch.get_rng_state(), drawn), "the caller's random numbers go on"
    x = torch.randn(7, 1, 12, 12)
    assert torch.equal(module(x), result.module(x))
    assert not module.training


def test_files_of_another_module_are_refused(result, tmp_path):
    result.save(tmp_path)
    with pytest.raises(SafsError, match="saved for slots _1, _3, _7; the module has _1"):
        safs.load(tmp_path, nn.Sequential(nn.Conv2d(1, 3, 12), nn.ReLU(), nn.Flatten()))
    other = small()
    other[8] = nn.Linear(16, 5)
    with pytest.raises(SafsError, match="the weights are of another module"):
        safs.load(tmp_path, other)
    with pytest.raises(SafsError, match=r"report\.json: no such file"):
        safs.load(tmp_path / "nowhere", small())
    with pytest.raises(SafsError, match=r"report\.json: a file, expected the folder that holds it"):
        safs.load(tmp_path / "report.json", small())


def test_a_save_that_fails_leaves_what_was_saved_before(result, tmp_path):
    result.save(tmp_path)
    full = tmp_path / f".report.json.{os.getpid()}.{threading.get_ident()}"
    full.symlink_to("/dev/full")
    other = dataclasses.replace(result, module=small())
    with pytest.raises(SafsError, match="cannot be written: No space left on device"):
        other.save(tmp_path)
    x = torch.randn(3, 1, 12, 12)
    assert torch.equal(safs.load(tmp_path, small())(x), result.module(x))


class Tokens(nn.Module):
    """A classifier of six tokens, which noise is not."""

    def __init__(self):
        super().__init__()
        self.embed, self.act = nn.Embedding(5, 8), nn.ELU()
        self.first, self.last = nn.Linear(48, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.last(self.act(self.first(self.embed(x.long()).flatten(1))))


def test_a_module_that_takes_no_noise_loads_with_an_example(tmp_path):
    x = torch.randint(0, 5, (60, 6), generator=torch.Generator().manual_seed(0)).float()
    y, model = (x.sum(1) % 3).long(), Tokens()
    tuned = tune(model, train=(x[:40], y[:40]), validation=(x[40:], y[40:]))
    tuned.save(tmp_path)
    with pytest.raises(SafsError, match=r"index out of range .*tried with noise; `example` takes"):
        safs.load(tmp_path, Tokens())
    module = safs.load(tmp_path, Tokens(), x[:2])
    assert torch.equal(module(x), tuned.module(x))
    with pytest.raises(SafsError, match=r"got \[1, 6\], expected two inputs or more of the sh"):
        safs.load(tmp_path, Tokens(), x[:1])


def test_dense_is_what_the_callers_module_reaches_also_where_its_activations_are_replaced():
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.Tanhshrink(), nn.Linear(16, 3))
    x, y = data(30, seed=1)
    with torch.no_grad():
        reached = float((model.eval()(x).argmax(1) == y).float().mean())
    told = tune(model, default="relu6").report["validation"]
    assert told["dense"] == pytest.approx(reached) and not model.training


def test_autocast_of_the_callers_changes_nothing(result):
    with torch.autocast("cpu", torch.bfloat16):
        again = tune()
    for name, value in result.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name])


def test_the_model_and_the_callers_random_numbers_stay_as_they_are():
    model, parts = small(), (data(), data(30, seed=1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    safs.search_and_tune(model, *parts, ratio=0.8, budget=TINY)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_seed_gives_the_same_network_again_and_another_another(result):
    again, other = tune(), tune(seed=1)
    for name, value in result.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[name], value)
    assert again.report == result.report
    found = [r.report["search"]["evaluations"] for r in (result, other)]
    assert found[0] != found[1]


# -- data --


def test_loaders_serve_as_well_as_tensors(result):
    x, y = data()
    loader = DataLoader(TensorDataset(x, y), batch_size=10)
    assert tune(train=loader).report == result.report


def test_inputs_of_any_shape():
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 2))
    parts = {"train": data(40, (5,), 2), "validation": data(20, (5,), 2)}
    assert tune(model, **parts, ratio=0.5).report["default"] == ["tanh"]


def test_arrays_are_taken_too():
    x, y = data()
    assert tune(train=(x.numpy(), y.numpy())).report["data"]["train"] == 48


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": (data()[0].byte(), data()[1])}, "inputs are torch.uint8"),
        ({"train": (data()[0], data()[1].float())}, "labels are torch.float32"),
        ({"train": (data()[0], data()[1][:5])}, r"labels are torch.int64 \[5\]"),
        ({"train": (data()[0], data()[1] + 1)}, "labels run from 0 to 3, the module has 3"),
        ({"train": []}, "train: no data"),
        ({"train": [1, 2]}, r"train: expected \(x, y\)"),
        ({"validation": (torch.randn(4, 1, 9, 9), torch.zeros(4).long())}, "validation"),
        ({"train": (data()[0] / 0, data()[1])}, "an input is not finite"),
        ({"method": "magnitud"}, "did you mean 'magnitude'"),
        ({"algorithm": "lach"}, "did you mean 'lahc'"),
        ({"operators": ("relu", "swihs")}, "did you mean 'swish'"),
        ({"ratio": None}, "no weight of the module is 0"),
        ({"ratio": 1.0}, "pruning ratio 1.0"),
        ({"recipe": safs.Recipe(lr=5.0)}, "outside of the tuning space"),
    ],
)
def test_bad_input_is_one_line(changes, message):
    with pytest.raises(SafsError, match=message) as caught:
        tune(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (safs.Recipe, {"lr": -1}, "Recipe: lr: got -1; expected greater than 0"),
        (safs.Recipe, {}, "Recipe: missing key 'lr'"),
        (safs.Recipe, {"lr": 0.1, "momemtum": 0.9}, "key 'momemtum'; did you mean 'momentum'"),
        (safs.Recipe, {"lr": 0.1, "momentum": 0.9, "optimizer": "adam"}, "momentum is for sgd"),
        (safs.Budget, {"moves": -1}, "Budget: moves: got -1; expected greater than or equal to 0"),
        (safs.Budget, {"moves": 10**30}, "Budget: moves: got 10"),
        (safs.Budget, {"trial": 3}, "Budget: unknown key 'trial'; did you mean 'trials'"),
        (safs.Augmentation, {"pad": -1}, "Augmentation: pad: got -1"),
        (safs.Augmentation, {"flips": True}, "unknown key 'flips'; did you mean 'flip'"),
        (Search, {"moves": 1, "epochs": 1, "operators": ("relu",)}, "Search: operators: got"),
        (Protocol, {"srelu": "per\nlayer"}, r"Protocol: srelu: got 'per\\nlayer'"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_line_that_names_it(kind, values, message):
    with pytest.raises(SafsError, match=message) as caught:
        kind(**values)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_every_wrong_setting_is_told_in_a_line_of_its_own():
    with pytest.raises(SafsError) as caught:
        safs.Budget(moves=-1, trials=0, rounds=3)
    lines = str(caught.value).splitlines()
    assert [line[:14] for line in lines] == ["Budget: moves:", "Budget: trials", "Budget: unknow"]


def test_every_public_settings_class_is_a_spec():
    """So that all of them refuse alike, and a new one does."""
    public = [getattr(safs, name) for name in safs._PUBLIC]
    models = {each for each in public if isinstance(each, type) and issubclass(each, BaseModel)}
    assert models == {safs.Budget, safs.Recipe, safs.Augmentation}
    assert all(issubclass(each, Spec) for each in models)


def test_a_batch_of_one_before_batch_norm_is_refused_early():
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(SafsError, match="batches of 128 leave one of 129 inputs alone"):
        tune(model, train=data(129, (5,), 2), validation=data(20, (5,), 2))


def test_there_is_no_way_to_hand_in_test_images():
    names = set(inspect.signature(safs.search_and_tune).parameters)
    assert not any("test" in name for name in names)


# -- masks and pruners --


def test_a_module_that_is_sparse_already_keeps_its_zeros():
    model = small()
    with torch.no_grad():
        for layer in (model[0], model[2], model[6], model[8]):
            layer.weight[layer.weight.abs() < layer.weight.abs().median()] = 0
    result = tune(model, ratio=None)
    for name, keep in result.mask.items():
        assert torch.equal(keep, prunable(model)[name] != 0)
    assert result.report["pruning"]["method"] == "given"
    network_is_as_pruned(result)


def test_torchs_own_pruning_is_understood_and_left_in_place():
    model = small()
    for layer in (model[2], model[6]):
        torch_prune.l1_unstructured(layer, "weight", amount=0.75)
    result = tune(model, ratio=None)
    assert torch.equal(result.mask["2"], model[2].weight_mask.bool())
    assert bool(result.mask["0"].all())
    assert torch_prune.is_pruned(model) and model[2].weight_orig.requires_grad
    network_is_as_pruned(result)


def test_a_mask_is_used_as_it_is():
    mask = prune(small(), 0.6, "random", rng=np.random.default_rng(0))
    result = tune(ratio=None, mask=mask)
    assert all(torch.equal(result.mask[name], keep) for name, keep in mask.items())


def test_a_made_up_operator_and_pruner_are_one_decorated_function_each():
    @safs.operator("leaky", label="Leaky ReLU")
    def leaky(x):
        return torch.where(x > 0, x, 0.01 * x)

    @safs.PRUNERS.register("made_up")
    def smallest(network):
        return {name: -weight.detach().abs() for name, weight in prunable(network).items()}

    try:
        model = small(last=nn.LeakyReLU())
        result = tune(model, method="made_up", operators=("leaky", "relu"))
        assert result.report["default"] == ["elu", "hardswish", "leaky"]
        weight = model[6].weight.detach().abs()
        assert weight[result.mask["6"]].max() <= weight[~result.mask["6"]].min()
        searched = result.report["search"]["evaluations"]
        assert {gene for row in searched for gene in row["chromosome"]} <= {"leaky", "relu"}
    finally:
        safs.OPERATORS.remove("leaky")
        safs.PRUNERS.remove("made_up")


@pytest.mark.parametrize("method", ["random", "snip", "grasp", "synflow"])
@pytest.mark.parametrize("scope", ["global", "keep_ends"])
def test_other_pruners_and_scopes(method, scope):
    budget = safs.Budget(moves=0, search_epochs=1, trials=1, tune_epochs=1)
    network_is_as_pruned(tune(method=method, scope=scope, budget=budget))


# -- adopting a stranger --


def test_each_site_keeps_its_own_activation():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = torch.relu(self.a(x))
            x = nn.functional.gelu(self.b(x)).tanh()
            return nn.functional.hardtanh(nn.functional.softplus(x), 0.0, 6.0)

    model = Functional()
    network = adopt.adopt(model, torch.zeros(2, 4))
    found = [slot.operator for slot in slots.slots(network).values()]
    assert found == ["relu", "gelu", "tanh", "softplus", "relu6"]
    x = torch.randn(9, 4)
    assert torch.allclose(network(x), model(x))


@pytest.mark.parametrize(
    "activation", [nn.LeakyReLU(), nn.GELU("tanh"), nn.ELU(alpha=0.5), nn.Softplus(beta=2)]
)
def test_an_unknown_activation_is_named_and_may_be_replaced(activation):
    model = small(last=activation)
    with pytest.raises(SafsError) as caught:
        adopt.adopt(model, torch.zeros(2, 1, 12, 12))
    assert f"_7 ({activation})" in str(caught.value)
    network = adopt.adopt(model, torch.zeros(2, 1, 12, 12), default="swish")
    assert slots.slots(network)["_7"].operator == "swish"


def test_what_a_trace_cannot_show_is_refused():
    class Branches(nn.Linear):
        def forward(self, x):
            return torch.relu(super().forward(x)) if x.sum() > 0 else x

    class Modes(nn.Linear):
        def forward(self, x):
            return torch.relu(super().forward(x if self.training else 2 * x))

    for kind, message in ((Branches, "cannot trace Branches"), (Modes, "freezes")):
        with pytest.raises(SafsError, match=message):
            adopt.adopt(kind(8, 8), torch.ones(4, 8))


def test_an_activation_in_place_changes_what_is_read_later_but_no_view():
    class InPlace(nn.Module):
        def __init__(self, view):
            super().__init__()
            self.first, self.last, self.view = nn.Linear(8, 8), nn.Linear(8, 3), view

        def forward(self, x):
            x = self.first(x)
            nn.functional.relu_(x.view(-1, 8) if self.view else x)
            return self.last(x)

    model, x = InPlace(view=False), torch.randn(4, 8)
    assert torch.allclose(adopt.adopt(model, x)(x), model(x))
    with pytest.raises(SafsError, match="computes something else"):
        adopt.adopt(InPlace(view=True), x)


def test_layers_that_cannot_be_masked_are_refused():
    frozen, tied, wide = small(), small(), small().double()
    frozen[0].weight.requires_grad_(False)
    tied.insert(3, nn.Conv2d(8, 8, 3, padding=1))
    tied.insert(4, nn.Conv2d(8, 8, 3, padding=1))
    tied[4].weight = tied[3].weight
    computed = small()
    torch.nn.utils.parametrizations.weight_norm(computed[6])
    messages = ("'0' are frozen", "'3' and '4' share", "torch.float64", "parametrisation")
    for model, message in zip((frozen, tied, wide, computed), messages, strict=True):
        with pytest.raises(SafsError, match=message):
            adopt.adopt(model, torch.zeros(2, 1, 12, 12, dtype=next(model.parameters()).dtype))
    with pytest.raises(SafsError, match="no convolution or linear layer"):
        adopt.adopt(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.zeros(2, 3))
    with pytest.raises(SafsError, match="has slots already"):
        adopt.adopt(adopt.adopt(small(), torch.zeros(2, 1, 12, 12)), torch.zeros(2, 1, 12, 12))


@pytest.mark.parametrize(
    ("make", "default"),
    [
        (torchvision.models.squeezenet1_1, {"relu"}),
        (torchvision.models.mobilenet_v3_small, {"relu", "hardswish"}),
    ],
)
def test_torchvisions_networks_at_32_pixels(make, default, tmp_path):
    torch.manual_seed(0)
    model = make(weights=None, num_classes=3)
    parts = {"train": data(6, (3, 32, 32)), "validation": data(6, (3, 32, 32), seed=1)}
    budget = safs.Budget(moves=0, search_epochs=1, trials=2, tune_epochs=1)
    result = tune(model, **parts, ratio=0.9, budget=budget)
    assert set(result.report["default"]) == default
    network_is_as_pruned(result)
    result.save(tmp_path)
    x = parts["train"][0]
    fresh = safs.load(tmp_path, make(weights=None, num_classes=3))
    assert torch.equal(fresh(x), result.module(x))


# -- does it help --


@pytest.mark.slow
def test_the_example_is_short_and_beats_plain_fine_tuning_on_real_digits(tmp_path):
    script = ROOT / "examples" / "any_network.py"
    code = script.read_text().split('"""')[2]
    assert sum(bool(line.strip()) for line in code.splitlines()) < 20
    environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, check=True)
    report = json.loads((tmp_path / "tuned" / "report.json").read_text())
    assert report["validation"]["tuned"] > report["validation"]["plain"]


def test_on_real_digits_it_is_never_worse_than_plain_fine_tuning():
    digits = load_part("mnist5k", "train", None)
    few = np.random.default_rng(0).permutation(len(digits.labels))[:900]
    x = torch.from_numpy(digits.images[few]) / 255
    y = torch.from_numpy(digits.labels[few])
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, stride=2), nn.ReLU(), nn.Conv2d(6, 12, 3, stride=2), nn.SiLU(),
        nn.Flatten(), nn.Linear(300, 10),
    )  # fmt: skip
    train_densely(model, x[:600], y[:600])
    recipe = safs.Recipe(lr=0.05, momentum=0.9, batch_size=50)
    budget = safs.Budget(moves=1, search_epochs=1, trials=4, tune_epochs=2)
    result = safs.search_and_tune(
        model, (x[:600], y[:600]), (x[600:], y[600:]), ratio=0.8, budget=budget, recipe=recipe
    )
    found = result.report["validation"]
    assert found["tuned"] >= found["plain"] > 0.5
    alone = plain_fine_tuning(model, result.mask, (x, y), recipe, epochs=2)
    assert found["plain"] == alone


def train_densely(model, x, y):
    adam = torch.optim.Adam(model.parameters(), lr=5e-3)
    for batch in torch.arange(len(x)).repeat(10).split(50):
        adam.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        adam.step()


def plain_fine_tuning(model, mask, digits, recipe, epochs):
    """The model's own activations and the plain recipe, by the training loop alone."""
    from safs.api.inputs import fold
    from safs.datasets.base import Augmentation
    from safs.training.data import BatchOrder
    from safs.training.loop import train

    x, y = digits
    parts = fold((x[:600], y[:600]), (x[600:], y[600:]), Augmentation(), torch.device("cpu"))
    network = adopt.adopt(model, x[:2])
    masks.apply(mask, network)
    outcome = train(network, parts, recipe, epochs, BatchOrder(0, 0, "tune"), mask=mask)
    return outcome.last.validation_accuracy


# -- failures, seeds, imports --


def test_if_every_trial_diverges_it_says_so(monkeypatch):
    from safs.api import study
    from safs.training.loop import Outcome

    def diverged(*_, **__):
        return Outcome([], "training loss became nan in epoch 1", 0.0, "dense")

    monkeypatch.setattr(study.loop, "train", diverged)
    with pytest.raises(SafsError, match="every trial failed; the first: training loss became nan"):
        tune()


def test_a_failed_candidate_is_a_row_without_energy(monkeypatch):
    from safs.api import study

    real, calls = study.loop.train, []

    def first_fails(*arguments, **options):
        calls.append(arguments)
        outcome = real(*arguments, **options)
        if len(calls) in (1, 3):  # the start of the search, and plain fine-tuning
            object.__setattr__(outcome, "failure", "training loss became inf in epoch 1")
        return outcome

    monkeypatch.setattr(study.loop, "train", first_fails)
    report = tune().report
    assert report["search"]["evaluations"][0]["energy"] is None
    assert report["tuning"]["trials"][0]["cost"] == CRASH_COST and report["tuning"]["best"] > 0
    assert report["validation"]["plain"] is None


@pytest.mark.parametrize(("randomised", "expected"), [(0, 0), (1, 1)])
def test_an_unfixed_hash_seed_is_warned_of_once(randomised, expected, monkeypatch):
    flags = SimpleNamespace(hash_randomization=randomised)
    monkeypatch.setattr(api, "sys", SimpleNamespace(flags=flags))
    api._warn_of_hash_seed.cache_clear()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        api._warn_of_hash_seed()
        api._warn_of_hash_seed()
    assert len(seen) == expected


def test_importing_safs_imports_no_torch():
    code = (
        "import sys, safs; assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "assert 'search_and_tune' in dir(safs)\n"
        "try: safs.serach\n"
        "except AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no attribute 'serach'" in done.stdout


def test_every_public_name_exists():
    assert all(getattr(safs, name) is not None for name in safs._PUBLIC)
