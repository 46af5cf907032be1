"""The arms: every way of retraining the same pruned checkpoint that the protocol compares.

All arms of a (replicate, ratio) share dense net, mask, batches and, where they are tuned, the
space, SMAC's seed and the first five configurations; but ``safs_fast`` may start from what it found
at the ratio before. ``dense`` is what is pruned and stands in the
table as the first arm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from safs.errors import UnknownName
from safs.operators import OPERATORS
from safs.settings import Protocol

Operators = Literal[
    "default", "relu", "srelu", "srelu_layer", "found", "found_fast", "random", "best_single", "one"
]  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """What is in the slots, what is learned or tuned, and what people call it.

    Attributes:
        label: heads columns.
        description: explains it in a line.
        operators: the network's default; ReLU or SReLU everywhere, or SReLU with its parameters
            per layer; the chromosome that stage 1 found; the one that the cheap search found; a
            random one; the best of the chromosomes with one operator everywhere; one given operator
            everywhere.
        scaled: alpha and beta are learned.
        tuned: stage 2 chooses the recipe; otherwise the dense recipe is used.
        whole_budget: stage 2 gets as many trials as SAFS has in both stages.
        beyond_paper: a control that the paper does not have.
        operator: the one given operator, of an arm of the activation study (Figure 4a). These stand
            in no table.
    """

    label: str
    description: str
    operators: Operators = "default"
    scaled: bool = False
    tuned: bool = False
    whole_budget: bool = False
    beyond_paper: bool = False
    operator: str | None = None

    @property
    def searched(self) -> bool:
        """Trainings chose its operators."""
        return self.search is not None

    @property
    def search(self) -> str | None:
        """The name of the search that chose its operators; arms may share one."""
        names = {"found": "search", "best_single": "singles", "found_fast": "safs_fast-search"}
        return names.get(self.operators)


_LEARNED: Any = {"scaled": True, "tuned": True}
_CONTROL: Any = {"tuned": True, "beyond_paper": True}
_LEARNED_CONTROL: Any = {**_CONTROL, "scaled": True}

_TABLE: Mapping[str, Arm] = {
    "dense": Arm("Dense", "the unpruned network with its own recipe"),
    "vanilla": Arm("Vanilla", "pruned, default activation, the dense recipe"),
    "srelu": Arm("SReLU", "pruned, SReLU in every slot, the dense recipe", "srelu"),
    "stage1_only": Arm("Stage 1", "activations found by the search, the dense recipe", "found"),
    "stage2_only": Arm("Stage 2", "ReLU, learned alpha and beta, tuned recipe", "relu", **_LEARNED),
    "safs": Arm("SAFS", "activations found, learned alpha and beta, tuned recipe",
                "found", **_LEARNED),
    "safs_fast": Arm("SAFS fast", "as SAFS, both stages by successive halving",
                     "found_fast", **_LEARNED_CONTROL),
    "default_hpo": Arm("Default + HPO", "default activation, tuned recipe", **_CONTROL),
    "srelu_hpo": Arm("SReLU + HPO", "SReLU, tuned recipe", "srelu", **_CONTROL),
    "srelu_layer": Arm("SReLU per layer", "one set of SReLU's parameters a layer, the dense recipe",
                       "srelu_layer", beyond_paper=True),
    "srelu_layer_hpo": Arm("SReLU per layer + HPO",
                           "one set of SReLU's parameters a layer, tuned recipe",
                           "srelu_layer", **_CONTROL),
    "random_hpo": Arm("Random + HPO", "a random activation per slot, alpha and beta, tuned recipe",
                      "random", **_LEARNED_CONTROL),
    "best_single_hpo": Arm("Best single + HPO", "the best one activation everywhere, tuned recipe",
                           "best_single", **_LEARNED_CONTROL),
    "default_hpo_total": Arm(
        "Default + HPO (total)", "default activation tuned with the whole budget of SAFS",
        whole_budget=True, **_LEARNED_CONTROL),
}  # fmt: skip
_EVERYWHERE = "all_"


class Arms(Mapping[str, Arm]):
    """Every arm, in the order of the tables; then one operator everywhere, per operator.

    The latter follow the registry of operators. SReLU everywhere, per channel and per layer, are
    arms of their own already.
    """

    def __getitem__(self, name: str) -> Arm:
        if name in _TABLE:
            return _TABLE[name]
        if name not in self:
            raise UnknownName("arm", name, self)
        operator = name.removeprefix(_EVERYWHERE)
        label = OPERATORS[operator].label
        words = f"{label} in every slot, the dense recipe"
        return Arm(label, words, "one", operator=operator)

    def __contains__(self, name: object) -> bool:
        return name in _TABLE or (isinstance(name, str) and _is_swept(name))

    def __iter__(self) -> Iterator[str]:
        yield from _TABLE
        yield from (name for name in map(everywhere, OPERATORS) if _is_swept(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_swept(name: str) -> bool:
    operator = name.removeprefix(_EVERYWHERE)
    return operator != name and operator in OPERATORS and operator not in SRELU.values()


ARMS: Mapping[str, Arm] = Arms()

SRELU = {"per_channel": "srelu", "per_layer": "srelu_layer", "as_released": "srelu_released"}
"""The operator that stands for SReLU under each reading of ``protocol.srelu``."""


def finals(name: str, protocol: Protocol) -> int:
    """Final trainings of an arm in a replicate, whose mean is its value.

    The dense network and the arms of the activation study have one, and so has an arm whose
    selected trial is reported.
    """
    one = name == "dense" or ARMS[name].operator is not None or reports_trial(name, protocol)
    return 1 if one else protocol.finals


def reports_trial(name: str, protocol: Protocol) -> bool:
    """Whether an arm's selected trial meets the test images, in place of its final trainings.

    The cheap search trains its trials in pieces, so its arm keeps the finals.
    """
    arm = ARMS[name]
    return protocol.reported == "selected" and arm.tuned and arm.operators != "found_fast"


def everywhere(operator: str) -> str:
    """The arm of the activation study with one operator in every slot."""
    return f"{_EVERYWHERE}{operator}"


def ordered(arms: Iterable[str]) -> list[str]:
    """``arms`` without repeats, in the order of :data:`ARMS`."""
    present = set(arms)
    return [name for name in ARMS if name in present]


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
    srelu, one = SRELU[protocol.srelu], ARMS[name].operator
    fixed = {"relu": "relu", "srelu": srelu, "srelu_layer": "srelu_layer", "one": one}
    operator = fixed.get(operators)
    if operator is None:
        raise ValueError(f"the operators of {name} have to be searched")
    return (operator,) * len(default)
