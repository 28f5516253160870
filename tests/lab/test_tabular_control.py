"""Single updates by hand, and what is learned on worlds whose answer is known."""

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import gridworld
from lab.dynamic_programming import action_values, value_iteration
from lab.gridworld import Grid, GridWorld
from lab.schedules import constant, linear
from lab.tabular_control import METHODS, Transitions, choose, learn, update
from lab.tabular_worlds import ByTable, copies

CLIFF = "lab.gridworld:lab/CliffWalking-v0"


def one_update(name: str, tables: list, which: int = 0, terminated: bool = False) -> np.ndarray:
    """Action 1 in state 0 gave 1 and led to state 1, where action 0 is next; α = 0.5, γ = 0.9, ε = 0.2.

    Tables are (K, S, A); what is returned, too.
    """
    q = np.array(tables, float)[:, None]
    step = Transitions(*map(np.array, ([0], [0], [1], [1.0], [1], [terminated])))
    update(q, METHODS[name], step, np.array([0]), np.array([0.5]), np.array([0.2]), 0.9, np.array([which]))
    return q[:, 0]


TABLE = [[0.0, 2.0], [3.0, 5.0]]


@pytest.mark.parametrize(("name", "value"), [
    ("SARSA", 2 + 0.5 * (1 + 0.9 * 3 - 2)),                                        # 2.85
    ("expected SARSA", 2 + 0.5 * (1 + 0.9 * (0.1 * 3 + 0.9 * 5) - 2)),             # 3.66
    ("Q-learning", 2 + 0.5 * (1 + 0.9 * 5 - 2)),                                   # 3.75
])  # fmt: skip
def test_one_update(name, value):
    assert one_update(name, [TABLE]).tolist() == [[[0, pytest.approx(value)], [3, 5]]]
    assert one_update(name, [TABLE], terminated=True)[0, 0, 1] == pytest.approx(1.5)  # nothing follows


def test_double_q_learning_asks_one_table_which_and_the_other_how_much():
    other = [[0.0, 4.0], [7.0, 6.0]]
    first = one_update("double Q-learning", [TABLE, other], which=0)  # best by the first: 1, by the other worth 6
    assert first[0].tolist() == [[0, pytest.approx(2 + 0.5 * (1 + 0.9 * 6 - 2))], [3, 5]]
    assert first[1].tolist() == other
    second = one_update("double Q-learning", [TABLE, other], which=1)  # best by the other: 0, by the first worth 3
    assert second[0].tolist() == TABLE
    assert second[1].tolist() == [[0, pytest.approx(4 + 0.5 * (1 + 0.9 * 3 - 4))], [7, 6]]


def test_rows_are_updated_apart():
    q = np.array([TABLE, TABLE], float)[None]
    step = Transitions(*map(np.array, ([1], [0], [1], [1.0], [1], [False])))
    update(q, METHODS["Q-learning"], step, np.array([0]), np.array([1.0]), np.array([0.0]), 1.0, np.array([0]))
    assert q[0, 0].tolist() == TABLE and q[0, 1, 0].tolist() == [0, 6]


def test_choices_are_greedy_but_for_epsilon_and_equals_share():
    random = np.random.default_rng(0)
    values = np.tile([1.0, 3.0, 3.0, 0.0], (40_000, 1))
    greedy = np.bincount(choose(values, np.zeros(len(values)), random), minlength=4) / len(values)
    assert greedy[[0, 3]].tolist() == [0, 0] and greedy[1] == pytest.approx(0.5, abs=0.01)
    explored = np.bincount(choose(values, np.full(len(values), 0.4), random), minlength=4) / len(values)
    assert explored.tolist() == pytest.approx([0.1, 0.4, 0.4, 0.1], abs=0.01)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_finds_the_way_through_a_maze(name):
    world = GridWorld(Grid(("S#G", ".#.", "..."), ends="G"))
    worlds = copies(lambda: GridWorld(world.grid), 5, seed=0)
    learned = learn(worlds, METHODS[name], 300, 0.2, linear(0.5, 0.0), bar=False)
    assert learned.returns[:, -1].tolist() == [-6.0] * 5 and learned.lengths[:, -1].tolist() == [6] * 5


def test_q_learning_comes_to_the_best_action_values():
    world = GridWorld(Grid(("S..", "#.G"), slip=0.2))
    best = action_values(world.model, value_iteration(world.model, 0.9).values, 0.9)
    worlds = copies(lambda: GridWorld(world.grid), 20, seed=0)
    learned = learn(worlds, METHODS["Q-learning"], 800, 0.5, constant(0.5), 0.9, decay=linear(1.0, 0.02), bar=False)
    alive = ~world.model.ends
    np.testing.assert_allclose(learned.q.mean(0)[alive], best[alive], atol=0.05)


def test_on_the_cliff_q_learning_falls_more_often_but_knows_the_shortest_path():
    worlds = [copies(lambda: gymnasium.make(CLIFF), 10, seed=0) for _ in range(2)]
    safe = learn(worlds[0], METHODS["expected SARSA"], 200, 0.5, constant(0.1), bar=False)
    short = learn(worlds[1], METHODS["Q-learning"], 200, 0.5, constant(0.1), bar=False)
    assert short.returns[:, 100:].mean() < -40 < -25 < safe.returns[:, 100:].mean()
    assert np.all(short.q.argmax(2)[:, 24:35] == gridworld.FOUR.index((0, 1)))  # right, along the edge


def test_the_same_seed_learns_the_same():
    def q(seed: int) -> np.ndarray:
        worlds = copies(lambda: gymnasium.make("FrozenLake-v1"), 3, seed)
        return learn(worlds, METHODS["double Q-learning"], 20, 0.5, constant(1.0), seed=seed, bar=False).q

    np.testing.assert_array_equal(q(1), q(1))
    assert not np.array_equal(q(1), q(2))


def test_each_row_has_its_step_size():
    table = {0: {0: [(1.0, 0, 1.0, True)]}}
    worlds = ByTable(table, np.ones(1), 3, seed=0)
    learned = learn(worlds, METHODS["Q-learning"], 2, np.array([0.0, 0.5, 1.0]), constant(0.0), bar=False)
    assert learned.q.ravel().tolist() == [0, 0.75, 1]


def test_what_is_cut_off_still_has_a_value():
    table = {0: {0: [(1.0, 0, 1.0, False)]}}  # for ever 1: worth 1 / (1 − γ), whatever the limit
    worlds = ByTable(table, np.ones(1), 2, seed=0, limit=5)
    learned = learn(worlds, METHODS["SARSA"], 200, 0.2, constant(0.0), 0.9, bar=False)
    assert learned.q.ravel().tolist() == pytest.approx([10, 10], abs=1e-3)
    assert np.all(learned.lengths == 5) and np.all(learned.returns == 5)


@given(st.floats(0, 1), st.floats(-10, 10), st.floats(-10, 10))
def test_expected_sarsa_is_between_the_mean_and_the_best(epsilon, one, other):
    values = np.array([[one, other]])
    of = METHODS["expected SARSA"].target(values, values, np.array([0]), np.array([epsilon]))[0]
    assert (one + other) / 2 - 1e-9 <= of <= max(one, other) + 1e-9
