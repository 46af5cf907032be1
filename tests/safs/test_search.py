"""Searches: the acceptance rules by hand, and one contract for everything registered."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safs.errors import SafsError, UnknownName
from safs.search import SEARCHES, Chromosome, Evaluation, Searcher, make, run
from safs.search.annealing import Annealing
from safs.search.evolution import Evolution
from safs.search.lahc import LateAcceptance
from safs.search.moves import move

OPERATORS = ("relu6", "swish", "tanh", "elu")

every_search = pytest.mark.parametrize("name", SEARCHES)
# "singles" runs through the candidates: neither seed nor start mean anything to it.
every_seeded_search = pytest.mark.parametrize("name", [n for n in SEARCHES if n != "singles"])


def energy(index: int, chromosome: Chromosome) -> float:
    """Separable, with its least value 1 at ('relu6', 'relu6', ...)."""
    return 1.0 + sum(OPERATORS.index(gene) for gene in chromosome)


def tell_in_turn(search: Searcher, energies: list[float]) -> list[bool]:
    return [search.tell(search.ask(), e) for e in energies]


# Moves


@given(
    start=st.lists(st.sampled_from((*OPERATORS, "relu")), min_size=1, max_size=8).map(tuple),
    count=st.integers(2, 4),
    seed=st.integers(0, 2**32),
)
def test_a_move_changes_something_and_keeps_the_rest(
    start: Chromosome, count: int, seed: int
) -> None:
    operators = OPERATORS[:count]
    moved = move(start, operators, np.random.default_rng(seed))
    assert len(moved) == len(start)
    assert moved != start
    assert sum(a != b for a, b in zip(start, moved, strict=True)) <= 3
    assert set(moved) <= set(operators) | set(start)
    removed = sum(max(0, start.count(g) - moved.count(g)) for g in set(start))
    assert removed == 1  # a swap keeps the genes, so exactly one was changed


def test_a_move_swaps_two_genes_and_changes_one() -> None:
    start = ("relu6", "swish", "tanh", "elu")
    moves = [move(start, OPERATORS, np.random.default_rng(seed)) for seed in range(200)]
    changed = [sum(a != b for a, b in zip(start, moved, strict=True)) for moved in moves]
    assert {2, 3} <= set(changed), "one gene alone, mostly, had there been no swap"


def test_a_single_gene_moves_to_every_other_candidate() -> None:
    rng = np.random.default_rng(0)
    reached = {move(("tanh",), OPERATORS, rng) for _ in range(100)}
    assert reached == {("relu6",), ("swish",), ("elu",)}


# Late acceptance


def test_late_acceptance_by_hand() -> None:
    search = LateAcceptance(3, OPERATORS, 8, seed=0, history_length=2)
    # energy told, accepted, current energy and history afterwards; v alternates 0, 1, 0, ...
    trace: list[tuple[float, bool, float, list[float]]] = [
        (10.0, True, 10.0, [10.0, 10.0]),  # the start fills the history
        (12.0, False, 10.0, [10.0, 10.0]),  # v=0: worse than now and than then
        (8.0, True, 8.0, [10.0, 8.0]),  # v=1: better
        (9.0, True, 9.0, [9.0, 8.0]),  # v=0: worse than now, better than history[0]
        (9.0, True, 9.0, [9.0, 8.0]),  # v=1: equal to now; history[1] is not raised
        (9.5, False, 9.0, [9.0, 8.0]),  # v=0
        (7.0, True, 7.0, [9.0, 7.0]),  # v=1
        (8.5, True, 8.5, [8.5, 7.0]),  # v=0: late acceptance again
        (9.0, False, 8.5, [8.5, 7.0]),  # v=1
    ]
    current: Chromosome | None = None
    for told, accepted, now, history in trace:
        asked = search.ask()
        assert search.tell(asked, told) is accepted
        current = asked if accepted else current
        assert (search.current, search.history) == ((current, now), history)
    assert search.best[0] == 6
    assert search.best[2] == 7.0


def test_a_rejected_candidate_of_equal_history_is_not_accepted() -> None:
    search = LateAcceptance(2, OPERATORS, 3, seed=0, history_length=2)
    assert tell_in_turn(search, [5.0, 4.0, 5.0]) == [True, True, False]  # 5 < history[1] = 5 fails


def test_late_acceptance_leaves_an_infinite_start() -> None:
    search = LateAcceptance(2, OPERATORS, 3, seed=0)
    assert tell_in_turn(search, [math.nan, math.inf, 4.0, 5.0]) == [True, True, True, True]


def test_history_length_is_checked() -> None:
    with pytest.raises(SafsError, match="history_length must be at least 1, got 0"):
        make("lahc", 2, OPERATORS, 3, seed=0, history_length=0)


# Annealing


def test_temperature_falls_geometrically_from_hottest_to_coldest() -> None:
    search = Annealing(2, OPERATORS, 21, seed=0)
    temperatures = [search.temperature(i) for i in range(1, 22)]
    assert temperatures[0] == pytest.approx(0.1)
    assert temperatures[-1] == pytest.approx(0.001)
    assert np.diff(np.log(temperatures)) == pytest.approx(np.log(0.01) / 20)


def test_annealing_accepts_with_the_metropolis_probability() -> None:
    accepted = [
        tell_in_turn(Annealing(2, OPERATORS, 1, seed=s), [20.0, 21.0])[1] for s in range(2000)
    ]
    assert np.mean(accepted) == pytest.approx(math.exp(-1 / (0.1 * 20)), abs=0.04)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_annealing_presumes_no_scale(scale: float) -> None:
    accepted = tell_in_turn(
        Annealing(2, OPERATORS, 30, seed=4), [scale * (2 + math.sin(i)) for i in range(31)]
    )
    unscaled = tell_in_turn(
        Annealing(2, OPERATORS, 30, seed=4), [2 + math.sin(i) for i in range(31)]
    )
    assert accepted == unscaled


def test_annealing_survives_infinite_and_zero_energies() -> None:
    energies = [math.inf, math.nan, 0.0, 1.0, math.inf, 0.0]
    search = Annealing(2, OPERATORS, 5, seed=0)
    assert tell_in_turn(search, energies) == [True, True, True, False, False, True]


# Regularised evolution


def one_gene_apart(a: Chromosome, b: Chromosome) -> bool:
    return sum(x != y for x, y in zip(a, b, strict=True)) == 1


@pytest.mark.parametrize("population, tournament", [(1, 1), (5, 3), (4, 4)])
def test_a_child_is_one_gene_from_one_of_the_latest_and_the_oldest_dies_though_it_is_best(
    population: int, tournament: int
) -> None:
    for seed in range(20):
        search = Evolution(12, OPERATORS, 20, seed, population=population, tournament=tournament)
        asked = [e.chromosome for e in run(search, lambda index, _: float(index), 21)]
        for index in range(population, 21):
            latest = asked[index - population : index]
            assert any(one_gene_apart(asked[index], parent) for parent in latest)
        assert population == 1 or not one_gene_apart(asked[0], asked[population + 1])


def test_the_best_contestant_becomes_the_parent_and_a_failure_the_last() -> None:
    """Three of five contestants, with replacement: the best is among them in 1 - 0.8^3."""
    energies, children = [math.inf, 2.0, 1.0, math.nan, math.inf], 2000
    parents = np.zeros(5)
    for seed in range(children):
        search = Evolution(12, OPERATORS, 5, seed)
        *members, child = (e.chromosome for e in run(search, lambda i, _: [*energies, 0.0][i], 6))
        parents += [one_gene_apart(child, member) for member in members]
    shares = parents / children
    assert shares.sum() == pytest.approx(1, abs=0.01)
    assert shares[2] == pytest.approx(1 - 0.8**3, abs=0.04)
    assert shares[1] == pytest.approx(0.8**3 - 0.6**3, abs=0.04)
    assert shares[[0, 3, 4]].sum() == pytest.approx(0.6**3, abs=0.04)


def test_evolution_goes_on_where_everything_fails() -> None:
    history = run(Evolution(4, OPERATORS, 20, seed=0), lambda *_: math.inf, 21)
    assert len({e.chromosome for e in history}) > 10


def test_evolution_begins_as_random_search_and_ends_so_where_the_budget_is_smaller() -> None:
    evolved, drawn = (
        [e.chromosome for e in run(make(name, 6, OPERATORS, 20, seed=2), energy, 21)]
        for name in ("evolution", "random")
    )
    assert evolved[:5] == drawn[:5]
    assert evolved[5] != drawn[5]
    small = Evolution(6, OPERATORS, 3, seed=2, population=30, tournament=30)
    assert [e.chromosome for e in run(small, energy, 4)] == drawn[:4]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"population": 0}, "population must be at least 1, got 0"),
        ({"tournament": 0}, "tournament must be from 1 to the population of 5, got 0"),
        ({"tournament": 6}, "tournament must be from 1 to the population of 5, got 6"),
        ({"population": 2}, "tournament must be from 1 to the population of 2, got 3"),
    ],
)
def test_population_and_tournament_are_checked(options: dict[str, int], message: str) -> None:
    with pytest.raises(SafsError, match=f"^{message}$"):
        make("evolution", 2, OPERATORS, 3, 0, **options)


# Bayesian optimisation


@pytest.mark.parametrize(
    "name, evaluations, fits", [("bayesian", 21, [5, 13]), ("bayesian_refit", 9, [5, 6, 7, 8])]
)
def test_the_surrogate_is_fitted_to_all_that_was_told(
    name: str, evaluations: int, fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from smac.model.random_forest.random_forest import RandomForest

    told, train = [], RandomForest.train

    def noted(self: RandomForest, x: np.ndarray, y: np.ndarray) -> RandomForest:
        told.append(len(y))
        return train(self, x, y)

    monkeypatch.setattr(RandomForest, "train", noted)
    energies = [math.inf if index == 6 else 1.0 + index % 3 for index in range(21)]
    run(make(name, 3, OPERATORS, 20, seed=0), lambda index, _: energies[index], evaluations)
    assert told == fits


PROPOSALS = """
import pipelines  # pins the arithmetic of libraries
import hashlib, json
import safs.search as search
OPERATORS = ("relu6", "swish", "tanh", "elu", "srs")

def energy(index, chromosome):
    far = [(k * OPERATORS.index(gene)) % 7 for k, gene in enumerate(chromosome, 1)]
    return float("nan") if index == 6 else 1.0 + sum(far)

def asked(name, seed, evaluations):
    made = search.make(name, 5, OPERATORS, 20, seed)
    return [e.chromosome for e in search.run(made, energy, evaluations)]

whole = {seed: asked("bayesian", seed, 21) for seed in (0, 1, 2)}
refitted = asked("bayesian_refit", 0, 8)
same = [a == b for a, b in zip(refitted, whole[0])]
digests = {s: hashlib.sha256(json.dumps(c).encode()).hexdigest()[:16] for s, c in whole.items()}
print(json.dumps([same, digests]))
"""


@pytest.fixture(scope="module")
def proposals() -> tuple[list[bool], dict[str, str]]:
    """Where the refitted search asks the same, and digests of what the other asks, by seed."""
    done = subprocess.run(
        [sys.executable, "-c", PROPOSALS], env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    same, digests = json.loads(done.stdout)
    return same, digests


@pytest.mark.skipif(metadata.version("smac") != "2.4.1", reason="not the SMAC that is locked")
def test_bayesian_asks_what_it_asked_in_published_searches(
    proposals: tuple[list[bool], dict[str, str]],
) -> None:
    assert proposals[1] == {
        "0": "354e4d0e64bd1a9e", "1": "fd7e67480492cd4c", "2": "c56bf849f0065691",
    }  # fmt: skip


def test_the_refitted_search_leaves_the_other_after_the_first_proposal(
    proposals: tuple[list[bool], dict[str, str]],
) -> None:
    """That is the sixth evaluation; the five before it are the initial design."""
    assert proposals[0][:6] == [True] * 6 and not any(proposals[0][6:])


# The contract of every registered search


@every_search
def test_budget_genes_and_best(name: str) -> None:
    search = make(name, 3, OPERATORS, 6, seed=1)
    history = run(search, energy, 7)
    assert [e.index for e in history] == list(range(7))
    assert all(len(e.chromosome) == 3 and set(e.chromosome) <= set(OPERATORS) for e in history)
    assert all(type(gene) is str for e in history for gene in e.chromosome)
    assert history[0].accepted
    best = min(history, key=lambda e: (e.energy, e.index))
    assert search.best == (best.index, best.chromosome, best.energy)


@every_search
def test_one_slot_works_beyond_the_size_of_its_space(name: str) -> None:
    history = run(make(name, 1, OPERATORS, 7, seed=1), energy, 8)
    assert min(e.energy for e in history) == 1.0


@every_search
def test_the_optimum_of_a_small_separable_function_is_found(name: str) -> None:
    assert min(e.energy for e in run(make(name, 2, OPERATORS, 50, seed=2), energy, 51)) == 1.0


@every_seeded_search
def test_the_same_seed_asks_the_same(name: str) -> None:
    first, second, other = (
        [e.chromosome for e in run(make(name, 5, OPERATORS, 6, seed=s), energy, 7)]
        for s in (3, 3, 4)
    )
    assert first == second
    assert first != other


@every_seeded_search
def test_the_start_is_shared_and_can_be_given(name: str) -> None:
    assert make(name, 5, OPERATORS, 6, 3).ask() == make("random", 5, OPERATORS, 6, 3).ask()
    for start in (("tanh",) * 2, ("relu", "relu")):
        history = run(make(name, 2, OPERATORS, 6, 3, start=start), energy_with_relu, 7)
        assert history[0].chromosome == start


def energy_with_relu(index: int, chromosome: Chromosome) -> float:
    return float(sum((*OPERATORS, "relu").index(gene) for gene in chromosome))


@every_search
def test_failed_evaluations_are_infinite_and_never_best(name: str) -> None:
    energies = [math.nan, math.inf, math.nan, 5.0, math.nan, 4.0, 4.0]
    search = make(name, 3, OPERATORS, 6, seed=0)
    history = run(search, lambda index, _: energies[index], 7)
    assert [e.energy for e in history[:3]] == [math.inf] * 3
    assert search.best[0] == 5  # the earlier of two equals


@every_search
def test_the_best_of_failures_is_the_earliest(name: str) -> None:
    search = make(name, 3, OPERATORS, 3, seed=0)
    run(search, lambda index, _: math.nan, 4)
    assert search.best[0] == 0


@every_search
def test_asking_again_changes_nothing_and_only_the_asked_is_told(name: str) -> None:
    search = make(name, 3, OPERATORS, 3, seed=0)
    assert search.ask() == search.ask()
    with pytest.raises(SafsError, match="asked was"):
        search.tell(("tanh", "tanh", "nothing"), 1.0)
    search.tell(search.ask(), 1.0)
    assert search.told == 1


def test_nothing_told_has_no_best() -> None:
    with pytest.raises(SafsError, match="no chromosome"):
        _ = make("lahc", 1, OPERATORS, 1, 0).best


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"slots": 0}, "slots must be at least 1, got 0"),
        ({"budget": -1}, "budget must be at least 0, got -1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"operators": ("elu",)}, "2 or more different operators"),
        ({"operators": ("elu", "elu")}, "2 or more different operators"),
        ({"start": "relu"}, "start must be 'random' or 2 operator names"),
        ({"start": ("elu",)}, "start must be 'random' or 2 operator names"),
        ({"histroy": 3}, "histroy"),
    ],
)
def test_bad_arguments_are_named(changed: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"slots": 2, "operators": OPERATORS, "budget": 3, "seed": 0}
    with pytest.raises(SafsError, match=message):
        make("lahc", **{**arguments, **changed})  # type: ignore[arg-type]


def test_an_unknown_search_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'annealing'"):
        make("anealing", 2, OPERATORS, 3, 0)


def test_evaluations_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Evaluation(0, ("elu",), 1.0, True).index = 1  # type: ignore[misc]


# Other processes

REPLAY = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
import safs.search as search
asked = []
for name in search.SEARCHES:
    s = search.make(name, 5, ("relu6", "swish", "tanh", "elu", "srs"), 9, seed=11)
    asked += search.run(s, lambda i, c: 1.0 + (hash_free(c) % 97), 10)
print(asked)
"""
HASH_FREE = "def hash_free(c): return sum(k * ord(x) for k, g in enumerate(c, 1) for x in g)\n"


def test_a_later_process_told_the_same_asks_the_same_without_torch(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    environment = os.environ | {"PYTHONHASHSEED": "0", "TMPDIR": str(scratch)}
    command = [sys.executable, "-c", HASH_FREE + REPLAY]
    runs = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout.count("Evaluation(") == 10 * len(SEARCHES)
    assert runs[0].stderr == ""  # SMAC is quiet
    assert list(scratch.iterdir()) == []  # and leaves nothing behind
