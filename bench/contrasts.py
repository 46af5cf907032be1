"""What is compared: the contrasts between arms (:data:`safs.arms.ARMS`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from safs.arms import ARMS

CONFIRMATORY_RATIO = 0.99
"""The pruning ratio whose contrasts are confirmatory; every other ratio is exploratory."""


def contrast_label(name: str) -> str:
    """``"safs-vanilla"`` as people read it."""
    first, _, second = name.partition("-")
    return f"{ARMS[first].label} - {ARMS[second].label}"


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
        return contrast_label(self.name)

    def kind(self, ratio: float) -> str:
        """Confirmatory or exploratory, at a pruning ratio."""
        asked = self.confirmatory and ratio == CONFIRMATORY_RATIO
        return "confirmatory" if asked else "exploratory"


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


def contrasts_of(arms: Iterable[str]) -> list[Contrast]:
    """The contrasts whose two arms are both among ``arms``."""
    present = set(arms)
    return [c for c in CONTRASTS if c.a in present and c.b in present]
