"""What lies behind a record: the artefacts it was made from, and what each of them computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.storage import artefacts, layout
from safs.rows import SearchTrace, Trace, TuneTrace
from safs.sealed import Json

if TYPE_CHECKING:
    from bench.records.record import Record


@dataclass(frozen=True)
class Behind:
    """A run, by the files that it rests on.

    ``count`` is how many final trainings it has; the other fields are those of its record.
    """

    profile: str
    pair: str
    ratio: float
    arm: str
    replicate: int
    count: int = 1

    @classmethod
    def of(cls, record: Record) -> Behind:
        """What a record rests on."""
        key = record.profile, record.pair, record.ratio, record.arm, record.replicate
        return cls(*key, len(record.finals))

    @property
    def finals(self) -> list[Path]:
        """The artefacts of its final trainings, in order."""
        stage, ratio = layout.trained_in(self.arm), None if self.arm == "dense" else self.ratio
        place = layout.folder(self.profile, stage, self.pair, ratio)
        names = (layout.final_name(self.arm, f, self.replicate) for f in range(self.count))
        return [place / f"{name}.json" for name in names]

    @property
    def mask(self) -> Path | None:
        """The artefact of its mask; a dense run has none."""
        return None if self.arm == "dense" else self._artefact("prune", "mask", self.ratio)

    @property
    def dense(self) -> Behind | None:
        """The dense run that it starts from, unless it is one."""
        return None if self.arm == "dense" else replace(self, arm="dense", count=1)

    @property
    def died(self) -> bool:
        """Whether a worker died in any of it: then the run is not finished, whatever came after."""
        own = [*self.finals, *(path for path, _ in self.searches.values())]
        if any(artefacts.died(artefacts.whole(path)) for path in own):
            return True
        return self.dense is not None and self.dense.died

    @cached_property
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
        """The links of its record (:class:`bench.records.schema.Chain`), as plain data."""
        mask = self.mask and artefacts.read(self.mask)["weights"]
        fold = artefacts.read((self.dense or self).finals[0]).get("fold")
        outcomes = {
            purpose: [row.outcome for row in trace.rows]
            for purpose, (_, trace) in self.searches.items()
        }
        return ({"data": fold} if fold else {}) | {
            "dense": self.dense and self.dense._outcomes()[0],
            "mask": mask and mask[:32],
            "candidates": outcomes.get("search", []),
            "trials": outcomes.get("tune", []),
            "finals": self._outcomes(),
        }

    @property
    def portable(self) -> bool:
        """Whether the kernels did all the training that it rests on: any machine gets its bits."""
        here = all(artefacts.read(p)["result"]["backend"] == "sparse" for p in self.finals)
        rows = [row for _, trace in self.searches.values() for row in trace.rows]
        searched = all(row.backend == "sparse" for row in rows)
        return here and searched and (self.dense is None or self.dense.portable)

    def _outcomes(self) -> list[str]:
        return [artefacts.outcome(path) for path in self.finals]

    def _artefact(self, stage: str, name: str, ratio: float | None) -> Path:
        return layout.artefact(self.profile, stage, self.pair, ratio, name, self.replicate)
