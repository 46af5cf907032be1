"""The optimisers against their papers, and against a net from which pruned weights are cut out."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from safs.settings import OPTIMIZERS as NAMES
from safs.spec import OptimizerRule, Recipe, tadam_sum
from safs.training.optimizers import OPTIMIZERS, Fromage, TAdam, build

Array = NDArray[np.float64]


def recipe(name: str, lr: float = 0.03, decay: float = 0.01, **rules: OptimizerRule) -> Recipe:
    return Recipe(
        optimizer=name,
        lr=lr,
        momentum=0.9 if name == "sgd" else 0.0,
        weight_decay=0.0 if name == "fromage" else decay,
        **rules,
    )


def gradients(shape: tuple[int, ...], steps: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(steps)]


def start(shape: tuple[int, ...], seed: int = 1) -> Parameter:
    return Parameter(gradients(shape, 1, seed)[0])


def walk(optimizer: Optimizer, parameter: Parameter, steps: list[Tensor]) -> list[Tensor]:
    trace = []
    for gradient in steps:
        parameter.grad = gradient.clone()
        optimizer.step()
        trace.append(parameter.detach().clone())
    return trace


def test_the_registry_has_the_names_of_the_recipes() -> None:
    assert tuple(OPTIMIZERS) == NAMES


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_sgd_and_adam_equal_torch(name: str) -> None:
    ours, theirs = start((5, 3)), start((5, 3))
    steps = gradients((5, 3), 20)
    reference: Optimizer = (
        SGD([theirs], lr=0.03, momentum=0.9, weight_decay=0.01)
        if name == "sgd"
        else Adam([theirs], lr=0.03, weight_decay=0.01)
    )
    trace = walk(build(recipe(name), [ours], [], {}), ours, steps)
    assert all(map(torch.equal, trace, walk(reference, theirs, steps)))


def fromage_reference(w: Array, steps: list[Array], lr: float) -> Array:
    for g in steps:
        w_norm, g_norm = np.sqrt((w * w).sum()), np.sqrt((g * g).sum())
        ratio = w_norm / g_norm if w_norm and g_norm else 1.0
        w = (w - lr * ratio * g) / np.sqrt(1 + lr**2)
    return w


def adam_reference(w: Array, steps: list[Array], lr: float, decay: float, b2: float) -> Array:
    b1, eps = 0.9, 1e-8
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(steps, start=1):
        g = g + decay * w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        w = w - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return w


def tadam_reference(
    w: Array, steps: list[Array], decay: float, d: int, b2: float = 0.999, released: bool = False
) -> Array:
    lr, b1, eps = 0.03, 0.9, 1e-8
    m, v, total = np.zeros_like(w), np.zeros_like(w), b1 / (1 - b1)
    for t, g in enumerate(steps, start=1):
        g = g + decay * w
        weight = (d + d) / (d + ((g - m) ** 2 / (v + eps)).sum())
        m = (total * m + weight * g) / (total + weight)
        total = b1 * (total + weight) if released else (2 * b1 - 1) / b1 * total + weight
        v = b2 * v + (1 - b2) * g**2
        w = w - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return w


def test_fromage_follows_its_paper() -> None:
    w, steps = start((4, 6)), gradients((4, 6), 25)
    expected = fromage_reference(w.detach().numpy().copy(), [g.numpy() for g in steps], 0.03)
    np.testing.assert_allclose(walk(Fromage([w], lr=0.03), w, steps)[-1], expected, rtol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("survivors", [24, 7])
def test_tadam_follows_its_paper(decay: float, survivors: int) -> None:
    w, steps = start((4, 6)), gradients((4, 6), 25)
    arrays = [g.numpy() for g in steps]
    expected = tadam_reference(w.detach().numpy().copy(), arrays, decay, survivors)
    optimizer = build(recipe("tadam", decay=decay), [w], [], {w: survivors})
    np.testing.assert_allclose(walk(optimizer, w, steps)[-1], expected, rtol=1e-10)


RULES = [("published", "as_released"), ("as_released", "published"), ("as_released",) * 2]


@pytest.mark.parametrize("betas, tadam", RULES)
def test_tadam_with_the_released_codes_rules(betas: OptimizerRule, tadam: OptimizerRule) -> None:
    """Each switch by itself, and both; what it changes is far more than rounding."""
    w, steps = start((4, 6)), gradients((4, 6), 25)
    arrays = [g.numpy() for g in steps]
    begun = w.detach().numpy().copy()
    read = {"b2": 0.999 if betas == "published" else 0.99, "released": tadam == "as_released"}
    expected = tadam_reference(begun, arrays, 0.01, 7, **read)
    optimizer = build(recipe("tadam", betas=betas, tadam=tadam), [w], [], {w: 7})
    np.testing.assert_allclose(walk(optimizer, w, steps)[-1], expected, rtol=1e-10)
    assert np.abs(expected - tadam_reference(begun, arrays, 0.01, 7)).max() > 1e-3


@pytest.mark.parametrize("betas, b2", [("published", 0.999), ("as_released", 0.99)])
def test_adam_has_the_betas_of_the_recipe(betas: OptimizerRule, b2: float) -> None:
    w, steps = start((4, 6)), gradients((4, 6), 25)
    begun = w.detach().numpy().copy()
    expected = adam_reference(begun, [g.numpy() for g in steps], 0.03, 0.01, b2)
    made = build(recipe("adam", betas=betas, tadam="as_released"), [w], [], {})
    np.testing.assert_allclose(walk(made, w, steps)[-1], expected, rtol=1e-10)


@pytest.mark.parametrize("rule", ["published", "as_released"])
def test_tadams_sum_stays_where_all_weights_are_one(rule: OptimizerRule) -> None:
    kept, added = tadam_sum(0.9, rule)
    assert kept * 9 + added == pytest.approx(9)


def test_tadam_averages_like_adam_when_no_gradient_is_an_outlier() -> None:
    """With weights of 1 the sum of weights stays where Adam's averaging stands (its paper)."""
    w = start((6,))
    optimizer = TAdam([w])
    walk(optimizer, w, gradients((6,), 2))
    state = optimizer.state[w]
    state["weight_sum"].fill_(9.0)
    state["exp_avg_sq"].fill_(1.0)
    before = state["exp_avg"].clone()
    gradient = before + 1.0  # each squared distance is 1, so the weight is 2 d / (d + d)
    walk(optimizer, w, [gradient])
    assert state["weight_sum"].item() == pytest.approx(9.0)
    torch.testing.assert_close(state["exp_avg"], 0.9 * before + 0.1 * gradient)


def test_tadam_gives_an_outlying_gradient_little_weight() -> None:
    w = start((50,))
    optimizer = TAdam([w])
    walk(optimizer, w, gradients((50,), 30))
    before = optimizer.state[w]["exp_avg"].clone()
    walk(optimizer, w, [torch.full((50,), 1e4, dtype=torch.float64)])
    assert (optimizer.state[w]["exp_avg"] - before).abs().max() < 0.1  # Adam's would be 1000


@pytest.mark.parametrize("zero", ["parameter", "gradient"])
def test_fromage_without_a_norm_takes_a_plain_gradient_step(zero: str) -> None:
    w, g = start((3,)), gradients((3,), 1)[0]
    (w.data if zero == "parameter" else g).zero_()
    expected = (w.detach() - 0.1 * g) / np.sqrt(1.01)
    torch.testing.assert_close(walk(Fromage([w], lr=0.1), w, [g])[0], expected)


@pytest.mark.parametrize("name", ["sgd", "adam", "tadam"])
def test_only_weights_decay(name: str) -> None:
    weight, alpha = start((4,)), Parameter(torch.tensor(1.5))
    optimizer = build(recipe(name), [weight], [alpha], {})
    before = weight.detach().clone()
    weight.grad, alpha.grad = torch.zeros_like(weight), torch.zeros_like(alpha)
    for _ in range(3):
        optimizer.step()
    assert alpha.item() == 1.5
    assert (weight.abs() < before.abs()).all()


def masked_and_compact(
    name: str, shape: tuple[int, int], kept: list[bool], seed: int
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The same least-squares problem trained with a mask, and with survivors alone."""
    mask = torch.tensor(kept).reshape(shape)
    x, y = gradients((9, shape[1]), 1, seed)[0], gradients((9, shape[0]), 1, seed + 1)[0]
    full = Parameter(start(shape, seed + 2).detach() * mask)
    compact = Parameter(full.detach()[mask].clone())
    alpha, beta = Parameter(torch.ones((), dtype=x.dtype)), Parameter(torch.ones((), dtype=x.dtype))
    masked = build(recipe(name), [full], [alpha], {full: int(mask.sum())})
    alone = build(recipe(name), [compact], [beta], {})
    traces: tuple[list[Tensor], list[Tensor]] = ([], [])
    for _ in range(6):
        ((alpha * x @ full.T - y) ** 2).mean().backward()
        assert full.grad is not None
        full.grad.mul_(mask)
        dense = torch.zeros(shape, dtype=x.dtype).masked_scatter(mask, compact)
        ((beta * x @ dense.T - y) ** 2).mean().backward()
        for optimizer in (masked, alone):
            optimizer.step()
            optimizer.zero_grad()
        traces[0].append(torch.cat([full.detach().flatten(), alpha.detach().reshape(1)]))
        traces[1].append(torch.cat([compact.detach(), beta.detach().reshape(1)]))
    return *traces, mask


@settings(max_examples=25, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES), seed=st.integers(0, 10_000))
def test_a_masked_layer_trains_as_its_survivors_alone(
    data: st.DataObject, name: str, seed: int
) -> None:
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    size = rows * columns
    kept = data.draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(any))
    masked, compact, mask = masked_and_compact(name, (rows, columns), kept, seed)
    keep = torch.cat([mask.flatten(), torch.tensor([True])])
    for full, alone in zip(masked, compact, strict=True):
        assert (full[~keep] == 0.0).all()
        torch.testing.assert_close(full[keep], alone, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_optimiser_continues_bit_for_bit(name: str) -> None:
    shape = (7, 5)
    steps = [g.float() for g in gradients(shape, 16)]
    w, alpha = Parameter(start(shape).detach().float()), Parameter(torch.ones(()))
    first = build(recipe(name), [w], [alpha], {w: 9})
    alpha.grad = torch.full((), 0.3)
    walk(first, w, steps[:8])
    kept, w2, alpha2 = copy.deepcopy(first.state_dict()), copy.deepcopy(w), copy.deepcopy(alpha)
    expected = walk(first, w, steps[8:])
    second = build(recipe(name), [w2], [alpha2], {w2: 9})
    second.load_state_dict(kept)
    alpha2.grad = torch.full((), 0.3)
    assert all(map(torch.equal, walk(second, w2, steps[8:]), expected))
    assert torch.equal(alpha, alpha2)


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_torch_save(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    w = start((3, 3))
    optimizer = build(recipe(name), [w], [], {w: 4})
    walk(optimizer, w, gradients((3, 3), 2))
    path = tmp_path_factory.mktemp("state") / "optimizer.pt"
    torch.save(optimizer.state_dict(), path)
    loaded = torch.load(path, weights_only=True)
    assert loaded["param_groups"] == optimizer.state_dict()["param_groups"]


@pytest.mark.parametrize("name", NAMES)
def test_a_closure_is_evaluated_with_gradients(name: str) -> None:
    w = start((3,))
    optimizer = build(recipe(name), [w], [], {})

    def closure() -> float:
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss.item()

    before = closure()
    assert optimizer.step(closure) == before
    assert closure() < before
