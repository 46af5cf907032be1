"""The search comparison (Appendix A, Figure 6): stage 1 by other algorithms at equal budget."""

from __future__ import annotations

from pipelines.config.study import Study
from pipelines.engine.work import Work
from pipelines.stages.search import find


def run(study: Study, pair: str) -> None:
    """The study in every cell of a pair that it names; nothing where it names none."""
    for ratio in study.profile.ratios(pair):
        _cell(study, pair, ratio)


def _cell(study: Study, pair: str, ratio: float) -> None:
    """The searches: ``<algorithm>-r<replicate>``.

    The profile's own algorithm is in the stage ``search`` and not run again. Nothing is trained to
    the end: what is compared is the fitness that each search reached.
    """
    own = study.pairs[pair].search
    names = [name for name in study.profile.algorithms(pair, ratio) if name != own.algorithm]
    epochs = len(names) * own.evaluations * own.epochs
    with Work(study, "algorithms", pair, ratio, epochs=epochs) as work:

        def one(name: str, replicate: int) -> None:
            spec = own.model_copy(update={"algorithm": name})
            find(work, name, replicate, work.start(replicate), spec)

        work.each(one, [(name, r) for r in work.replicates for name in names])
