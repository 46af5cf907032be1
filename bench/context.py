"""What the tables and the report must know about a run beyond its records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from bench.contrasts import CONFIRMATORY, EXPLORATORY, MAIN, MAIN_RATIO, Preregistration
from bench.paper import pairs as published_pairs
from bench.records.schema import Protocol
from safs.arms import ARMS
from safs.errors import SafsError
from safs.spec import Spec

if TYPE_CHECKING:
    from bench.records.collection import Collection


class PairInfo(Spec):
    """A (network, data set) pair as people read it.

    ``published`` is its key in ``paper.yaml`` or None. ``comparable`` says whether our numbers may
    be held against the paper's; if not, ``why_not`` says why, in one line.
    """

    label: str
    published: str | None = None
    comparable: bool = False
    why_not: str = ""

    @model_validator(mode="after")
    def _reasons(self) -> PairInfo:
        if self.published is not None and self.published not in published_pairs():
            raise ValueError(f"a published pair: {', '.join(published_pairs())}")
        if self.published and not self.comparable and not self.why_not:
            raise ValueError("why_not, as the pair is not comparable")
        if self.comparable and not self.published:
            raise ValueError("published, as the pair is comparable")
        return self


class Context(Spec):
    """One profile.

    ``budgets`` are numbers such as epochs and trials; ``swept`` are the arms of the activation
    study; ``searches`` names the algorithm of stage 1 of each pair; ``preregistered`` is what it
    confirms; ``notes`` are warnings shown on top of every page; ``deviations`` are one-line
    departures from the paper; ``parameters`` is the resolved parameter tree, shown as it is.
    """

    profile: str
    title: str
    protocol: Protocol
    pairs: dict[str, PairInfo]
    ratios: tuple[float, ...]
    replicates: int = Field(ge=1)
    arms: tuple[str, ...]
    swept: tuple[str, ...] = ()
    searches: dict[str, str] = Field(default_factory=dict)
    preregistered: Preregistration = Preregistration()
    budgets: dict[str, int | float | str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_arms(self) -> Context:
        unknown = [name for name in (*self.arms, *self.swept) if name not in ARMS]
        if unknown:
            raise ValueError(f"arms among {', '.join(ARMS)}; got {', '.join(unknown)}")
        return self

    def kind(self, contrast: str, ratio: float) -> str:
        """Whether a contrast at a ratio is confirmatory or exploratory."""
        listed = self.preregistered.lists(contrast, ratio)
        return CONFIRMATORY if listed else EXPLORATORY

    @property
    def main(self) -> tuple[tuple[str, ...], float]:
        """Contrasts and ratio that summaries show: preregistered, else the paper's main ones."""
        said = self.preregistered
        if said.ratio is not None:
            return said.contrasts, said.ratio
        return MAIN, MAIN_RATIO if MAIN_RATIO in self.ratios else max(self.ratios)

    def search(self, pair: str) -> str:
        """The algorithm of stage 1 of a pair; LAHC, the paper's, where the profile is silent."""
        return self.searches.get(pair, "lahc")

    def label(self, pair: str) -> str:
        """The pair's label; its name if the profile does not describe it."""
        return self.pairs[pair].label if pair in self.pairs else pair

    def require(self, collection: Collection) -> None:
        """Refuse a collection with runs that this profile does not describe.

        Tables walk over the profile's pairs, ratios and arms, so such runs would vanish.

        Raises:
            SafsError: naming the first stranger.
        """
        known: dict[str, set[Any]] = {
            "pair": set(self.pairs),
            "ratio": {0.0, *self.ratios},
            "arm": {*self.arms, *self.swept},
        }
        for column, values in known.items():
            for found in sorted(set(collection.frame[column]) - values):
                raise SafsError(f"profile {self.profile!r} has no {column} {found!r}")
