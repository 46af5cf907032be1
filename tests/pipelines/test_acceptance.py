"""The acceptance run of a GPU, on a simulated one: it ends, whatever fails, and says what."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import torch
from simulated.cuda import installed
from simulated.launches import NARROW

from bench.labs import cards
from bench.labs.reading import read_card, validate
from pipelines.acceptance import checks as acceptance
from pipelines.acceptance import run, speed, subjects
from pipelines.acceptance.checks import Requirement
from pipelines.config.study import named
from safs.backends import precision
from safs.backends.device import prepare
from safs.backends.graphs import Captured

NETWORKS = [dataclasses.replace(n, options=NARROW[n.name]) for n in subjects.NETWORKS]
# Neither compiling nor layouts are simulated. Steps of deep networks take a second there, and other
# tests make them.
_NOT_SIMULATED = ("compile", "channels_last")
CHECKS = [
    check
    for check in acceptance.checks(NETWORKS[:1])
    if not any(option in check.name for option in _NOT_SIMULATED)
]
CHECKS += [c for c in acceptance.checks(NETWORKS[1:]) if c.group == "launches"]


@pytest.fixture(scope="module")
def device():
    with installed():
        chosen = torch.device("cuda", 0)
        prepare(chosen)
        yield chosen


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    """What the simulated device has not: a profiler, other processes."""
    kernels = speed.Kernels(40, 0.001)
    monkeypatch.setattr(acceptance, "profiled", lambda backend: kernels)
    monkeypatch.setattr(speed, "profiled", lambda backend: kernels)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)


@pytest.mark.filterwarnings("ignore:CUDA is in use already:UserWarning")
@pytest.mark.filterwarnings("ignore:stage 2 is repeatable:UserWarning")
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: f"{c.group}: {c.name}")
def test_every_check_passes_on_the_simulated_device(check: Requirement, device) -> None:
    assert check.run(device)


def test_what_is_wrong_fails_its_check(device, monkeypatch) -> None:
    by_name = {(c.group, c.name): c for c in CHECKS}
    with precision.kept():
        precision.set_tf32(True)
        with pytest.raises(acceptance.NotMet, match="allows TF32"):
            acceptance.rounding(device)
    torch.use_deterministic_algorithms(True, warn_only=True)
    with pytest.raises(acceptance.NotMet, match="adaptive pooling ran"):
        acceptance.strict(device)
    torch.use_deterministic_algorithms(True)
    many = speed.Kernels(10_000, 0.001)
    monkeypatch.setattr(acceptance, "profiled", lambda backend: many)
    with pytest.raises(acceptance.NotMet, match="5000 kernels per step, at most 142"):
        by_name["launches", "lenet5"].run(device)
    with monkeypatch.context() as patch:
        patch.setattr(Captured, "_replay", lambda self, step, images, labels: None)
        with pytest.raises(acceptance.NotMet, match="a replayed epoch has the sums"):
            by_name["graphs", "lenet5"].run(device)
    real, calls = subjects.trained, []

    def drifting(*arguments, **options):
        calls.append(1)
        found = real(*arguments, **options)
        name = next(iter(found.weights))
        found.weights[name] += len(calls)
        return found

    monkeypatch.setattr(subjects, "trained", drifting)
    with pytest.raises(acceptance.NotMet, match="a second run ends with another"):
        by_name["repeats", "lenet5"].run(device)
    with pytest.raises(acceptance.NotMet, match="pruned weights are not 0"):
        by_name["pruned", "lenet5"].run(device)


def broken(device: torch.device) -> str:
    raise MemoryError("CUDA out of memory\n on a line of its own")


def test_the_run_goes_on_to_its_end_and_writes_file_and_page(device, tmp_path, monkeypatch) -> None:
    study = named("smoke")
    pairs = {name: study.pairs[name] for name in ("lenet5_generated",)}
    monkeypatch.setattr(speed, "_STEPS", 1)
    monkeypatch.setattr(speed, "OPTIONS", {"plain": {}, "bf16": {"bf16": True}})
    monkeypatch.setattr(speed, "WORKERS", (1, 2))
    monkeypatch.setattr(speed, "ProcessPoolExecutor", InOrder)
    monkeypatch.setattr(speed, "rate", lambda pair, warm: 100.0)
    wanted = [Requirement("a group", "fails", broken), *CHECKS[:2]]
    told: list[str] = []
    file = run.run(device, wanted, pairs, tmp_path, told.append)
    assert [c.status for c in file.checks] == ["failed", "passed", "passed"]
    assert file.checks[0].told == "MemoryError: CUDA out of memory on a line of its own"
    assert [row.option for row in file.speeds] == ["plain", "bf16"]
    assert all(row.seconds and row.launches == 40 for row in file.speeds), file.speeds
    assert [row.images_per_second for row in file.side_by_side] == [100.0, 200.0]
    assert validate(tmp_path / "simulated-gpu.json") == []
    page = (tmp_path / "simulated-gpu.md").read_text()
    assert page == cards.page(file) and "3 checks: 2 passed, 1 failed" in page
    assert re.search(
        r"^\| group +\| failed +\|.*\n.*\n\| a-group +\| fails +\|", page, re.MULTILINE
    )
    assert len(told) == 3 + 2 + 2
    assert {p.name for p in tmp_path.iterdir()} == {"simulated-gpu.json", "simulated-gpu.md"}


def test_a_run_that_is_cut_off_leaves_what_it_saw_and_the_whole_one(device, tmp_path) -> None:
    whole = run.run(device, CHECKS[:1], {}, tmp_path, lambda _: None)

    def stop(line: str) -> None:
        if CHECKS[2].name in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(device, CHECKS[:4], {}, tmp_path, stop)
    assert read_card(tmp_path / "simulated-gpu.json") == whole
    seen = read_card(tmp_path / "simulated-gpu.json.part")
    assert [check.name for check in seen.checks] == [check.name for check in CHECKS[:2]]


def test_trainings_side_by_side_are_timed_once_all_are_warm(device, monkeypatch) -> None:
    monkeypatch.setenv("SAFS_DEVICE", "cuda")
    monkeypatch.setattr(speed, "_STEPS", 1)
    monkeypatch.setattr(speed, "_TOGETHER_SECONDS", 0.05)
    pair = named("smoke").pairs["lenet5_generated"]
    assert speed.rate(pair, threading.Barrier(1)) > 0
    many = threading.Barrier(2)
    monkeypatch.setattr(speed, "backend_of", lambda *_: broken(device))
    with pytest.raises(MemoryError):
        speed.rate(pair, many)
    assert many.broken, "the others do not wait for it"


def test_the_training_that_failed_is_told_and_not_those_that_waited(monkeypatch) -> None:
    errors = iter([threading.BrokenBarrierError(), MemoryError("CUDA out of memory")])

    def fails(pair: object, warm: object) -> float:
        raise next(errors)

    monkeypatch.setattr(speed, "ProcessPoolExecutor", InOrder)
    monkeypatch.setattr(speed, "rate", fails)
    with pytest.raises(MemoryError, match="out of memory"):
        speed._rates(named("smoke").pairs["lenet5_generated"], 2)


class InOrder:
    """Processes that are none."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, function, *arguments) -> Future[float]:
        done: Future[float] = Future()
        try:
            done.set_result(function(*arguments))
        except Exception as error:
            done.set_exception(error)
        return done

    def __enter__(self) -> InOrder:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_what_does_not_fit_into_the_time_is_left_out_by_name(device, tmp_path) -> None:
    row = run._checked(CHECKS[0], device, time.monotonic() - 1)
    assert (row.status, row.told) == ("left out", "the time was up")
    late = list(speed.speeds({"a": SimpleNamespace(recipe=subjects.recipe())}, device, 0.0))
    assert {r.told for r in late} == {"the time was up"} and len(late) == len(speed.OPTIONS)
