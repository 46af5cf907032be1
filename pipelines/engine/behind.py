"""What lies behind a record: the artefacts it was made from, and what each of them computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.engine import artefacts, layout
from safs.rows import SearchTrace, Trace, Trained, TuneTrace
from safs.sealed import Json

if TYPE_CHECKING:
    from bench.record import Record


@dataclass(frozen=True)
class Behind:
    """A run, by the files that it rests on; the fields are those of its record."""

    profile: str
    pair: str
    ratio: float
    arm: str
    replicate: int

    @classmethod
    def of(cls, record: Record) -> Behind:
        """What a record rests on."""
        return cls(record.profile, record.pair, record.ratio, record.arm, record.replicate)

    @property
    def final(self) -> Path:
        """The artefact of its final training."""
        ratio = None if self.arm == "dense" else self.ratio
        return self._artefact(layout.trained_in(self.arm), self.arm, ratio)

    @property
    def mask(self) -> Path | None:
        """The artefact of its mask; a dense run has none."""
        return None if self.arm == "dense" else self._artefact("prune", "mask", self.ratio)

    @property
    def dense(self) -> Behind | None:
        """The dense run that it starts from, unless it is one."""
        return None if self.arm == "dense" else replace(self, arm="dense")

    def searches(self) -> dict[str, tuple[Path, Trace]]:
        """Artefact and trace of stage 1 (``search``) and stage 2 (``tune``), where they ran."""
        found: dict[str, tuple[Path, Trace]] = {}
        for purpose, (stage, name) in layout.trace_names(self.arm).items():
            path = self._artefact(stage, name, self.ratio)
            if path.exists():
                kind: type[Trace] = SearchTrace if purpose == "search" else TuneTrace
                found[purpose] = path, artefacts.trace(path, kind)
        return found

    def chain(self) -> Json:
        """The links of its record (:class:`bench.record.Chain`), as plain data."""
        mask = self.mask and artefacts.read(self.mask)["weights"]
        fold = artefacts.read((self.dense or self).final).get("fold")
        outcomes = {
            purpose: [row.outcome for row in trace.rows]
            for purpose, (_, trace) in self.searches().items()
        }
        return ({"data": fold} if fold else {}) | {
            "dense": self.dense and self.dense._outcome(),
            "mask": mask and mask[:32],
            "candidates": outcomes.get("search", []),
            "trials": outcomes.get("tune", []),
            "final": self._outcome(),
        }

    @property
    def portable(self) -> bool:
        """Whether the kernels did all the training that it rests on: any machine gets its bits."""
        here = artefacts.read(self.final)["result"]["backend"] == "sparse"
        rows = [row for _, trace in self.searches().values() for row in trace.rows]
        searched = all(row.backend == "sparse" for row in rows)
        return here and searched and (self.dense is None or self.dense.portable)

    def _outcome(self) -> str:
        artefact = artefacts.read(self.final)
        return Trained.model_validate(artefact["result"]).outcome(artefact["weights"])

    def _artefact(self, stage: str, name: str, ratio: float | None) -> Path:
        place = layout.folder(self.profile, stage, self.pair, ratio)
        return place / f"{name}-r{self.replicate}.json"
