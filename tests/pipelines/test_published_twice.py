"""Replicates that two published profiles have in common are one result, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.config.study import named
from pipelines.results import archiving

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("part", ["mnist5k_studies", "mnist5k"])
def test_two_profiles_have_the_same_trainings(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same seed, same recipe: every arm of both rests on the same chain and has the same finals."""
    whole = "mnist5k_99"
    monkeypatch.chdir(ROOT)
    records = [
        {(r.arm, r.ratio, r.replicate): r for x in archiving.read(named(name)) for r in x.records}
        for name in (part, whole)
    ]
    arms = set(named(part).profile.arms) & set(named(whole).profile.arms)
    common = records[0].keys() & records[1].keys()
    assert len(common) == (len(arms) + 1) * named(part).profile.replicates, "and the dense network"
    for key in common:
        ours, theirs = (found[key] for found in records)
        assert ours.chain is not None and ours.chain == theirs.chain, key
        assert ours.finals == theirs.finals, key
