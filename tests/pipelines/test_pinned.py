"""The environment in which libraries choose their arithmetic."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pipelines import pinned
from pipelines.pinned import VARIABLES
from safs.processor import cpu_flags

TELL = "import json, os; print(json.dumps({n: os.environ.get(n) for n in VARIABLES}))"


def seen(**told: str) -> dict[str, str]:
    """What a fresh process finds set after ``import pipelines``, which says nothing."""
    program = f"import pipelines; from pipelines.pinned import VARIABLES; import numpy; {TELL}"
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**kept, **told}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.skipif("avx2" not in cpu_flags().split(), reason="a processor without AVX2")
def test_what_is_not_set_is_pinned_and_what_is_set_stays():
    assert seen() == VARIABLES | pinned._of_older_numpy()
    assert seen(ATEN_CPU_CAPABILITY="default")["ATEN_CPU_CAPABILITY"] == "default"


def test_nothing_is_pinned_where_the_processor_has_no_avx2(monkeypatch):
    monkeypatch.setattr(pinned, "cpu_flags", lambda: "sse2")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    pinned.pin()
    assert not set(VARIABLES) & set(os.environ)
