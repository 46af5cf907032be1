"""What is compared: the contrasts between arms (:data:`safs.arms.ARMS`), and what of it a study
said beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, model_validator

from safs.arms import ARMS
from safs.errors import did_you_mean, shown
from safs.spec import Distinct, Spec

MAIN_RATIO = 0.99
"""The pruning ratio of the paper's main tables."""
MAIN = ("safs-vanilla", "safs-srelu")
"""The contrasts of the paper's Table 1: what summaries show where nothing was preregistered."""
CONFIRMATORY, EXPLORATORY = "confirmatory", "exploratory"
"""What a study preregistered, and all else."""


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

    @property
    def name(self) -> str:
        """Identifier, e.g. ``"safs-vanilla"``."""
        return f"{self.a}-{self.b}"


CONTRASTS: tuple[Contrast, ...] = (
    Contrast("safs", "vanilla", "does SAFS beat vanilla pruning?"),
    Contrast("safs", "srelu", "does SAFS beat SReLU?"),
    Contrast("safs", "srelu_layer", "does SAFS beat SReLU with four parameters a layer?"),
    Contrast("safs", "stage1_only", "does stage 2 add to stage 1?"),
    Contrast("safs", "stage2_only", "does stage 1 add to stage 2?"),
    Contrast("stage1_only", "vanilla", "what do the activations alone give?"),
    Contrast("default_hpo", "vanilla", "what does tuning alone give?"),
    Contrast("safs", "default_hpo", "what is left of the gain at an equal tuning budget?"),
    Contrast("safs", "srelu_hpo", "does SAFS beat SReLU at an equal tuning budget?"),
    Contrast("safs", "srelu_layer_hpo", "does SAFS beat SReLU per layer, tuned alike?"),
    Contrast("safs", "random_hpo", "does the search beat a random choice?"),
    Contrast("safs", "best_single_hpo", "does a choice per layer beat one for all layers?"),
    Contrast("safs", "default_hpo_total", "does SAFS beat tuning with its whole budget?"),
    Contrast("srelu_hpo", "default_hpo", "does SReLU beat the default, both tuned alike?"),
    Contrast("best_single_hpo", "default_hpo", "does the best single operator, both tuned alike?"),
    Contrast("random_hpo", "default_hpo", "does a random choice, both tuned alike?"),
    Contrast("stage2_only", "default_hpo", "what does stage 2 alone give, both tuned alike?"),
    Contrast("safs_fast", "safs", "what does the cheap search lose?"),
)
"""Every contrast; it is made where both arms were run."""
SAME_FOR_RELU = "stage2_only-default_hpo"
"""Where the default is ReLU, both arms of this contrast are one class of functions, as
alpha ReLU(beta x) = alpha beta ReLU(x): their difference is the noise of tuning."""


class Preregistration(Spec):
    """What a study said before it ran: the contrasts that are confirmatory, at one pruning ratio.

    Nothing is decided before as many ``replicates`` are there, whatever the profile runs so far.
    ``margins`` (points) are of those that are asked for equivalence, and ``commit`` is the one that
    says so in docs/PREREGISTRATION.md. Empty where a study said nothing; then it confirms nothing,
    and all of its contrasts are exploratory.
    """

    ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    contrasts: Distinct[str] = ()
    replicates: Annotated[int, Field(ge=1, le=1000)] | None = None
    margins: dict[str, Annotated[float, Field(gt=0, le=100)]] = Field(default_factory=dict)
    commit: Annotated[str, Field(pattern="^[0-9a-f]{7,40}$")] | None = None

    @model_validator(mode="after")
    def _contrasts_exist(self) -> Preregistration:
        known = [contrast.name for contrast in CONTRASTS]
        for what, names, allowed in (
            ("contrast", self.contrasts, known),
            ("margin of contrast", self.margins, self.contrasts),
        ):
            for name in names:
                if name not in allowed:
                    raise ValueError(f"unknown {what} {shown(name)}{did_you_mean(name, allowed)}")
        said = {"contrasts": bool(self.contrasts), "ratio": self.ratio is not None,
                "replicates": self.replicates is not None}  # fmt: skip
        if len(set(said.values())) > 1 or (self.commit and not self.contrasts):
            missing = ", ".join(name for name, there in said.items() if not there)
            raise ValueError(f"contrasts, ratio and replicates go together; missing: {missing}")
        return self

    def lists(self, contrast: str, ratio: float) -> bool:
        """Whether a contrast at a ratio is confirmatory."""
        return ratio == self.ratio and contrast in self.contrasts

    def unfinished(self, n: int, pairs: int = 1) -> str:
        """Why nothing is decided with ``n`` replicates, of all pairs; empty if all are there."""
        asked = pairs * (self.replicates or 0)
        return f"so far {n} of the {asked} preregistered replicates" if n < asked else ""

    def margin(self, contrast: str, ratio: float) -> float:
        """The margin within which a contrast at a ratio is to be equivalent; NaN without one."""
        return self.margins.get(contrast, math.nan) if self.lists(contrast, ratio) else math.nan


def contrasts_of(arms: Iterable[str]) -> list[Contrast]:
    """The contrasts whose two arms are both among ``arms``."""
    present = set(arms)
    return [c for c in CONTRASTS if c.a in present and c.b in present]
