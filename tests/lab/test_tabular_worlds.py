"""Copies side by side behave as the environment they are copies of."""

import gymnasium
import numpy as np
import pytest

from lab.tabular_worlds import ByTable, OneByOne, copies
from rlhf.errors import UserError


def test_an_environment_with_a_table_lives_in_arrays_and_others_are_stepped():
    assert isinstance(copies(lambda: gymnasium.make("FrozenLake-v1"), 2, 0), ByTable)
    assert isinstance(copies(lambda: gymnasium.make("FrozenLake-v1"), 2, 0, by_table=False), OneByOne)
    changed = copies(lambda: gymnasium.wrappers.TransformReward(gymnasium.make("FrozenLake-v1"), float), 2, 0)
    assert isinstance(changed, OneByOne)  # the table does not know of the wrapper


@pytest.mark.parametrize("name", ["CliffWalking-v1", "lab.gridworld:lab/WindyGrid-v0"])
def test_without_chance_both_are_the_same(name):
    ways = [copies(lambda: gymnasium.make(name), 4, 0, by_table) for by_table in (True, False)]
    rows, random = np.array([0, 2, 3]), np.random.default_rng(0)
    for worlds in ways:
        assert worlds.rows == 4
        first = worlds.reset(rows)
    assert first.tolist() == ways[0].reset(rows).tolist()
    for _ in range(50):
        actions = random.integers(4, size=3)
        one, other = (worlds.step(rows, actions) for worlds in ways)
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


def test_chances_are_those_of_the_table():
    worlds = copies(lambda: gymnasium.make("FrozenLake-v1"), 30_000, 0)
    rows = np.arange(30_000)
    assert worlds.reset(rows).max() == 0
    step = worlds.step(rows, np.ones(30_000, int))  # down: or left, which stays, or right
    assert (np.bincount(step.states) / len(rows))[[0, 1, 4]].tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
    assert not step.terminated.any() and not step.truncated.any()


def test_starts_are_those_of_the_environment():
    worlds = copies(lambda: gymnasium.make("lab.gridworld:lab/SmallGrid-v0"), 14_000, 0)
    counts = np.bincount(worlds.reset(np.arange(14_000)), minlength=16)
    assert counts[[0, 15]].tolist() == [0, 0] and counts[1:15] == pytest.approx(1000, abs=150)


@pytest.mark.parametrize("by_table", [True, False])
def test_the_limit_of_steps_cuts_off(by_table):
    worlds = copies(lambda: gymnasium.make("CliffWalking-v1", max_episode_steps=3), 2, 0, by_table)
    rows = np.arange(2)
    worlds.reset(rows)
    assert [worlds.step(rows, np.zeros(2, int)).truncated.tolist() for _ in range(3)] == [[False] * 2] * 2 + [
        [True] * 2
    ]
    worlds.reset(rows[:1])
    assert not worlds.step(rows[:1], np.zeros(1, int)).truncated.any()


def test_an_end_at_the_limit_is_an_end():
    worlds = ByTable({0: {0: [(1.0, 0, 1.0, True)]}}, np.ones(1), 1, seed=0, limit=1)
    worlds.reset(np.array([0]))
    step = worlds.step(np.array([0]), np.array([0]))
    assert step.terminated.all() and not step.truncated.any()


def test_thirds_never_lead_outside_the_table():
    outcomes = [(1 / 3, state, 0.0, False) for state in range(3)]
    worlds = ByTable(
        {state: {0: outcomes, 1: [(1.0, 2, 0.0, False)]} for state in range(3)}, np.full(3, 1 / 3), 50_000, 0
    )
    rows = np.arange(50_000)
    worlds.reset(rows)
    assert set(worlds.step(rows, np.ones(50_000, int)).states) == {2}
    assert set(worlds.step(rows, np.zeros(50_000, int)).states) == {0, 1, 2}


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Blackjack-v1"])
def test_what_is_no_table_is_refused(name):
    with pytest.raises(UserError, match="no tabular environment"):
        copies(lambda: gymnasium.make(name), 1, 0)
