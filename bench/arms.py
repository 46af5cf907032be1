"""What is compared: the arms (methods) of the protocol and the contrasts between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

CONFIRMATORY_RATIO = 0.99
"""The pruning ratio whose contrasts are confirmatory; every other ratio is exploratory."""


@dataclass(frozen=True)
class Arm:
    """One way of retraining the pruned network.

    ``label`` heads columns, ``description`` explains it in a line, ``beyond_paper`` marks control
    arms that the paper does not have. ``operator`` is set for the arms of the activation study
    (Figure 4a): one operator in every slot. These stand in no table.
    """

    label: str
    description: str
    beyond_paper: bool = False
    operator: str | None = None


OPERATORS: Mapping[str, str] = MappingProxyType(
    {
        "relu6": "ReLU6", "acon": "Acon", "tanhsoft1": "TanhSoft-1", "srs": "SRS",
        "symlog": "Symlog", "symexp": "Symexp", "swish": "Swish", "tanh": "Tanh",
        "hardswish": "HardSwish", "elu": "ELU", "gelu": "GELU", "softplus": "Softplus",
        "sigmoid": "LogisticSigmoid", "relu": "ReLU", "logsigmoid": "LogSigmoid",
        "prelu": "PReLU", "falu": "FALU",
    }
)  # fmt: skip
"""Labels of the operators, Table 4's first and in its order."""


ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        "dense": Arm("Dense", "the unpruned network with its own recipe"),
        "vanilla": Arm("Vanilla", "pruned, default activation, the dense recipe"),
        "srelu": Arm("SReLU", "pruned, SReLU in every slot, the dense recipe"),
        "stage1_only": Arm("Stage 1", "activations found by the search, the dense recipe"),
        "stage2_only": Arm("Stage 2", "ReLU, learned alpha and beta, tuned recipe"),
        "safs": Arm("SAFS", "activations found, learned alpha and beta, tuned recipe"),
        "safs_fast": Arm("SAFS fast", "as SAFS, both stages by successive halving", True),
        "default_hpo": Arm("Default + HPO", "default activation, tuned recipe", True),
        "srelu_hpo": Arm("SReLU + HPO", "SReLU, tuned recipe", True),
        "random_hpo": Arm(
            "Random + HPO", "a random activation per slot, alpha and beta, tuned recipe", True
        ),
        "best_single_hpo": Arm(
            "Best single + HPO", "the best one activation everywhere, tuned recipe", True
        ),
        "default_hpo_total": Arm(
            "Default + HPO (total)", "default activation tuned with the whole budget of SAFS", True
        ),
    }
    | {
        f"all_{name}": Arm(label, f"{label} in every slot, the dense recipe", operator=name)
        for name, label in OPERATORS.items()
    }
)
"""Every arm, in the order in which tables show them, then those of the activation study."""


@dataclass(frozen=True)
class Contrast:
    """The paired difference ``a - b`` of two arms on the same (pair, replicate, ratio)."""

    a: str
    b: str
    question: str
    confirmatory: bool = False

    @property
    def name(self) -> str:
        """Identifier, e.g. ``"safs-vanilla"``."""
        return f"{self.a}-{self.b}"

    @property
    def label(self) -> str:
        """For people, e.g. ``"SAFS - Vanilla"``."""
        return f"{ARMS[self.a].label} - {ARMS[self.b].label}"


CONTRASTS: tuple[Contrast, ...] = (
    Contrast("safs", "vanilla", "does SAFS beat vanilla pruning?", True),
    Contrast("safs", "srelu", "does SAFS beat SReLU?", True),
    Contrast("safs", "stage1_only", "does stage 2 add to stage 1?"),
    Contrast("safs", "stage2_only", "does stage 1 add to stage 2?"),
    Contrast("stage1_only", "vanilla", "what do the activations alone give?"),
    Contrast("default_hpo", "vanilla", "what does tuning alone give?"),
    Contrast("safs", "default_hpo", "what is left of the gain at an equal tuning budget?"),
    Contrast("safs", "srelu_hpo", "does SAFS beat SReLU at an equal tuning budget?"),
    Contrast("safs", "random_hpo", "does the search beat a random choice?"),
    Contrast("safs", "best_single_hpo", "does a choice per layer beat one for all layers?"),
    Contrast("safs", "default_hpo_total", "does SAFS beat tuning with its whole budget?"),
    Contrast("srelu_hpo", "default_hpo", "does SReLU beat the default, both tuned alike?"),
    Contrast("best_single_hpo", "default_hpo", "does the best single operator, both tuned alike?"),
    Contrast("random_hpo", "default_hpo", "does a random choice, both tuned alike?"),
    Contrast("safs_fast", "safs", "what does the cheap search lose?"),
)
"""Confirmatory contrasts first; the others are exploratory and made where both arms were run."""


def contrasts_of(methods: Iterable[str]) -> list[Contrast]:
    """The contrasts whose two arms are both among ``methods``."""
    present = set(methods)
    return [c for c in CONTRASTS if c.a in present and c.b in present]


def ordered(methods: Iterable[str]) -> list[str]:
    """``methods`` without repeats, in the order of :data:`ARMS`."""
    present = set(methods)
    return [name for name in ARMS if name in present]
