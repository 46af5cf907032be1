"""Two labs and a DVC remote, as CONTRIBUTING.md describes it: pull, change one pair, rerun it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_end_to_end import OTHER, PAIR, PARAMS, Clone, two_pairs

PIPELINE = "pipelines/profiles/smoke/dvc.yaml"
METRICS = "results/smoke/tables/summary.json"


def vanilla_alone(values: dict) -> None:
    """Two pairs, the least that a pipeline can have."""
    two_pairs(values)
    values["arms"] = ["vanilla"]


@pytest.mark.slow
def test_a_second_lab_pulls_changes_one_pair_and_reruns_only_that(tmp_path: Path) -> None:
    first = Clone(tmp_path / "first")
    shutil.copy(first.path / f"pipelines/pairs/{PAIR}.yaml", first.path / OTHER)
    first.edit(PARAMS, vanilla_alone)
    ignored = (first.path / ".gitignore").read_text()
    (first.path / ".gitignore").write_text(ignored.replace("/results/smoke/\n", ""))
    first.bench("run", "smoke")
    first.dvc("remote", "add", "--default", "shared", str(tmp_path / "remote"))
    first.dvc("push", PIPELINE)

    second = Clone(tmp_path / "second", source=first.path)
    second.dvc("pull", PIPELINE)
    assert second.records() == first.records()
    assert "up to date" in second.dvc("repro", PIPELINE).stdout

    second.edit(OTHER, lambda values: values["recipe"].update(lr=0.01))
    done = second.dvc("repro", PIPELINE).stdout
    running = [line for line in done.splitlines() if line.startswith("Running stage")]
    assert any("baselines@lenet5_other" in line for line in running)
    assert not any(PAIR in line for line in running), running
    before, after = first.records(), second.records()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if name.startswith("lenet5_other/")}

    shown = json.loads(second.dvc("metrics", "diff", "--json", "--targets", METRICS).stdout)
    names = list(shown[METRICS])
    assert names and all(name.startswith("top1.lenet5_other.") for name in names)
