"""Dynamic programming against values worked out by hand, published ones, and Bellman's equation."""

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import dynamic_programming, gridworld
from lab.dynamic_programming import (
    Model,
    evaluate,
    gamblers_problem,
    greedy,
    model_of,
    policy_iteration,
    solve,
    uniform,
    value_iteration,
)
from lab.gridworld import Grid, GridWorld
from rlhf.errors import UserError

CORRIDOR = GridWorld(Grid(("S.G",), moves=gridworld.SIDEWAYS)).model


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Random ones: up to 6 states, 3 actions."""
    states, actions = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = {
        state: {
            action: [(p, int(random.integers(states)), float(random.normal()), bool(random.random() < 0.1))
                     for p in random.dirichlet(np.ones(3))]
            for action in range(actions)
        }
        for state in range(states)
    }  # fmt: skip
    return model_of(table)


@settings(max_examples=50)
@given(models(), st.sampled_from([0.0, 0.5, 0.9, 0.99]))
def test_value_iteration_satisfies_bellmans_equation_and_policy_iteration_agrees(model, gamma):
    found = value_iteration(model, gamma)
    best = (model.rewards + gamma * np.einsum("sat,t->sa", model.transitions, found.values)).max(1)
    np.testing.assert_allclose(found.values, best, atol=1e-10)
    np.testing.assert_allclose(policy_iteration(model, gamma).values, found.values, atol=1e-8)
    np.testing.assert_allclose(solve(model, found.policy, gamma), found.values, atol=1e-8)


@settings(max_examples=50)
@given(models(), st.sampled_from([0.3, 0.95]))
def test_a_policy_is_worth_what_the_linear_system_says(model, gamma):
    np.testing.assert_allclose(evaluate(model, uniform(model), gamma), solve(model, uniform(model), gamma), atol=1e-9)
    assert np.all(value_iteration(model, gamma).values >= solve(model, uniform(model), gamma) - 1e-9)


def test_a_corridor_by_hand():
    # v(1) = −1 + v(0) / 2 and v(0) = −1 + v(0) / 2 + v(1) / 2: v(0) = −6, v(1) = −4
    assert evaluate(CORRIDOR, uniform(CORRIDOR), 1.0).tolist() == pytest.approx([-6, -4, 0])
    found = value_iteration(CORRIDOR, 0.5)
    assert found.values.tolist() == pytest.approx([-1.5, -1, 0])
    assert found.policy[:2].tolist() == [[0, 1], [0, 1]]
    assert [sweep.tolist() for sweep in found.history[:3]] == [[0, 0, 0], [-1, -1, 0], [-1.5, -1, 0]]


def test_the_first_of_equals_is_taken():
    assert greedy(np.array([[1.0, 1.0 + 1e-12], [0.0, 2.0]])).tolist() == [[1, 0], [0, 1]]


def test_published_values():
    small = GridWorld(gridworld.SMALL).model
    assert evaluate(small, uniform(small), 1.0)[:4].tolist() == pytest.approx([0, -14, -20, -22])
    jumps = policy_iteration(GridWorld(gridworld.JUMPS).model, 0.9)
    assert jumps.values[:5].round(1).tolist() == [22.0, 24.4, 22.0, 19.4, 17.5]
    assert value_iteration(GridWorld(gridworld.WINDY).model, 1.0).values[30] == pytest.approx(-15)
    lake = model_of(gymnasium.make("FrozenLake-v1"))
    for gamma, value in ((1.0, 0.82353), (0.99, 0.54203)):
        assert value_iteration(lake, gamma).values[0] == pytest.approx(value, abs=5e-6)
        assert policy_iteration(lake, gamma).values[0] == pytest.approx(value, abs=5e-6)


def test_the_gambler_plays_boldly():
    found = value_iteration(gamblers_problem(0.4), 1.0)
    assert found.values[[0, 25, 50, 75, 100]].tolist() == pytest.approx([0, 0.16, 0.4, 0.64, 0])
    stakes = found.policy.argmax(1) + 1
    assert stakes[[25, 50, 75]].tolist() == [25, 50, 25] and stakes[51] == 1


def test_a_fair_game_is_worth_the_capital():
    found = value_iteration(gamblers_problem(0.5, goal=10), 1.0)
    assert found.values[1:-1].tolist() == pytest.approx([capital / 10 for capital in range(1, 10)])


@pytest.mark.parametrize("wrong", [dict(heads=1.5), dict(goal=1)])
def test_no_such_game_is_refused(wrong):
    with pytest.raises(UserError, match="no such gambler"):
        gamblers_problem(**wrong)


def test_states_that_end_give_nothing_whatever_their_table_says():
    model = model_of({0: {0: [(1.0, 1, 2.0, True)]}, 1: {0: [(1.0, 0, 5.0, False)]}})
    assert model.ends.tolist() == [False, True]
    assert evaluate(model, uniform(model), 1.0).tolist() == [2.0, 0.0]


def test_values_without_end_are_refused(monkeypatch):
    monkeypatch.setattr(dynamic_programming, "SWEEPS", 1000)
    endless = GridWorld(Grid(("...",))).model
    for method in (lambda: evaluate(endless, uniform(endless), 1.0), lambda: value_iteration(endless, 1.0)):
        with pytest.raises(UserError, match="do not settle"):
            method()
    with pytest.raises(UserError, match="no values"):
        solve(model_of({0: {0: [(1.0, 0, 1.0, False)]}}), np.ones((1, 1)), 1.0)


def test_an_environment_that_does_not_tell_is_refused():
    with pytest.raises(UserError, match="does not tell"):
        model_of(gymnasium.make("CartPole-v1"))
