"""What zero-cost predictors said of a search's candidates, beside what training made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pydantic import Field
from scipy import stats as scipy_stats

from safs import sealed
from safs.checked import parsed
from safs.spec import Count, Spec


class ScoredCandidate(Spec):
    """A trained candidate: its fitness and what each predictor said (``null`` is the worst)."""

    chromosome: tuple[str, ...]
    energy: float
    scores: dict[str, float | None]


class Predictions(Spec):
    """The different candidates of one faithful search that ended well."""

    pair: str
    ratio: float = Field(ge=0, lt=1)
    replicate: Count
    candidates: tuple[ScoredCandidate, ...]

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read and check a file of the stage ``fast``. Raises SafsError or OSError."""
        content = sealed.read(path)
        values = {name: content.get(name) for name in cls.model_fields}
        return parsed(cls, json.dumps(values), path.name)

    def has(self, predictor: str) -> bool:
        """Whether a predictor was asked about every candidate."""
        return all(predictor in candidate.scores for candidate in self.candidates)

    def correlation(self, predictor: str) -> float:
        """Spearman's rank correlation of score and negative energy; NaN where either is constant.

        1 ranks the candidates as training does.
        """
        scores, energies = self._columns(predictor)
        if min(len(set(scores)), len(set(energies))) < 2:
            return np.nan
        return float(scipy_stats.spearmanr(scores, -energies).statistic)

    def rank(self, predictor: str) -> int:
        """The rank of the candidate that the predictor likes best, by energy; 1 is the best.

        One plus the number of candidates with a lower energy: equals share the better rank.
        """
        scores, energies = self._columns(predictor)
        return 1 + int((energies < energies[int(np.argmax(scores))]).sum())

    def _columns(self, predictor: str) -> tuple[np.ndarray, np.ndarray]:
        told = [candidate.scores[predictor] for candidate in self.candidates]
        scores = np.array([-np.inf if score is None else score for score in told])
        return scores, np.array([candidate.energy for candidate in self.candidates])
