"""Evaluation: the test images, once per arm and replicate, and the record of each run."""

from __future__ import annotations

from pathlib import Path

from bench.records.record import Record
from bench.records.schema import pack
from pipelines import compute
from pipelines.config.study import Study
from pipelines.engine.work import Work
from pipelines.results.describing import describe
from pipelines.storage import artefacts, environment, layout
from pipelines.storage.behind import Behind
from pipelines.tasks import evaluation
from safs.arms import finals
from safs.errors import SafsError
from safs.sealed import Json, digest


def run(study: Study, pair: str, *ratios: float) -> None:
    """Write the record of every run of a pair; one whose inputs are unchanged stays as it is.

    ``ratios`` names the pruning ratios to evaluate, without the arms that no stage has trained yet;
    by default all are, with every arm.
    """
    with Work(study, "evaluate", pair) as work:
        runs = study.profile.runs(pair)
        units = [(work, arm, ratio, r) for arm, ratio in runs for r in work.replicates]
        for _, arm, ratio, replicate in units:
            work.named(f"{layout.record_name(arm, ratio, replicate)}.json")
        if ratios:
            units = [u for u in units if u[2] in (0.0, *ratios) and trained(*u)]
        work.each(evaluate, units)


def rests_on(work: Work, arm: str, ratio: float, replicate: int) -> Behind:
    """What a run of this pair rests on."""
    profile = work.study.profile
    count = finals(arm, profile.protocol)
    return Behind(profile.profile, work.pair_name, ratio, arm, replicate, count)


def trained(work: Work, arm: str, ratio: float, replicate: int) -> bool:
    """Whether a stage has trained a run."""
    return all(path.exists() for path in rests_on(work, arm, ratio, replicate).finals)


def evaluate(work: Work, arm: str, ratio: float, replicate: int) -> None:
    """Bring one record up to date, reading the test images only if no valid record exists.

    They are opened once, for all final trainings. A run one of whose workers died, in a final, a
    candidate, a trial or the dense training, has no record: it is missing, not failed, until it is
    tried again.
    """
    name = layout.record_name(arm, ratio, replicate)
    target = work.named(f"{name}.json")
    behind = rests_on(work, arm, ratio, replicate)
    if behind.died:
        target.unlink(missing_ok=True)
        return
    trainings = [artefacts.whole(path) for path in behind.finals]
    record = describe(work, behind, trainings)
    code = work.evaluation(_chromosome(trainings[0]))
    record["digests"]["identity"] = _identity(record, code)
    known = _record(target)
    if known is not None and known.digests.identity == _identity(record, code, known):
        now = Record.model_validate(
            known.model_dump(by_alias=True)
            | {key: record[key] for key in ("seconds", "memory", "digests")}
            | {"digest": None}
        )
        if now != known.model_copy(update={"digest": None}):
            now.write(target)
        return
    whole = {
        place: artefacts.weights_of(path).resolve()
        for place, path in enumerate(behind.finals)
        if trainings[place]["result"]["failure"] is None
    }
    if whole:
        tests, counted = work.run(
            evaluation.evaluate,
            work.pair.network,
            work.pair.dataset.name,
            list(whole.values()),
            _chromosome(trainings[0]),
            {key: trainings[0]["job"][key] for key in ("scaled", "train_own")},
            behind.mask and artefacts.weights_of(behind.mask).resolve(),
            compute.data_directory(),
        )
        for place, test in zip(whole, tests, strict=True):
            record["finals"][place] = _scored(record["finals"][place], test)
        record |= counted
    record["environment"] = environment.describe()
    Record.model_validate(record).write(target)


def _identity(record: Json, code: str, known: Record | None = None) -> str:
    """Digest of what the scores of a record rest on, but for times.

    The parameters are those of the record that is ``known``, if any: what of them decides a score
    is in the chain as well, and a label opens no test images.
    """
    lasting = {key: value for key, value in record.items() if key not in ("seconds", "memory")}
    digests = {key: value for key, value in record["digests"].items() if key != "identity"}
    if known is not None:
        digests["parameters"] = known.digests.parameters
    return digest([lasting | {"digests": digests}, code])


def _record(path: Path) -> Record | None:
    """The record at ``path``, if there is one that is whole."""
    try:
        return Record.read(path) if path.exists() else None
    except SafsError:
        return None


def _scored(final: Json, test: Json) -> Json:
    """A final training with what it came to; failed where its loss on the test images is none."""
    if test["loss"] is None:
        return {"reason": "the test loss is not finite"}
    return final | {"test": test | {"correct": pack(test["correct"])}}


def _chromosome(artefact: Json) -> tuple[str, ...]:
    return tuple(str(slot["operator"]) for slot in artefact["result"]["slots"])
