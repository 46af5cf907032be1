"""What must agree inside a lab file: each fault as (key path, what stands there, expected)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bench.labs import agreement
from bench.labs.schema import Budget, CellSummary, Contents, LabPair, Run
from bench.labs.summary import cells_of, data_of, environments_of
from bench.records.checks import Problem
from bench.records.collection import check_mixing
from bench.records.record import Record
from bench.records.schema import Key, Parameters
from safs.arms import ARMS
from safs.errors import SafsError, did_you_mean
from safs.settings import LR, MOMENTUM, WEIGHT_DECAY
from safs.spec import Recipe

TOLERANCE = 1e-9
"""Two computations of one number may differ by this much (points, shares)."""


def problems(file: Contents) -> list[Problem]:
    """All faults; what follows from the runs is checked only once the runs themselves agree."""
    if found := [*_arm_problems(file), *_head_problems(file)]:
        return found
    found = [*_pair_problems(file), *_grid_problems(file)]
    for place, run in enumerate(file.runs):
        found += _run_problems(file, run, ("runs", str(place)))
    found = found or [*_copy_problems(file), *agreement.problems(file)]
    found = found or [*_mixing_problems(file)]
    return found or [*_summary_problems(file)]


def _arm_problems(file: Contents) -> Iterator[Problem]:
    unknown = next((arm for arm in file.arms if arm not in ARMS), None)
    if unknown is not None:
        yield ("arms",), unknown, f"an arm{did_you_mean(unknown, ARMS)}"
    elif len(set(file.arms)) != len(file.arms) or "dense" not in file.arms:
        yield ("arms",), file.arms, "distinct arms, dense among them"


def _head_problems(file: Contents) -> Iterator[Problem]:
    """Where all runs say one thing and the head another, the head is wrong, once."""
    for key in ("profile", "protocol"):
        head, said = getattr(file, key), {getattr(record, key) for record in file.records}
        if len(said) == 1 and head not in said:
            yield (key,), str(head), f"{said.pop()}, as in all runs"
    if missing := sorted({record.pair for record in file.records} - set(file.pairs)):
        yield ("pairs",), sorted(file.pairs), f"also {', '.join(missing)}, as in the runs"


def _pair_problems(file: Contents) -> Iterator[Problem]:
    wanted = set(file.arms)
    for name, pair in file.pairs.items():
        if pair.ratios != sorted(set(pair.ratios)) or not pair.ratios:
            yield ("pairs", name, "ratios"), pair.ratios, "distinct ratios, ascending"
        if set(pair.budgets) != wanted:
            yield ("pairs", name, "budgets"), sorted(pair.budgets), "a budget for each arm"
        else:
            yield from _budget_problems(pair, ("pairs", name, "budgets"))


def _budget_problems(pair: LabPair, at: tuple[str, ...]) -> Iterator[Problem]:
    """An arm may spend on the stages that it has, as much as others that have the same."""
    known: dict[tuple[object, ...], tuple[int, str]] = {}
    for arm, budget in pair.budgets.items():
        entry = ARMS[arm]
        for stage, used, allowed in (
            ("search", entry.searched, budget.search), ("tune", entry.tuned, budget.tune),
        ):  # fmt: skip
            for what in ("trainings", "epochs"):
                if (value := getattr(allowed, what)) and not used:
                    yield (*at, arm, stage, what), value, f"0, as arm {arm} has no such stage"
                if used and not value:
                    yield (*at, arm, stage, what), value, "at least 1"
        for where, group, number in (
            (("final",), (arm == "dense",), budget.final),
            (("search", "trainings"), (entry.operators,), budget.search.trainings),
            (("search", "epochs"), (entry.searched,), budget.search.epochs),
            (("tune", "trainings"), (entry.tuned, entry.whole_budget), budget.tune.trainings),
            (("tune", "epochs"), (entry.tuned,), budget.tune.epochs),
        ):
            same, other = known.setdefault((where, *group), (number, arm))
            if number != same:
                yield (*at, arm, *where), number, f"{same}, as for arm {other}"


def _grid_problems(file: Contents) -> Iterator[Problem]:
    """Every expected run is there once: none is left out, repeated or added."""
    size = file.replicates * len(file.arms) * sum(len(p.ratios) for p in file.pairs.values())
    if size > 10 * len(file.runs) + 1000:
        yield ("runs",), f"{len(file.runs)} runs", "a run for each replicate, ratio and arm"
        return
    expected = {
        (name, 0.0 if arm == "dense" else ratio, replicate, arm)
        for name, pair in file.pairs.items()
        for ratio in pair.ratios
        for arm in file.arms
        for replicate in range(file.replicates)
    }
    seen = set()
    for place, record in enumerate(file.records):
        at = ("runs", str(place), "record")
        if record.key in seen:
            yield (*at, "replicate"), record.replicate, "each run once"
        elif record.key not in expected:
            named = "a pair, ratio, replicate and arm that the head of the file names"
            yield at, _words(record.key), named
        seen.add(record.key)
    for key in sorted(expected - seen):
        yield ("runs",), "no run " + _words(key), "every run; a failed one is a record too"


def _words(key: Key) -> str:
    return "{}/{}/{}/{}".format(*key)


def _run_problems(file: Contents, run: Run, where: tuple[str, ...]) -> Iterator[Problem]:
    record, at = run.record, (*where, "record")
    if record.profile != file.profile:
        yield (*at, "profile"), record.profile, f"the file's profile {file.profile!r}"
    if record.protocol != file.protocol:
        yield (*at, "protocol"), record.protocol.model_dump(), "the file's protocol"
    if record.history:
        yield (*at, "history"), sorted(record.history), "{}: a lab file has no curves"
    for number, slot in enumerate(record.slots):
        if slot.own:
            own = (*at, "slots", str(number), "own")
            yield own, sorted(slot.own), "{}: a lab file has no weights"
    if record.recipe is not None and ARMS[record.arm].tuned:
        yield from _recipe_problems(record.recipe, (*at, "recipe"))
    pair = file.pairs.get(record.pair)
    if pair is None:
        return
    if record.parameters is not None:
        yield from _count_problems(record, record.parameters, pair, (*at, "parameters"))
    if budget := pair.budgets.get(record.arm):
        yield from _spent_problems(run, budget, where)


def _recipe_problems(recipe: Recipe, at: tuple[str, ...]) -> Iterator[Problem]:
    """A tuned recipe is a point of the tuning space (Table 4); 0 is none."""
    for what, (low, high) in (("lr", LR), ("weight_decay", WEIGHT_DECAY), ("momentum", MOMENTUM)):
        value = getattr(recipe, what)
        if value and not low * (1 - TOLERANCE) <= value <= high * (1 + TOLERANCE):
            yield (*at, what), value, f"{low} to {high}, as stage 2 chooses"


def _count_problems(
    record: Record, counts: Parameters, pair: LabPair, at: tuple[str, ...]
) -> Iterator[Problem]:
    """Sparsity: the layers' counts against the ratio."""
    for name, layer in counts.layers.items():
        wanted = max(1.0, (1 - record.ratio) * layer.total)
        if pair.layerwise and abs(layer.kept - wanted) > 1:
            expected = f"{wanted:.0f}, as ratio {record.ratio} of each layer is pruned"
            yield (*at, "layers", name, "kept"), layer.kept, expected


def _spent_problems(run: Run, budget: Budget, where: tuple[str, ...]) -> Iterator[Problem]:
    """Epochs and trainings against the budget; only failures may spend less."""
    record = run.record
    ok, at = record.finals[0].reason is None, (*where, "record")
    least = budget.final if ok else 0
    if not least <= record.epochs.final <= budget.final:
        yield (*at, "epochs", "final"), record.epochs.final, f"the budget of {budget.final} epochs"
    for stage in ("search", "tune"):
        spent = (budget, record.trials, record.epochs, run.failed)
        allowed, trainings, epochs, failed = (getattr(each, stage) for each in spent)
        if trainings != allowed.trainings and (ok or trainings):
            yield (*at, "trials", stage), trainings, f"the budget of {allowed.trainings} trainings"
            continue
        if failed > trainings:
            yield (*where, "failed", stage), failed, f"at most the {trainings} trainings"
            continue
        fewest, most = (trainings - failed) * allowed.epochs, trainings * allowed.epochs
        if not fewest <= epochs <= most:
            text = f"{most}" if fewest == most else f"{fewest} to {most}"
            text += f": {trainings} trainings of {allowed.epochs} epochs, {failed} failed"
            yield (*at, "epochs", stage), epochs, text


def _copy_problems(file: Contents) -> Iterator[Problem]:
    """Replicates are runs of their own: no two have the same weights or the same identity.

    So are the finals of an arm; arms that are alike may share weights.
    """
    known: dict[tuple[object, ...], tuple[object, ...]] = {}
    identities: set[str] = set()
    for place, record in enumerate(file.records):
        identity, at = record.digests.identity, ("runs", str(place), "record")
        if identity in identities:
            yield (*at, "digests", "identity"), identity, "an identity that no other run has"
        identities.add(identity)
        for number, final in enumerate(record.finals):
            told, block = (record.pair, final.weights), (record.ratio, record.replicate, number)
            if final.weights is not None and known.setdefault(told, block) != block:
                where = (*at, "finals", str(number), "weights")
                yield where, final.weights, "weights that no other replicate or final has"


def _mixing_problems(file: Contents) -> Iterator[Problem]:
    parameters: dict[str, str] = {}
    for place, record in enumerate(file.records):
        known = parameters.setdefault(record.pair, record.digests.parameters)
        if record.digests.parameters != known:
            at = ("runs", str(place), "record", "digests", "parameters")
            yield at, record.digests.parameters, f"{known}, as in the pair's other runs"
    try:
        check_mixing(file.records)
    except SafsError as error:
        yield ("runs",), "records that cannot stand together", str(error)


def _summary_problems(file: Contents) -> Iterator[Problem]:
    """What the head says of the runs, against the runs."""
    if file.data != data_of(file.records):
        yield ("data",), file.data, "the checksums of the runs, by data set"
    if file.environments != environments_of(file.records):
        yield ("environments",), f"{len(file.environments)} of them", "those of the runs, in order"
    wanted = cells_of(file.records)
    if [(c.pair, c.ratio) for c in file.cells] != [(c.pair, c.ratio) for c in wanted]:
        yield ("cells",), f"{len(file.cells)} cells", "one per pair and ratio, in order"
        return
    for place, (cell, truth) in enumerate(zip(file.cells, wanted, strict=True)):
        yield from _cell_problems(cell, truth, ("cells", str(place)))


def _cell_problems(cell: CellSummary, truth: CellSummary, at: tuple[str, ...]) -> Iterator[Problem]:
    if not _close(cell.sparsity, truth.sparsity):
        yield (*at, "sparsity"), cell.sparsity, f"{truth.sparsity}, from the counts of its runs"
    if cell.gains.keys() != truth.gains.keys():
        yield (*at, "gains"), sorted(cell.gains), f"the contrasts {', '.join(truth.gains)}"
        return
    for name, gain in cell.gains.items():
        real = truth.gains[name]
        if gain.n != real.n:
            yield (*at, "gains", name, "n"), gain.n, f"{real.n} replicates with both results"
        if not _close(gain.mean, real.mean):
            expected = f"{real.mean}, the mean difference of its runs"
            yield (*at, "gains", name, "mean"), gain.mean, expected


def _close(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=0, abs_tol=TOLERANCE)
