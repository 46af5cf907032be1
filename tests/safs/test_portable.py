"""The kernels compute the same bits everywhere: digests as constants, here and emulated."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from safs import exact, kernels
from safs.errors import SafsError

PORTABLE = Path(__file__).parent.parent / "portable"
sys.path.insert(0, str(PORTABLE))
import cases  # noqa: E402
import everywhere  # noqa: E402

CASES = dict(cases.every_case())
EXPECTED = json.loads(cases.DIGESTS.read_text())


def test_no_case_is_lost():
    assert {*CASES, "small run"} == set(EXPECTED)


@pytest.mark.parametrize("name", CASES)
def test_every_case_has_its_digest(name):
    assert CASES[name]() == EXPECTED[name]


def test_a_whole_small_run_has_its_digest():
    assert cases.small_run() == EXPECTED["small run"]


@pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="no qemu-x86_64 (package qemu-user)")
def test_an_emulated_processor_computes_the_same():
    found = everywhere.cases("--few", cpu="Haswell")
    assert len(found) == 25
    assert found == {name: EXPECTED[name] for name in found}


@pytest.mark.skipif(not everywhere.runtime("address"), reason="no address sanitizer of g++")
def test_the_kernels_touch_nothing_but_their_own_memory():
    """Nor is anything undefined; ``make test-portable`` runs all cases so, and looks for races."""
    found = everywhere.cases("--few", sanitizer="address")
    assert len(found) == 25
    assert found == {name: EXPECTED[name] for name in found}
    with pytest.raises(SystemExit, match="AddressSanitizer: heap-buffer-overflow"):
        everywhere.cases("--overrun", sanitizer="address")


def test_a_processor_without_avx2_is_refused_and_not_ended(monkeypatch):
    monkeypatch.setattr(kernels.build, "cpu_flags", lambda: "sse2 avx fma")
    if kernels.build._TARGET:
        with pytest.raises(kernels.Unsupported, match="has no AVX2"):
            kernels.build._check_processor()


@pytest.mark.parametrize("name", ["exp", "log"])
def test_elementary_functions_err_by_three_units_in_the_last_place(name):
    x = {"exp": np.linspace(-700, 700, 20_001), "log": np.geomspace(1e-300, 1e300, 20_001)}[name]
    found, expected = getattr(exact, name)(x), getattr(np, name)(x)
    assert (np.abs(found - expected) <= 3 * np.spacing(np.abs(expected))).all()


def test_elementary_functions_at_their_ends():
    assert exact.exp([-1000.0, 0.0, 1000.0]).tolist() == [0.0, 1.0, math.inf]
    assert np.isnan(exact.exp(math.nan))
    assert [exact.half_cosine(part) for part in (0.0, 0.5, 1.0)] == [1.0, 0.0, -1.0]
    assert exact.power(0.1, 3.0) == pytest.approx(1e-3, rel=1e-15)


@pytest.mark.parametrize("name", ["lenet5", "vgg16", "resnet18"])
@pytest.mark.parametrize("ratio", [0.0, 0.9])
def test_the_number_of_threads_changes_no_bit(name, ratio, monkeypatch):
    width = {} if name == "lenet5" else {"width": 0.125}
    digests = set()
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("SAFS_THREADS", threads)
        digests.add(cases.epoch(name, "adam", cases.KNOWN, ratio, batch=100, count=150, **width))
    assert len(digests) == 1


@pytest.mark.parametrize("value", ["0", "two", "-1", ""])
def test_a_wrong_number_of_threads_is_refused(value, monkeypatch):
    monkeypatch.setenv("SAFS_THREADS", value)
    with pytest.raises(SafsError, match=f"SAFS_THREADS: {value!r}: expected a number from 1"):
        kernels.threads()
