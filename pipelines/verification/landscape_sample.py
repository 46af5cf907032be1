"""``landscape retrain``: a random sample of a published landscape's rows, trained once more."""

from __future__ import annotations

from bench.landscape.table import Landscape
from pipelines.config.study import Study
from pipelines.engine.starts import PrunedStart
from pipelines.engine.work import Work
from pipelines.results import landscapes
from pipelines.results.recomputed import Retrained, train_rows
from pipelines.verification.retraining import make_starts
from safs.errors import SafsError


def retrain_sample(study: Study, table: Landscape, sample: int, seed: int) -> list[Retrained]:
    """Train a random sample of a published table's rows once more.

    Dense networks and masks are trained first, where they are not in ``runs/``. Rows are drawn of
    those replicates that the study has.

    Raises:
        SafsError: the networks are not those that the table starts from.
    """
    pair, ratio = table.meta.pair, table.meta.ratio
    frame = table.frame[table.frame["replicate"] < study.profile.replicates]
    make_starts(study, pair, {(ratio, int(replicate)) for replicate in set(frame["replicate"])})
    rows = frame.sample(min(sample, len(frame)), random_state=seed).index
    work = Work(study, "landscape", pair, ratio)
    work.progress.total = len(rows) * table.meta.epochs[-1]
    with work.progress, work.pool:
        starts = {int(r): work.start(int(r)) for r in sorted(set(frame["replicate"]))}
        for replicate, start in starts.items():
            if not landscapes.fits(study, pair, table, replicate, start.inputs):
                raise SafsError(
                    f"{landscapes.path(study, pair, ratio)}: replicate {replicate} does not start "
                    f"from what is trained here: {_parting(table, replicate, start)}"
                )
        return train_rows(work, starts, table, rows)


def _parting(table: Landscape, replicate: int, start: PrunedStart) -> str:
    said = table.meta.starts.get(str(replicate))
    parts = {} if said is None else {"dense": said.dense, "mask": said.mask}
    differ = [name for name, value in parts.items() if start.inputs[name] != value]
    return f"{differ[0]} differs" if differ else "protocol, recipe or images differ"
