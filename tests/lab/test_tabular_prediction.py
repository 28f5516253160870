"""TD(0) and Monte Carlo: single episodes by hand, and the random walk."""

import gymnasium
import numpy as np
import pytest

from lab import gridworld
from lab.dynamic_programming import solve, uniform
from lab.gridworld import GridWorld
from lab.tabular_prediction import RULES, Episodes, play, predict
from lab.tabular_worlds import ByTable, copies
from rlhf.errors import UserError

WALK = "lab.gridworld:lab/RandomWalk-v0"


def one_episode(rule: str, alpha: float | None, gamma: float, ends: bool = True) -> list[float]:
    """States 0, 1, 0, with rewards 1, 2, 4, then state 2; values before: 10, 20, 30."""
    parts = [np.array(part)[:, None] for part in
             ([0, 1, 0], [1.0, 2.0, 4.0], [1, 0, 2], [True] * 3, [False, False, ends])]  # fmt: skip
    values, visits = np.array([[10.0, 20.0, 30.0]]), np.zeros((1, 3), np.int64)
    RULES[rule](values, visits, Episodes(*parts), alpha, gamma)
    return values[0].tolist()


def test_td_learns_from_the_next_state():
    # v(0): 10 → 10 + .5 (1 + .5·20 − 10) = 10.5; v(1): 20 → 20 + .5 (2 + .5·10.5 − 20) = 13.625
    # v(0): 10.5 → 10.5 + .5 (4 − 10.5) = 7.25
    assert one_episode("TD(0)", 0.5, 0.5) == [7.25, 13.625, 30]
    assert one_episode("TD(0)", 0.5, 0.5, ends=False) == [10.5 + 0.5 * (4 + 15 - 10.5), 13.625, 30]


def test_every_visit_counts_each_return():
    # Returns at γ = .5: 1 + 1 + 1 = 3, 2 + 2 = 4, 4
    assert one_episode("every-visit MC", 0.5, 0.5) == [10 - 3.5 - 1.25, 12, 30]
    assert one_episode("every-visit MC", None, 0.5) == [3.5, 4, 30]


def test_first_visit_counts_one_return_of_an_episode():
    assert one_episode("first-visit MC", 0.5, 0.5) == [6.5, 12, 30]
    assert one_episode("first-visit MC", None, 0.5) == [3, 4, 30]


@pytest.mark.parametrize("rule", ["every-visit MC", "first-visit MC"])
def test_an_episode_cut_off_has_no_return(rule):
    assert one_episode(rule, 0.5, 0.5, ends=False) == [10, 20, 30]


@pytest.mark.parametrize("rule", RULES)
def test_means_come_to_the_true_values(rule):
    model = GridWorld(gridworld.WALK).model
    worlds = copies(lambda: gymnasium.make(WALK), 100, seed=0)
    history = predict(
        worlds, uniform(model), RULES[rule], 300, 0.1 if rule == "TD(0)" else None, np.zeros(7), bar=False
    )
    assert history.shape == (301, 100, 7) and not history[0].any()
    true = solve(model, uniform(model), 1.0)
    np.testing.assert_allclose(history[-1].mean(0), true, atol=0.03)
    assert true.tolist() == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 0])


def test_td_is_nearer_than_monte_carlo():
    model = GridWorld(gridworld.WALK).model
    true, start = solve(model, uniform(model), 1.0), np.where(model.ends, 0, 0.5)

    def error(rule: str, alpha: float) -> float:
        worlds = copies(lambda: gymnasium.make(WALK), 100, seed=0)
        history = predict(worlds, uniform(model), RULES[rule], 50, alpha, start, bar=False)
        return float(np.sqrt(((history - true) ** 2).mean(2)).mean())

    assert error("TD(0)", 0.1) < error("every-visit MC", 0.03)


def test_an_episode_follows_the_policy_and_stops_where_it_ends():
    worlds = copies(lambda: gymnasium.make(WALK), 2, seed=0)
    right = np.tile([0.0, 1.0], (7, 1))
    played = play(worlds, right, np.random.default_rng(0), 10)
    assert played.states.tolist() == [[3, 3], [4, 4], [5, 5]] and played.following[-1].tolist() == [6, 6]
    assert played.rewards.tolist() == [[0, 0], [0, 0], [1, 1]] and played.terminated.tolist()[-1] == [True, True]


def test_a_policy_that_never_ends_is_refused():
    worlds = ByTable({0: {0: [(1.0, 0, 1.0, False)]}}, np.ones(1), 1, seed=0)
    with pytest.raises(UserError, match="does not end"):
        predict(worlds, np.ones((1, 1)), RULES["TD(0)"], 1, 0.1, np.zeros(1), limit=100)
