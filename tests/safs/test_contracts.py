"""What a registered function promises: whoever breaks it is named before anything trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import safs
from safs import contracts
from safs.errors import SafsError
from safs.networks import build, prunable
from safs.operators import OPERATORS, operator
from safs.pruning.pruners import PRUNERS
from safs.search import SEARCHES, Searcher

SHAPE = (1, 28, 28)


@pytest.fixture
def added():
    """Adds to a registry what the test's end takes out again."""
    names = []

    def add(registry, name, entry):
        registry.add(name, entry)
        names.append((registry, name))

    yield add
    for registry, name in names:
        registry.remove(name)


@pytest.fixture
def bent():
    """Registers a function as the operator `bent`."""

    def add(function, **given):
        operator("bent", label="Bent", **given)(function)

    yield add
    OPERATORS.remove("bent")


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_keeps_its_promise(name):
    contracts.operator(name)


@pytest.mark.parametrize(
    ("function", "own", "words"),
    [
        (lambda x: x, {"width": 2.0}, "has width; expected numbers for nothing"),
        (lambda x, width: x, {}, "has nothing; expected numbers for width"),
        (lambda x, width: x * width, {"width": "wide"}, "has width; expected numbers for width"),
        (lambda x: x.nonsense(), {}, "fails: AttributeError: 'Tensor' object has no attribute"),
        (lambda x: x.relu(), {"per_channel": True, "a": 1.0}, "has a; expected numbers for nothin"),
        (lambda x: x.mean(), {}, r"its output: shape \(\); expected \(2, 4, 2, 2\)"),
        (lambda x: 1.0, {}, r"its output: got 1\.0; expected a tensor"),
        (lambda x: x.double(), {}, r"its output is torch\.float64; expected torch\.float32"),
        (lambda x: x.detach().relu(), {}, "its output has no gradient; expected one in its input"),
        (lambda x: x.exp(), {}, r"its output at \d+ is inf; expected finite ones between -1"),
        (lambda x: x.abs().sqrt(), {}, r"its gradient at 0 is nan; expected finite ones"),
        (lambda x: torch.tanh(x).mul_(2) * 1, {}, r"its gradient fails: RuntimeError: one of"),
        (lambda x: x.log1p(), {}, r"its output at -\d+ is nan; expected finite ones"),
    ],
)  # fmt: skip
def test_an_operator_that_breaks_it_is_named(bent, function, own, words):
    bent(function, **own)
    with pytest.raises(SafsError, match=rf"^operator 'bent':? .*{words}") as caught:
        contracts.operator("bent")
    assert "\n" not in str(caught.value)


def test_trying_an_operator_draws_nothing_from_the_callers_generator(bent):
    bent(lambda x: x * (1 + torch.rand(())))
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with torch.no_grad():
        contracts.operator("bent")
    assert torch.equal(torch.rand(1), expected)


def offered():
    images, labels = torch.zeros(2, *SHAPE), torch.zeros(2, dtype=torch.int64)
    return {"images": images, "labels": labels, "shape": SHAPE, "rng": np.random.default_rng(0)}


@pytest.mark.parametrize("method", [name for name in PRUNERS if name != "given"])
def test_every_pruner_keeps_its_promise_and_leaves_the_network(method):
    network = build("lenet5", SHAPE, 10)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    contracts.pruner(network, method, offered())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_pruner_may_spoil_the_copy_that_it_is_tried_on(added):
    def spoiling(network):
        for weight in prunable(network).values():
            weight.data.fill_(1)
        return magnitudes(network)

    added(PRUNERS, "mine", spoiling)
    network = build("lenet5", SHAPE, 10)
    before = {name: weight.clone() for name, weight in prunable(network).items()}
    contracts.pruner(network, "mine", offered())
    assert all(torch.equal(weight, before[n]) for n, weight in prunable(network).items())


def magnitudes(network):
    return {name: weight.detach().abs() for name, weight in prunable(network).items()}


def without_first(network):
    scores = magnitudes(network)
    del scores[next(iter(scores))]
    return scores


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda network, gradients: {}, "asks for gradients; known: images, labels, shape, rng"),
        (lambda network: 1 / 0, "fails: ZeroDivisionError: division by zero"),
        (lambda network: [1.0], "fails: TypeError: 'list' object is not an iterator"),
        (without_first, "'conv1': it has no scores of it; expected scores of each layer that is"),
        (lambda network: magnitudes(network) | {"bn1": 0}, "'bn1': no layer that is pruned; exp"),
        (
            lambda network: {n: s.sum(0) for n, s in magnitudes(network).items()},
            r"scores of layer 'conv1': shape \(1, 5, 5\); expected \(\d+, 1, 5, 5\)",
        ),
        (lambda network: dict.fromkeys(magnitudes(network), 1), "scores of layer 'conv1': got 1; "),
    ],
)
def test_a_pruner_that_breaks_it_is_named(added, score, words):
    added(PRUNERS, "mine", score)
    with pytest.raises(SafsError, match=rf"^pruning method 'mine':? {words}") as caught:
        contracts.pruner(build("lenet5", SHAPE, 10), "mine", offered())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "chromosome",
    [("elu",), ["elu", "tanh"], "elu", None, ("elu", 3), ("elu", "eluu"), ("elu", ["tanh"])],
)
def test_a_proposal_that_is_no_chromosome_is_named(chromosome):
    contracts.proposal("mine", ("elu", "relu"), ("relu", "relu"), ("elu", "tanh"))
    with pytest.raises(SafsError) as caught:
        contracts.proposal("mine", chromosome, ("relu", "relu"), ("elu", "tanh"))
    assert str(caught.value).startswith("search 'mine' proposes ")
    assert str(caught.value).endswith("; expected a tuple of 2 names, each one of elu, relu, tanh")


class Short(Searcher):
    """Proposes a gene too few."""

    def _propose(self):
        return self.random_chromosome()[1:]

    def _learn(self, chromosome, energy):
        return False


def tuned(**given):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 2))
    x = torch.randn(64, 1, 4, 4)
    y = (x.mean((1, 2, 3)) > 0).long()
    budget = safs.Budget(moves=2, search_epochs=1, trials=1, tune_epochs=1)
    recipe = safs.Recipe(lr=0.01, momentum=0.9, batch_size=16)
    return safs.search_and_tune(
        model, (x[:48], y[:48]), (x[48:], y[48:]), ratio=0.5, budget=budget, recipe=recipe, **given
    )


def test_the_public_call_names_a_broken_operator_also_where_it_is_no_candidate(bent):
    bent(lambda x: x.nonsense())
    for operators in (("elu", "bent"), ("elu", "tanh")):
        with pytest.raises(SafsError, match=r"^operator 'bent' fails: "):
            tuned(operators=operators)


def test_the_public_call_names_a_broken_pruner_and_a_broken_search(added):
    added(PRUNERS, "mine", lambda network: {})
    with pytest.raises(SafsError, match=r"^pruning method 'mine': "):
        tuned(method="mine")
    added(SEARCHES, "short", Short)
    with pytest.raises(SafsError, match=r"^search 'short' proposes "):
        tuned(algorithm="short")


def test_layers_that_lose_every_weight_are_told(added, caplog):
    def last(network):
        weights = prunable(network)
        return {n: w.abs() + (n != list(weights)[-1]) for n, w in weights.items()}

    added(PRUNERS, "last", lambda network: {n: s.detach() for n, s in last(network).items()})
    tuned(operators=("elu", "tanh"))
    assert not [told for told in caplog.messages if told.startswith("no weight survives")]
    tuned(operators=("elu", "tanh"), method="last", scope="global")
    assert "no weight survives in 3" in caplog.messages


def test_a_result_prints_as_one_line_of_what_came_out():
    result = tuned(operators=("elu", "tanh"))
    told = repr(result)
    assert "\n" not in told
    assert f"tuned={result.report.validation.tuned:.4f}" in told
    assert f"operators=[{result.report.slots[0]['operator']}]" in told
    assert "sparsity=0.5000" in told
