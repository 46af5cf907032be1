"""What docs/PREREGISTRATION.md says of a study is what its profile runs and what was published."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.contrasts import MAIN
from pipelines.config.profile import every_profile
from pipelines.config.reading import read_yaml
from pipelines.config.study import Study, named
from pipelines.results import archiving

ROOT = Path(__file__).parents[2]
DOCUMENT = "docs/PREREGISTRATION.md"


def studies(text: str) -> dict[str, dict[str, Any]]:
    """The studies of a document by profile."""
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    return {block["profile"]: block for block in blocks}


WRITTEN = studies((ROOT / DOCUMENT).read_text())


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def as_written(study: Study) -> dict[str, Any]:
    """A study in the words of the document."""
    profile, said = study.profile, study.profile.preregistered
    return {
        "profile": profile.profile,
        "preset": profile.protocol.preset,
        "seed": profile.seed,
        "replicates": said.replicates,
        "finals": profile.protocol.finals,
        "cells": {pair: profile.ratios(pair) for pair in profile.pairs},
        "arms": list(profile.arms),
        "ratio": said.ratio,
        "contrasts": list(said.contrasts),
        "margins": said.margins,
    }


@pytest.mark.parametrize("name", WRITTEN)
def test_a_profile_is_what_was_preregistered(name: str) -> None:
    assert as_written(named(name)) == WRITTEN[name]


def test_whoever_confirms_is_in_the_document() -> None:
    found = {study.profile.profile: study.profile for study in map(named, every_profile())}
    assert {name for name, x in found.items() if x.preregistered.contrasts} == set(WRITTEN)


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no history: not a clone")
@pytest.mark.parametrize("name", WRITTEN)
def test_the_commit_that_a_profile_names_says_the_same(name: str) -> None:
    """The document's block, and parameters and pairs as they are now."""
    shallow = git("rev-parse", "--is-shallow-repository").strip() == "true"
    if shallow or len(git("rev-list", "--max-count=2", "HEAD").split()) < 2:
        assert "GITHUB_ACTIONS" not in os.environ, "the workflow has to fetch the history"
        pytest.skip("a checkout without its history")
    profile = named(name).profile
    commit = profile.preregistered.commit
    assert commit is not None
    git("merge-base", "--is-ancestor", commit, "HEAD")

    def then(file: str) -> str:
        return git("show", f"{commit}:{file}")

    assert studies(then(DOCUMENT))[name] == WRITTEN[name]
    before, now = yaml.safe_load(then(profile.params_file)), read_yaml(Path(profile.params_file))
    for values in (before, now):
        values.pop("replicates")  # as many as there are so far
        values["preregistered"].pop("commit", None)
    assert now == before
    for pair in profile.pairs:
        file = f"pipelines/pairs/{pair}.yaml"
        assert read_yaml(Path(file)) == yaml.safe_load(then(file)), file


@pytest.mark.parametrize("name", WRITTEN)
def test_published_replicates_are_those_that_were_asked_for(name: str) -> None:
    """Every arm with every final, in the order of their numbers, and none beyond the last."""
    study, said = named(name), WRITTEN[name]
    for replicate in archiving.read(study):
        assert replicate.identity is not None, "a run is missing"
        cells = [(arm, x) for x in said["cells"][replicate.pair] for arm in said["arms"]]
        assert {(r.arm, r.ratio) for r in replicate.records} == {("dense", 0.0), *cells}
        for record in replicate.records:
            finals = 1 if record.arm == "dense" else said["finals"]
            assert len(record.finals) == finals, (record.arm, replicate.replicate)
    files = archiving.folder(study).glob("*/r*.json")
    numbers = {int(file.stem.removeprefix("r")) for file in files}
    assert numbers == set(range(len(numbers))) and len(numbers) <= study.profile.replicates


def test_the_papers_contrasts_are_among_the_confirmed() -> None:
    assert all(set(MAIN) <= set(said["contrasts"]) for said in WRITTEN.values())
