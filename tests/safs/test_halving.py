"""The cheap search: who goes on to the next rung, what that costs, what the screen lets through."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safs.errors import SafsError
from safs.search import run
from safs.search.halving import ScreenedLateAcceptance, halve, planned, survivors
from safs.settings import Fast

OPERATORS = ("relu6", "swish", "tanh", "elu")
costs_of = st.lists(st.one_of(st.floats(0, 9), st.just(math.inf)), min_size=1, max_size=30)


def test_the_best_third_goes_on_and_the_earlier_of_two_equals() -> None:
    costs = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 1.0}
    assert survivors(costs, 3) == ["b", "d"]
    assert survivors(costs, 2) == ["b", "d"]
    assert survivors(costs, 4) == ["b"]
    assert survivors(dict.fromkeys("ab", math.inf), 2) == []
    with pytest.raises(SafsError, match="eta"):
        survivors(costs, 1)


def test_a_late_rung_decides_and_a_stopped_candidate_is_never_trained_again() -> None:
    trained: list[tuple[str, int]] = []
    final = {"a": 5.0, "b": 0.5}

    def train(name: str, epoch: int) -> float:
        trained.append((name, epoch))
        return final[name]

    assert halve({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, train, [6], 2) == "b"
    assert trained == [("a", 6), ("b", 6)]


def test_where_every_continuation_fails_the_rung_before_decides() -> None:
    assert halve({"a": 2.0, "b": 1.0}, lambda name, epoch: math.inf, [3, 9], 2) == "b"
    assert halve({"a": math.inf}, lambda name, epoch: 0.0, [3], 2) is None


@given(costs=costs_of, eta=st.integers(2, 5))
def test_a_halving_spends_at_most_what_is_planned(costs: list[float], eta: int) -> None:
    rungs, spent = (2, 5, 11), 2 * len(costs)
    reached = dict.fromkeys(range(len(costs)), 2)

    def train(candidate: int, epoch: int) -> float:
        nonlocal spent
        spent += epoch - reached[candidate]
        reached[candidate] = epoch
        return costs[candidate]

    best = halve(dict(enumerate(costs)), train, rungs[1:], eta)
    total = sum(count * epochs for count, epochs in planned(len(costs), rungs, eta))
    assert spent == total if all(map(math.isfinite, costs)) else spent <= total
    finite = [cost for cost in costs if math.isfinite(cost)]
    assert best is None if not finite else costs[best] == min(finite)


def test_the_default_is_an_eighth_of_the_papers_epochs_by_hand() -> None:
    rungs = Fast().epochs(80)
    assert rungs == (4, 12, 32)
    spent = [sum(n * e for n, e in planned(count, rungs, Fast().eta)) for count in (21, 20)]
    assert spent == [21 * 4 + 7 * 8 + 3 * 20, 20 * 4 + 7 * 8 + 3 * 20]
    screened = 20 * Fast().screen * Fast().images / 3200
    assert sum(spent) + screened <= (21 + 20) * 80 / 8
    assert Fast().epochs(1) == (1,)


def walk(seed: int = 1, screen: int = 3, slots: int = 2, predict=None) -> ScreenedLateAcceptance:
    return ScreenedLateAcceptance(
        slots,
        OPERATORS,
        20,
        seed,
        screen=screen,
        predict=predict or (lambda each: [float(c.count("elu")) for c in each]),
    )


def energy(index: int, chromosome: tuple[str, ...]) -> float:
    return float(sum(OPERATORS.index(gene) for gene in chromosome))


@pytest.mark.parametrize("seed", range(20))
def test_no_chromosome_is_asked_twice_until_the_space_is_used_up(seed: int) -> None:
    search = walk(seed)
    assert search.left() == 16
    seen = [e.chromosome for e in run(search, energy, 16)]
    assert len(set(seen)) == 16 and search.left() == 0
    with pytest.raises(SafsError, match="every chromosome"):
        search.ask()


def test_the_predictor_chooses_among_the_moves_and_is_asked_about_new_ones_only() -> None:
    asked: list[tuple[tuple[str, ...], ...]] = []

    def predict(moves):
        asked.append(tuple(moves))
        return [float(m.count("elu")) for m in moves]

    search = walk(screen=4, slots=6, predict=predict)
    seen = [e.chromosome for e in run(search, energy, 12)]
    assert len(asked) == 11 and all(len(set(moves)) == 4 for moves in asked)
    for index, moves in enumerate(asked, start=1):
        assert not set(moves) & set(seen[:index])
        assert seen[index].count("elu") == max(m.count("elu") for m in moves)


def test_without_a_screen_no_predictor_is_asked() -> None:
    search = walk(screen=1, slots=5, predict=lambda moves: pytest.fail("asked"))
    first = [e.chromosome for e in run(search, energy, 9)]
    assert first == [e.chromosome for e in run(walk(screen=1, slots=5), energy, 9)]


def test_a_screen_of_nothing_is_an_error() -> None:
    with pytest.raises(SafsError, match="screen must be at least 1, got 0"):
        walk(screen=0)
