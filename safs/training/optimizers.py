"""The four optimisers of the recipes (SAFS, Tables 4-7), over surviving weights only.

The training loop zeroes the gradient of every pruned weight before a step, and pruned weights are
0. Such entries then add nothing to the sums of squares in Fromage's norms and TAdam's distance,
their moments stay 0, and weight decay moves them nowhere. The one quantity left in which they would
count is TAdam's dimension; :func:`build` passes the number of survivors instead.

Fromage and TAdam are written from their papers: the packages that have them come with licences that
rule out a dependency.

In a CUDA graph the learning rate and the number of steps are tensors on the device, as a graph
keeps the numbers that it was captured with. Groups are then ``capturable``, by torch's name for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast, overload

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from safs.registry import Registry
from safs.spec import BETAS, OptimizerRule, Recipe, tadam_sum

Group = dict[str, Any]
Closure = Callable[[], float]


class Fromage(Optimizer):
    """Steps whose size is a fraction ``lr`` of each parameter's own norm.

    Bernstein, Vahdat, Yue, Liu, "On the Distance between Two Neural Networks and the Stability of
    Learning", algorithm 1: with Frobenius norms per parameter tensor,
    ``w <- (w - lr |w| / |g| g) / sqrt(1 + lr^2)``. Where either norm is 0 the ratio has no meaning
    and is taken as 1, a plain gradient step.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, a relative step.
    """

    def __init__(self, params: Iterable[Parameter] | Iterable[Group], lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Closure) -> float: ...
    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> float | None:
        """Do one step; ``closure`` re-evaluates the loss and returns it."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            if parameters := _with_gradient(group):
                _fromage_step(parameters, _gradients(parameters), group["lr"])
        return loss


def _fromage_step(parameters: list[Tensor], gradients: list[Tensor], lr: float | Tensor) -> None:
    size, slope = (torch.stack(torch._foreach_norm(x)) for x in (parameters, gradients))
    # A tensor comparison: asking on the host would make the device wait.
    ratio = torch.where((size > 0) & (slope > 0), size / slope, torch.ones_like(size))
    moves = torch._foreach_mul(gradients, (lr * ratio).unbind())
    torch._foreach_sub_(parameters, moves)
    torch._foreach_div_(parameters, _growth(lr))


def _growth(lr: float | Tensor) -> float | Tensor:
    if isinstance(lr, Tensor):
        return (1 + lr.double().square()).sqrt().to(lr.dtype)
    return math.sqrt(1 + lr * lr)


class CapturableSGD(Optimizer):
    """torch's SGD, which reads a learning rate that is a tensor back to the host.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, a tensor on the device of the parameters.
        momentum: decay of the sum of gradients.
        weight_decay: L2 term added to the gradient.
    """

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Group],
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"capturable": True})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Closure) -> float: ...
    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> float | None:
        """Do one step; ``closure`` re-evaluates the loss and returns it."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            if parameters := _with_gradient(group):
                moves = torch._foreach_mul(self._directions(parameters, group), group["lr"])
                torch._foreach_sub_(parameters, moves)
        return loss

    def _directions(self, parameters: list[Tensor], group: Group) -> list[Tensor]:
        """Gradients with what decays added, and summed up under momentum."""
        found = _gradients(parameters)
        if group["weight_decay"]:
            found = list(torch._foreach_add(found, parameters, alpha=group["weight_decay"]))
        if not group["momentum"]:
            return found
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        sums: list[Tensor] = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_mul_(sums, group["momentum"])
        torch._foreach_add_(sums, found)
        return sums


class TAdam(Optimizer):
    """Adam whose first moment is a Student-t mean, so that outlying gradients weigh little.

    Ilboudo, Kobayashi, Sugimoto, "TAdam: A Robust Stochastic Gradient Optimizer".
    The degrees of freedom nu equal the dimension d of the parameter, as the paper recommends.

    Args:
        params: parameters or parameter groups. A group may carry ``dimensions``, one d for each of
            its parameters; without it d is the number of elements.
        lr: learning rate.
        betas: decay of the first and the second moment; the first must exceed 1/2 for the sum of
            weights to decay.
        eps: added to denominators.
        weight_decay: L2 term added to the gradient, as in torch's Adam.
        rule: how the sum of weights takes in a new one (:func:`safs.spec.tadam_sum`).
    """

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        rule: OptimizerRule = "published",
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        more = {"rule": rule, "dimensions": None, "capturable": False}
        super().__init__(params, defaults | more)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Closure) -> float: ...
    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> float | None:
        """Do one step; ``closure`` re-evaluates the loss and returns it."""
        loss = _evaluate(closure)
        for rule, members in self._alike().items():
            _tadam_step(members, rule)
        return loss

    def _alike(self) -> dict[_Rule, _Members]:
        """The parameters with a gradient, of all groups, by what is the same for many of them.

        A batch may leave a layer out, which then has made fewer steps.
        """
        found: dict[_Rule, _Members] = {}
        for group in self.param_groups:
            sizes = group["dimensions"] or [p.numel() for p in group["params"]]
            for parameter, size in zip(group["params"], sizes, strict=True):
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                captured = group["capturable"]
                if not state:
                    state.update(_tadam_start(parameter, group["betas"][0], captured))
                state["step"] += 1
                step = None if captured else state["step"]
                sums = tadam_sum(group["betas"][0], group["rule"])
                rule = _Rule(step, group["lr"], group["betas"], group["eps"], sums)
                found.setdefault(rule, _Members()).add(
                    parameter, size, group["weight_decay"], state
                )
        return found


class _Rule(NamedTuple):
    """What a step does, ``step`` being its number; None where each state has its own on the device.

    ``sums`` are the factors of the sum of weights and of a new weight.
    """

    step: int | None
    lr: float | Tensor
    betas: tuple[float, float]
    eps: float
    sums: tuple[float, float]


class _Members:
    """Parameters that step together: their numbers of free elements, decays and states."""

    def __init__(self) -> None:
        self.parameters: list[Tensor] = []
        self.dimensions: list[int] = []
        self.decays: list[float] = []
        self.states: list[dict[str, Any]] = []

    def add(self, parameter: Tensor, dimension: int, decay: float, state: dict[str, Any]) -> None:
        self.parameters.append(parameter)
        self.dimensions.append(dimension)
        self.decays.append(decay)
        self.states.append(state)

    def gradients(self) -> list[Tensor]:
        """Those of the loss, with what decays added."""
        found = _gradients(self.parameters)
        for decay in sorted(set(self.decays) - {0.0}):
            chosen = [i for i, own in enumerate(self.decays) if own == decay]
            added = torch._foreach_add(
                [found[i] for i in chosen], [self.parameters[i] for i in chosen], alpha=decay
            )
            for i, gradient in zip(chosen, added, strict=True):
                found[i] = gradient
        return found

    def of_state(self, key: str) -> list[Tensor]:
        return [state[key] for state in self.states]


@lru_cache(maxsize=64)
def _on_device(numbers: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers that a device needs at every step, copied once."""
    return torch.tensor(numbers, dtype=dtype).to(device)


def _tadam_start(parameter: Tensor, beta1: float, capturable: bool) -> dict[str, Any]:
    return {
        "step": parameter.new_zeros((), dtype=torch.float32) if capturable else 0,
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
        # The sum of weights at which Adam's own averaging would stand.
        "weight_sum": parameter.new_full((), beta1 / (1 - beta1)),
    }


def _tadam_step(members: _Members, rule: _Rule) -> None:
    beta2, (kept, added) = rule.betas[1], rule.sums
    gradients, parameters = members.gradients(), members.parameters
    means, squares, sums = map(members.of_state, ("exp_avg", "exp_avg_sq", "weight_sum"))
    like = parameters[0]
    dimension = _on_device(tuple(members.dimensions), like.dtype, like.device)
    weight = 2 * dimension / (dimension + _distance(gradients, means, squares, rule.eps))
    taken = weight / (torch.stack(sums) + weight)
    torch._foreach_lerp_(means, gradients, taken.unbind())
    torch._foreach_mul_(sums, kept)
    torch._foreach_add_(sums, weight.unbind(), alpha=added)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
    _tadam_move(members, rule, means, squares)


def _tadam_move(members: _Members, rule: _Rule, means: list[Tensor], squares: list[Tensor]) -> None:
    """Move along the means, over the roots of the squares, of both of which the start is taken out.

    A number of steps on the device takes two passes more, as only a number of the host can be the
    factor of the last one.
    """
    beta1, beta2 = rule.betas
    if rule.step is not None:
        factor = -cast(float, rule.lr) / (1 - beta1**rule.step)
        denominators = torch._foreach_div(squares, 1 - beta2**rule.step)
    else:
        steps, factor = torch.stack(members.of_state("step")).double(), 1.0
        first, second = ((1 - beta**steps).to(means[0].dtype) for beta in rule.betas)
        means = list(torch._foreach_mul(means, (-rule.lr / first).unbind()))
        denominators = torch._foreach_div(squares, second.unbind())
    torch._foreach_sqrt_(denominators)
    torch._foreach_add_(denominators, rule.eps)
    torch._foreach_addcdiv_(members.parameters, means, denominators, value=factor)


def _distance(
    gradients: list[Tensor], means: list[Tensor], squares: list[Tensor], eps: float
) -> Tensor:
    """Of each gradient from its mean, in units of the second moment, squared and summed."""
    away, scale = torch._foreach_sub(gradients, means), torch._foreach_add(squares, eps)
    torch._foreach_sqrt_(scale)
    torch._foreach_div_(away, scale)
    return torch.stack(torch._foreach_norm(away)).square()


def _evaluate(closure: Closure | None) -> float | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _with_gradient(group: Group) -> list[Tensor]:
    return [p for p in group["params"] if p.grad is not None]


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [cast(Tensor, p.grad) for p in parameters]


OptimizerBuilder = Callable[[Recipe, list[Group]], Optimizer]
OPTIMIZERS: Registry[OptimizerBuilder] = Registry("optimizer")


@OPTIMIZERS.register("sgd")
def sgd(recipe: Recipe, groups: list[Group]) -> Optimizer:
    """torch's SGD with the recipe's momentum."""
    kind = CapturableSGD if groups[0].get("capturable") else SGD
    return kind(groups, lr=recipe.lr, momentum=recipe.momentum)


@OPTIMIZERS.register("adam")
def adam(recipe: Recipe, groups: list[Group]) -> Optimizer:
    """torch's Adam."""
    return Adam(groups, lr=recipe.lr, betas=BETAS[recipe.betas])


@OPTIMIZERS.register("fromage")
def fromage(recipe: Recipe, groups: list[Group]) -> Optimizer:
    """:class:`Fromage`; a recipe with it has no weight decay."""
    return Fromage(groups, lr=recipe.lr)


@OPTIMIZERS.register("tadam")
def tadam(recipe: Recipe, groups: list[Group]) -> Optimizer:
    """:class:`TAdam`."""
    return TAdam(groups, lr=recipe.lr, betas=BETAS[recipe.betas], rule=recipe.tadam)


def build(
    recipe: Recipe,
    weights: list[Parameter],
    activations: list[Parameter],
    survivors: Mapping[Parameter, int],
    lr: Tensor | None = None,
) -> Optimizer:
    """The optimiser of ``recipe``, at the start of a phase.

    Args:
        recipe: optimiser, lr, momentum, weight decay, and the rules of Adam and TAdam.
        weights: weights, biases and batch norm; these decay.
        activations: alpha, beta and own parameters of the slots; these never decay.
        survivors: number of surviving entries of each pruned parameter; others count whole.
        lr: float32 without dimensions, on the parameters' device: the learning rate, in place of
            the recipe's, of an optimiser whose steps a CUDA graph may hold.
    """
    more = {} if lr is None else {"lr": lr, "capturable": True}
    groups = [
        _group(weights, recipe.weight_decay, survivors) | more,
        _group(activations, 0.0, survivors) | more,
    ]
    made = OPTIMIZERS[recipe.optimizer](recipe, [group for group in groups if group["params"]])
    if lr is not None:  # torch's Adam would warn of the steps that are not captured
        setattr(made, "_warned_capturable_if_run_uncaptured", True)  # noqa: B010
    return made


def _group(params: list[Parameter], decay: float, survivors: Mapping[Parameter, int]) -> Group:
    dimensions = [survivors.get(p, p.numel()) for p in params]
    return {"params": params, "weight_decay": decay, "dimensions": dimensions}
