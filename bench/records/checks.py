"""What must agree inside a record: each fault as (key path, what stands there, expected)."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic_core import InitErrorDetails, PydanticCustomError

from bench.records.schema import (
    HISTORY,
    SCHEMA_VERSION,
    Chain,
    Contents,
    Final,
    Parameters,
    Reach,
    Test,
)
from safs import sealed
from safs.arms import ARMS
from safs.errors import SafsError, did_you_mean

Problem = tuple[tuple[str, ...], object, str]
"""Where (key path), what stands there, what was expected."""


def detail(problem: Problem) -> InitErrorDetails:
    """A problem as pydantic reports it."""
    where, value, expected = problem
    text = expected.replace("{", "(").replace("}", ")")
    return InitErrorDetails(type=PydanticCustomError("bench", text), loc=where, input=value)


def problems(record: Contents) -> Iterator[Problem]:
    """Everything that one field alone cannot show to be wrong."""
    yield from _digest_problems(record)
    yield from _header_problems(record)
    yield from _status_problems(record)
    yield from _spent_problems(record)
    yield from _slot_problems(record)
    yield from _history_problems(record)
    if record.chain is not None:
        yield from _chain_problems(record, record.chain)
    for place, final in enumerate(record.finals):
        if final.test is not None:
            yield from _test_problems(
                final.test, record.connectivity, ("finals", str(place), "test")
            )
    if record.parameters is not None:
        yield from _count_problems(record.parameters)
    if record.macs is not None and record.macs.sparse > record.macs.dense:
        yield ("macs", "sparse"), record.macs.sparse, f"at most dense = {record.macs.dense}"
    if record.connectivity is not None:
        yield from _connectivity_problems(record.connectivity)
        if record.classes != record.connectivity.classes:
            expected = f"{record.classes}, as the record says elsewhere"
            yield ("connectivity", "classes"), record.connectivity.classes, expected


def _digest_problems(record: Contents) -> Iterator[Problem]:
    if record.digest is not None:
        expected = sealed.seal(record.model_dump(mode="json", by_alias=True))[sealed.DIGEST]
        if record.digest != expected:
            yield ("digest",), record.digest, "the digest of the content: damaged or edited"


def _header_problems(record: Contents) -> Iterator[Problem]:
    if record.schema_ != SCHEMA_VERSION:
        yield ("schema",), record.schema_, f"schema version {SCHEMA_VERSION}"
    if record.fold > record.replicate:
        yield ("fold",), record.fold, f"at most the replicate {record.replicate}"
    for key, value in (("device", record.device.type), ("processor", record.device.name),
                       ("threads", str(record.threads))):  # fmt: skip
        if record.bits.get(key, value) != value:
            yield ("bits", key), record.bits[key], f"{value!r}, as the record says elsewhere"
    if record.arm not in ARMS:
        yield ("arm",), record.arm, f"an arm{did_you_mean(record.arm, ARMS)}"
    if record.seconds.of == "processor" and record.device.type != "cpu":
        yield ("seconds", "of"), record.seconds.of, f"wall on {record.device.type}"
    if record.arm == "dense" and record.ratio != 0:
        yield ("ratio",), record.ratio, "0.0 for arm dense"
    if record.arm == "dense" and record.connectivity is not None:
        yield ("connectivity",), "an object", "null for arm dense"


def _status_problems(record: Contents) -> Iterator[Problem]:
    for place, final in enumerate(record.finals):
        yield from _final_problems(final, ("finals", str(place)))
        if final.test is not None and final.test.loss is None and record.protocol.version >= 3:
            expected = "a number, as a final that is not finite on the test images has failed"
            yield ("finals", str(place), "test", "loss"), None, expected
    if record.failures == len(record.finals):
        return
    needed: dict[str, object] = {"parameters": record.parameters, "recipe": record.recipe}
    if record.arm != "dense":
        needed |= {"connectivity": record.connectivity}
    for where, value in needed.items():
        if value is None:
            yield (where,), None, "a value, as a final training is ok"


def _final_problems(final: Final, at: tuple[str, ...]) -> Iterator[Problem]:
    if final.reason == "":
        yield (*at, "reason"), final.reason, "the reason of a failed training"
    for what in ("test", "weights"):
        value = getattr(final, what)
        if final.reason is not None and value is not None:
            yield (*at, what), "a value", "null for a failed training"
        if final.reason is None and value is None:
            yield (*at, what), None, "a value, as the training is ok"


def _chain_problems(record: Contents, chain: Chain) -> Iterator[Problem]:
    for name, links, trainings in (
        ("candidates", chain.candidates, record.trials.search),
        ("trials", chain.trials, record.trials.tune),
        ("finals", chain.finals, len(record.finals)),
    ):
        if len(links) != trainings:
            yield ("chain", name), len(links), f"{trainings} links, one per training"
    for name in ("dense", "mask"):
        link = getattr(chain, name)
        if record.arm == "dense" and link is not None:
            yield ("chain", name), link, "null for arm dense"
        some = record.failures < len(record.finals)
        if record.arm != "dense" and some and link is None:
            yield ("chain", name), None, "a link, as a final training is ok"


def _test_problems(test: Test, reach: Reach | None, at: tuple[str, ...]) -> Iterator[Problem]:
    if test.top1 > test.top5:
        yield (*at, "top1"), test.top1, f"at most top5 = {test.top5}"
    if reach is not None and test.top1 > reach.cap + 1e-9:
        yield (*at, "top1"), test.top1, f"at most {reach.cap:.6g}, the cap of the connected classes"
    try:
        share = int(test.bits().sum()) / test.images
    except SafsError as error:
        yield (*at, "correct"), test.correct, f"packed bits of the images ({error})"
        return
    if abs(share - test.top1) > 1e-9:
        yield (*at, "top1"), test.top1, f"{share}, the share of ones in test.correct"


def _history_problems(record: Contents) -> Iterator[Problem]:
    lengths = {len(values) for values in record.history.values()}
    if record.history and (set(record.history) != set(HISTORY) or len(lengths) > 1):
        yield ("history",), sorted(record.history), f"lists of one length: {', '.join(HISTORY)}"


def _spent_problems(record: Contents) -> Iterator[Problem]:
    """An arm without a search, or without tuning, spends nothing on it."""
    if record.arm not in ARMS:
        return
    arm = ARMS[record.arm]
    for stage, used in (("search", arm.searched), ("tune", arm.tuned)):
        for what in ("epochs", "trials", "seconds"):
            value = getattr(getattr(record, what), stage)
            if value and not used:
                yield (what, stage), value, f"0, as arm {record.arm} has no such stage"


def _slot_problems(record: Contents) -> Iterator[Problem]:
    scaled = record.arm not in ARMS or ARMS[record.arm].scaled
    seen: set[str] = set()
    for place, slot in enumerate(record.slots):
        if slot.name in seen:
            yield ("slots", str(place), "name"), slot.name, "each slot once"
        seen.add(slot.name)
        for what, value in (("alpha", slot.alpha), ("beta", slot.beta)):
            if value not in (1, None) and not scaled:
                where = ("slots", str(place), what)
                yield where, value, f"1.0, as arm {record.arm} learns no scales"


def _count_problems(counts: Parameters) -> Iterator[Problem]:
    """The layers' counts against each other's sums."""
    total = sum(layer.total for layer in counts.layers.values())
    kept = sum(layer.kept for layer in counts.layers.values())
    if counts.prunable != total:
        yield ("parameters", "prunable"), counts.prunable, f"{total}, the sum of the layers' totals"
    least = total + counts.activation
    if counts.total < least:
        expected = f"at least {least}, the prunable and the activations' own"
        yield ("parameters", "total"), counts.total, expected
    most = counts.total - total + kept
    if not kept <= counts.nonzero <= most:
        expected = f"{kept} to {most}: what the layers keep, and what is not prunable"
        yield ("parameters", "nonzero"), counts.nonzero, expected
    for name, layer in counts.layers.items():
        if layer.kept > layer.total:
            where = ("parameters", "layers", name, "kept")
            yield where, layer.kept, f"at most total = {layer.total}"


def _connectivity_problems(found: Reach) -> Iterator[Problem]:
    least = min(1.0, (len(found.connected) + 1) / found.classes)
    if found.cap < least - 1e-9:
        expected = f"at least {least:.6g}: the share of the connected classes and one more"
        yield ("connectivity", "cap"), found.cap, expected
    known = all(0 <= label < found.classes for label in found.connected)
    if not known or len(set(found.connected)) != len(found.connected):
        expected = f"distinct classes from 0 to {found.classes - 1}"
        yield ("connectivity", "connected"), found.connected, expected
