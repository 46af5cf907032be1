"""The arms: every way of retraining the same pruned checkpoint that the protocol compares.

All arms of a (replicate, ratio) share dense net, mask, batches and, where they are tuned, the
space, SMAC's seed and the first five configurations. ``dense`` is no arm here: it is what is
pruned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from safs.operators import OPERATORS
from safs.protocol import Protocol

Operators = Literal[
    "default", "relu", "srelu", "found", "found_fast", "random", "best_single", "one"
]  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """What is in the slots, and what is learned or tuned.

    Attributes:
        operators: the network's default; ReLU or SReLU everywhere; the chromosome that stage 1
            found; the one that the cheap search found; a random one; the best of the chromosomes
            with one operator everywhere; one given operator everywhere.
        operator: that operator.
        scaled: alpha and beta are learned.
        tuned: stage 2 chooses the recipe; otherwise the dense recipe is used.
        whole_budget: stage 2 gets as many trials as SAFS has in both stages.
        beyond_paper: a control that the paper does not have.
    """

    operators: Operators
    scaled: bool = False
    tuned: bool = False
    whole_budget: bool = False
    beyond_paper: bool = False
    operator: str | None = None


ARMS: Mapping[str, Arm] = {
    "vanilla": Arm("default"),
    "srelu": Arm("srelu"),
    "stage1_only": Arm("found"),
    "stage2_only": Arm("relu", scaled=True, tuned=True),
    "safs": Arm("found", scaled=True, tuned=True),
    "safs_fast": Arm("found_fast", scaled=True, tuned=True, beyond_paper=True),
    "default_hpo": Arm("default", tuned=True, beyond_paper=True),
    "srelu_hpo": Arm("srelu", tuned=True, beyond_paper=True),
    "random_hpo": Arm("random", scaled=True, tuned=True, beyond_paper=True),
    "best_single_hpo": Arm("best_single", scaled=True, tuned=True, beyond_paper=True),
    "default_hpo_total": Arm(
        "default", scaled=True, tuned=True, whole_budget=True, beyond_paper=True
    ),
} | {f"all_{name}": Arm("one", operator=name) for name in OPERATORS if not name.startswith("srelu")}
"""The last ones, one operator everywhere, are those of the activation study (Figure 4a)."""


SRELU = {"per_channel": "srelu", "per_layer": "srelu_layer", "as_released": "srelu_released"}
"""The operator that stands for SReLU under each reading of ``protocol.srelu``."""


def chromosome(name: str, default: tuple[str, ...], protocol: Protocol) -> tuple[str, ...]:
    """The operators of an arm that needs no search.

    Args:
        name: an arm whose operators are the default ones, or one operator everywhere.
        default: the dense network's operators, one per slot.
        protocol: says which SReLU is meant.
    """
    operators = ARMS[name].operators
    if operators == "default":
        return default
    everywhere = {"relu": "relu", "srelu": SRELU[protocol.srelu], "one": ARMS[name].operator}
    chosen = everywhere.get(operators)
    if chosen is not None:
        return (chosen,) * len(default)
    raise ValueError(f"the operators of {name} have to be searched")
