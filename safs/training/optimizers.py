"""The four optimisers of the recipes (SAFS, Tables 4-7), over surviving weights only.

The training loop zeroes the gradient of every pruned weight before a step, and pruned weights are
0. Such entries then add nothing to the sums of squares in Fromage's norms and TAdam's distance,
their moments stay 0, and weight decay moves them nowhere. The one quantity left in which they would
count is TAdam's dimension; :func:`build` passes the number of survivors instead.

Fromage and TAdam are written from their papers: the packages that have them come with licences that
rule out a dependency.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast, overload

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from safs.registry import Registry
from safs.spec import Recipe

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
            for parameter in _with_gradient(group):
                _fromage_step(parameter, _gradient(parameter), group["lr"])
        return loss


def _fromage_step(parameter: Tensor, gradient: Tensor, lr: float) -> None:
    size, slope = parameter.norm(), gradient.norm()
    # A tensor comparison: asking on the host would make the device wait at each parameter.
    ratio = torch.where((size > 0) & (slope > 0), size / slope, torch.ones_like(size))
    parameter.sub_(gradient * (lr * ratio)).div_(math.sqrt(1 + lr * lr))


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
    """

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "dimensions": None})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Closure) -> float: ...
    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> float | None:
        """Do one step; ``closure`` re-evaluates the loss and returns it."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            dimensions = group["dimensions"] or [p.numel() for p in group["params"]]
            for parameter, dimension in zip(group["params"], dimensions, strict=True):
                if parameter.grad is not None:
                    self._step_one(parameter, dimension, group)
        return loss

    def _step_one(self, parameter: Tensor, dimension: int, group: Group) -> None:
        state = self.state[parameter]
        if not state:
            state.update(_tadam_start(parameter, group["betas"][0]))
        gradient = _gradient(parameter)
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        _tadam_step(parameter, gradient, dimension, state, group)


def _tadam_start(parameter: Tensor, beta1: float) -> dict[str, Any]:
    return {
        "step": 0,
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
        # The sum of weights at which Adam's own averaging would stand.
        "weight_sum": parameter.new_tensor(beta1 / (1 - beta1)),
    }


def _tadam_step(
    parameter: Tensor, gradient: Tensor, dimension: int, state: dict[str, Any], group: Group
) -> None:
    (beta1, beta2), eps = group["betas"], group["eps"]
    mean, square, weight_sum = state["exp_avg"], state["exp_avg_sq"], state["weight_sum"]
    state["step"] += 1
    distance = ((gradient - mean).square() / (square + eps)).sum()
    weight = 2.0 * dimension / (dimension + distance)
    total = weight_sum + weight
    mean.mul_(weight_sum / total).add_(gradient * (weight / total))
    weight_sum.mul_((2 * beta1 - 1) / beta1).add_(weight)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    first, second = 1 - beta1 ** state["step"], 1 - beta2 ** state["step"]
    denominator = (square / second).sqrt_().add_(eps)
    parameter.addcdiv_(mean, denominator, value=-group["lr"] / first)


def _evaluate(closure: Closure | None) -> float | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _with_gradient(group: Group) -> list[Parameter]:
    return [p for p in group["params"] if p.grad is not None]


def _gradient(parameter: Tensor) -> Tensor:
    return cast(Tensor, parameter.grad)


OptimizerBuilder = Callable[[Recipe, list[Group]], Optimizer]
OPTIMIZERS: Registry[OptimizerBuilder] = Registry("optimizer")


@OPTIMIZERS.register("sgd")
def sgd(recipe: Recipe, groups: list[Group]) -> Optimizer:
    """torch's SGD with the recipe's momentum."""
    return SGD(groups, lr=recipe.lr, momentum=recipe.momentum)


@OPTIMIZERS.register("adam")
def adam(recipe: Recipe, groups: list[Group]) -> Optimizer:
    """torch's Adam at its default betas."""
    return Adam(groups, lr=recipe.lr)


@OPTIMIZERS.register("fromage")
def fromage(recipe: Recipe, groups: list[Group]) -> Optimizer:
    """:class:`Fromage`; a recipe with it has no weight decay."""
    return Fromage(groups, lr=recipe.lr)


@OPTIMIZERS.register("tadam")
def tadam(recipe: Recipe, groups: list[Group]) -> Optimizer:
    """:class:`TAdam` at its paper's betas."""
    return TAdam(groups, lr=recipe.lr)


def build(
    recipe: Recipe,
    weights: list[Parameter],
    activations: list[Parameter],
    survivors: Mapping[Parameter, int],
) -> Optimizer:
    """The optimiser of ``recipe``, at the start of a phase.

    Args:
        recipe: optimiser, lr, momentum and weight decay.
        weights: weights, biases and batch norm; these decay.
        activations: alpha, beta and own parameters of the slots; these never decay.
        survivors: number of surviving entries of each pruned parameter; others count whole.
    """
    groups = [_group(weights, recipe.weight_decay, survivors), _group(activations, 0.0, survivors)]
    return OPTIMIZERS[recipe.optimizer](recipe, [group for group in groups if group["params"]])


def _group(params: list[Parameter], decay: float, survivors: Mapping[Parameter, int]) -> Group:
    dimensions = [survivors.get(p, p.numel()) for p in params]
    return {"params": params, "weight_decay": decay, "dimensions": dimensions}
