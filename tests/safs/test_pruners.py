"""Every score against a computation of its own; exact k for every method in every scope."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from safs import masks, seeds, slots
from safs.errors import SafsError
from safs.networks import build, prunable
from safs.pruning import given, pruners, scopes
from safs.pruning.connectivity import connectivity
from safs.pruning.prune import prune
from safs.pruning.pruners import PRUNERS

SHAPE = (1, 12, 12)
METHODS = [name for name in sorted(PRUNERS) if name != "given"]


def dense(*sizes, seed=0):
    """Linear layers with ReLU between them, no biases; the input has the shape ``(sizes[0],)``."""
    torch.manual_seed(seed)
    layers = [
        module for a, b in pairwise(sizes) for module in (nn.Linear(a, b, bias=False), nn.ReLU())
    ]
    return slots.install(nn.Sequential(*layers[:-1]), torch.zeros(2, sizes[0]), "relu")


class Small(nn.Module):
    """Convolution, batch norm, a shortcut and a head: registered in another order than used."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.stem = nn.Conv2d(1, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.wide = nn.Linear(6, 8)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.body(x) + x)
        return self.head(torch.relu(self.wide(x.mean((2, 3)))))


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(1)
    return slots.install(Small(), torch.zeros(2, *SHAPE), "relu")


def offers(seed=0):
    """Everything that a method may ask for."""
    torch.manual_seed(seed)
    return {
        "images": torch.randn(20, *SHAPE),
        "labels": torch.arange(20) % 3,
        "shape": SHAPE,
        "rng": seeds.generator(7, "prune", 0),
    }


# -- the registry, over all methods and scopes --


@pytest.mark.parametrize("scope", sorted(scopes.SCOPES))
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_exact_in_every_scope_and_leaves_the_network_alone(small, method, scope):
    before = {name: value.clone() for name, value in small.state_dict().items()}
    mask = prune(small, 0.9, method, scope=scope, **offers())
    masks.check(mask, small)
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
    found = {name: int(keep.sum()) for name, keep in mask.items()}
    sizes = {name: weight.numel() for name, weight in prunable(small).items()}
    if scope == "global":
        assert sum(found.values()) == scopes.kept(sum(sizes.values()), 0.9)
    else:
        whole = ("stem", "head") if scope == "keep_ends" else ()
        assert found == {n: s if n in whole else scopes.kept(s, 0.9) for n, s in sizes.items()}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_draws_the_same_mask_again(small, method):
    one, two = (prune(small, 0.8, method, **offers()) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("method", "missing"), [("snip", "images, labels"), ("random", "rng"), ("synflow", "shape")]
)
def test_a_method_says_what_it_lacks(small, method, missing):
    with pytest.raises(SafsError, match=f"{method}' needs {missing}"):
        prune(small, 0.5, method)


def test_a_score_that_is_not_finite_is_refused(small):
    batch = offers() | {"images": torch.full((20, *SHAPE), float("nan"))}
    with pytest.raises(SafsError, match=r"'snip': a score of layer .* is not finite"):
        prune(small, 0.5, "snip", **batch)


# -- scopes --


def test_global_ranks_all_layers_together_and_ties_go_to_the_earliest():
    network = dense(2, 2, 2)
    with torch.no_grad():
        prunable(network)["0"].copy_(torch.tensor([[0.1, 0.5], [0.2, 0.5]]))
        prunable(network)["2"].copy_(torch.tensor([[0.5, 0.9], [0.0, 0.3]]))
    mask = prune(network, 0.625, scope="global")
    assert mask["0"].tolist() == [[False, True], [False, True]]
    assert mask["2"].tolist() == [[False, True], [False, False]]


def test_global_may_empty_a_layer_and_connectivity_shows_it():
    network = dense(2, 2, 2)
    with torch.no_grad():
        prunable(network)["0"].fill_(0.1)
        prunable(network)["2"].fill_(0.5)
    mask = prune(network.eval(), 0.5, scope="global")
    links = connectivity(network, mask, (2,), np.arange(2))
    assert int(mask["0"].sum()) == 0 and links.connected == ()


def test_ends_are_first_and_last_by_use_not_by_registration(small):
    assert next(iter(Small().state_dict())).startswith("head")
    mask = prune(small, 0.9, scope="keep_ends")
    assert [name for name, keep in mask.items() if keep.all()] == ["stem", "head"]


def test_an_unknown_scope_names_the_nearest(small):
    with pytest.raises(SafsError, match="did you mean 'global'"):
        prune(small, 0.5, scope="globl")


# -- the scores by hand --


def test_random_is_uniform_and_its_masks_are_nested(small):
    scores = pruners.random(small, rng=np.random.default_rng(0))
    flat = torch.cat([score.flatten() for score in scores.values()])
    assert flat.min() >= 0 and flat.max() < 1 and abs(float(flat.mean()) - 0.5) < 0.05
    wide, narrow = (prune(small, r, "random", **offers()) for r in (0.5, 0.9))
    assert all(bool((wide[name] >= narrow[name]).all()) for name in wide)
    other = prune(small, 0.5, "random", rng=seeds.generator(7, "prune", 1))
    assert any(not torch.equal(wide[name], other[name]) for name in wide)


def loss_of(flat, images, labels):
    """Cross-entropy of the chain 3-4-2, written without modules: a function of its weights."""
    first, second = flat[:12].view(4, 3), flat[12:].view(2, 4)
    logits = (images @ first.T).clamp(min=0) @ second.T
    return functional.nll_loss(logits.log_softmax(1), labels)


@pytest.fixture
def chain():
    network = dense(3, 4, 2, seed=5)
    images, labels = torch.randn(6, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    flat = torch.cat([w.detach().flatten() for w in prunable(network).values()]).double()
    return network, images, labels, flat


def flatten(scores):
    return torch.cat([score.flatten() for score in scores.values()])


def test_snip_is_weight_times_slope_by_finite_differences(chain):
    network, images, labels, flat = chain
    step, slopes = 1e-6, []
    for index in range(len(flat)):
        there, here = flat.clone(), flat.clone()
        there[index] += step
        here[index] -= step
        rise = loss_of(there, images.double(), labels) - loss_of(here, images.double(), labels)
        slopes.append(rise / (2 * step))
    expected = (flat * torch.stack(slopes)).abs()
    found = flatten(pruners.snip(network, images=images, labels=labels))
    assert torch.allclose(found, expected, atol=1e-8)


def test_grasp_is_weight_times_hessian_times_gradient(chain):
    network, images, labels, flat = chain

    def loss(weights):
        return loss_of(weights, images.double(), labels)

    hessian = torch.autograd.functional.hessian(loss, flat)
    gradient = torch.autograd.functional.jacobian(loss, flat)
    found = flatten(pruners.grasp(network, images=images, labels=labels))
    assert torch.allclose(found, flat * (hessian @ gradient), atol=1e-10)


def test_grasp_keeps_what_gradient_flow_needs(chain):
    """Shrinking the best-scored weight a little costs gradient flow, the worst-scored adds some."""
    _, images, labels, flat = chain
    network = chain[0]
    scores = flatten(pruners.grasp(network, images=images, labels=labels))

    def flow(weights):
        gradient = torch.autograd.functional.jacobian(
            lambda w: loss_of(w, images.double(), labels), weights
        )
        return float(gradient.square().sum())

    for index, sign in ((scores.argmax(), -1), (scores.argmin(), 1)):
        shrunk = flat.clone()
        shrunk[index] *= 1 - 1e-4
        assert np.sign(flow(shrunk) - flow(flat)) == sign


def test_synflow_is_the_flow_through_each_weight_by_hand(chain):
    network, *_, flat = chain
    first, second = flat[:12].view(4, 3).abs(), flat[12:].view(2, 4).abs()
    expected = [first * second.sum(0)[:, None], second * first.sum(1)[None, :]]
    found = next(pruners.synflow(network, shape=(3,)))
    assert torch.allclose(flatten(found), torch.cat([e.flatten() for e in expected]))
    # Conservation (Tanaka et al., theorem 1): every layer carries the whole flow.
    totals = [float(score.sum()) for score in found.values()]
    assert totals[0] == pytest.approx(totals[1])


def test_synflow_ignores_biases_norms_and_activations(small):
    twin = slots.install(Small(), torch.zeros(2, *SHAPE), "relu")
    twin.load_state_dict(small.state_dict())
    with torch.no_grad():
        for name, value in twin.state_dict().items():
            if "norm" in name or "bias" in name:
                value.add_(3)
    slots.fill(twin, ["sigmoid"] * 3)
    one, two = (next(pruners.synflow(n, shape=SHAPE)) for n in (small, twin))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_synflow_prunes_in_a_hundred_rounds_of_equal_factor():
    """The same loop on two matrices, global and without the project's code."""
    network = dense(6, 5, 4, seed=2)
    first, second = (w.detach().double().abs().numpy().copy() for w in prunable(network).values())
    total, left = 50, 50
    for number in range(1, 101):
        keep = max(1, total - round((1 - 0.2 ** (number / 100)) * total))
        if number == 100:
            keep = 10
        scores = np.concatenate(
            [(first * second.sum(0)[:, None]).ravel(), (second * first.sum(1)[None, :]).ravel()]
        )
        alive = np.concatenate([first.ravel(), second.ravel()]) > 0
        order = np.argsort(-np.where(alive, scores, -np.inf), kind="stable")
        gone = order[keep:]
        flat = np.concatenate([first.ravel(), second.ravel()])
        flat[gone] = 0
        first, second = flat[:30].reshape(5, 6), flat[30:].reshape(4, 5)
        assert (flat > 0).sum() == keep <= left
        left = keep
    mask = prune(network, 0.8, "synflow", scope="global", shape=(6,))
    assert np.array_equal(mask["0"].numpy(), first > 0)
    assert np.array_equal(mask["2"].numpy(), second > 0)


def test_synflow_keeps_every_layer_alive_where_magnitude_does_not():
    network = build("lenet5", (1, 28, 28), 10)
    with torch.no_grad():  # as after training, layers differ in scale
        prunable(network)["fc1"].mul_(20)
    labels = np.arange(10)
    alive = {}
    for method in ("synflow", "magnitude"):
        mask = prune(network, 0.998, method, scope="global", shape=(1, 28, 28))
        links = connectivity(network, mask, (1, 28, 28), labels)
        alive[method] = (min(int(keep.sum()) for keep in mask.values()), len(links.connected))
    assert alive["synflow"][0] >= 1 and alive["synflow"][1] >= 1
    assert alive["magnitude"] == (0, 0)


# -- given masks --


def half(network):
    return prune(network, 0.5)


def test_a_given_mask_is_taken_as_it_is(small):
    mask = half(small)
    found = prune(small, None, "given", given=mask)
    assert all(torch.equal(found[name], mask[name]) for name in mask)
    assert prune(small, 0.5, "given", given=mask).keys() == mask.keys()
    with pytest.raises(SafsError, match=r"prunes 0\.5\d* of the weights, the stated ratio is 0\.9"):
        prune(small, 0.9, "given", given=mask)


@pytest.mark.parametrize("kind", ["mask", "zeros", "buffers", "state_dict"])
@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_masks_are_read_from_files(small, tmp_path, kind, ending):
    mask = half(small)
    tensors = {
        "mask": {name: keep.to(torch.uint8) for name, keep in mask.items()},
        "zeros": {f"{n}.weight": w.detach() * mask[n] for n, w in prunable(small).items()},
        "buffers": {f"{name}.weight_mask": keep.float() for name, keep in mask.items()},
    }
    content = tensors.get(kind, tensors["zeros"])
    path = tmp_path / f"mask.{ending}"
    if ending == "pt":
        torch.save({"state_dict": content} if kind == "state_dict" else content, path)
    else:
        from safetensors.torch import save_file

        save_file(content, path)
    found = given.read(path, small)
    assert all(torch.equal(found[name], mask[name]) for name in mask)


def test_a_module_is_its_own_mask(small):
    mask = half(small)
    twin = slots.install(Small(), torch.zeros(2, *SHAPE), "relu")
    twin.load_state_dict(small.state_dict())
    masks.apply(mask, twin)
    found = given.read(twin, small)
    assert all(torch.equal(found[name], mask[name]) for name in mask)


def test_a_mask_that_cannot_be_read_says_why(small, tmp_path):
    mask = half(small)
    with pytest.raises(SafsError, match="nothing for layer 'wide'"):
        given.read({name: keep for name, keep in mask.items() if name != "wide"}, small)
    with pytest.raises(SafsError, match=r"head has the shape \(2, 2\), expected \(3, 8\)"):
        given.read({**mask, "head": torch.ones(2, 2)}, small)
    with pytest.raises(SafsError, match="no file"):
        given.read(tmp_path / "absent.pt", small)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(SafsError, match="cannot be read"):
        given.read(tmp_path / "bad.safetensors", small)


def test_a_checkpoint_cannot_run_code(small, tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(SafsError, match="cannot be read"):
        given.read(tmp_path / "evil.pt", small)


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("wide", lambda mask: mask.float().fill_(torch.nan), "wide holds nan; expected 0 and 1"),
        ("wide", lambda mask: mask.float() * 0.5, "holds 0.5; expected 0 and 1"),
        ("wide", lambda mask: mask.int() * -1, "holds -1; expected 0 and 1"),
        ("wide.weight", lambda mask: mask / 0.0, "holds (nan|inf); expected finite weights"),
        ("wide", lambda mask: mask.float().to_sparse(), "expected a dense tensor"),
        ("wide", lambda mask: mask.to(torch.complex64), "expected a dense tensor"),
        ("wide", lambda mask: mask.tolist(), "wide is a list, expected a dense tensor"),
    ],
)
def test_a_given_mask_says_yes_or_no_of_every_weight(small, key, change, words):
    mask = prune(small, 0.5)
    changed = {**mask, key: change(mask["wide"])}
    if key != "wide":
        del changed["wide"]
    with pytest.raises(SafsError, match=f"given mask: {key}.*{words}|given mask: .*{words}"):
        given.read(changed, small)


def test_a_given_mask_keeps_something(small):
    none = {name: torch.zeros_like(keep) for name, keep in prune(small, 0.5).items()}
    with pytest.raises(SafsError, match="no weight survives"):
        given.read(none, small)
