"""Values and indices worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.bandits import UCB, UCB1, EpsilonGreedy
from tests.bandits.kinds import after


def test_a_constant_step_size_by_hand() -> None:
    bandit = after(EpsilonGreedy(2, step_size=0.5, initial=4.0), (0, 2.0), (0, -1.0), (1, 8.0))
    assert bandit.values().tolist() == [[1.0, 6.0]]  # 4 → 3 → 1; 4 → 6


@given(
    rewards=st.lists(st.floats(-10, 10), max_size=20),
    step_size=st.floats(0.01, 1.0),
    initial=st.floats(-5, 5),
)
def test_a_constant_step_size_weighs_rewards_by_their_age(rewards, step_size, initial) -> None:
    """Sutton and Barto 2018, equation 2.6. Updates of the other arm make no reward older."""
    bandit = EpsilonGreedy(2, step_size=step_size, initial=initial)
    for reward in rewards:
        after(bandit, (0, reward), (1, 1.0))
    aged = sum(step_size * (1 - step_size) ** age * reward for age, reward in enumerate(reversed(rewards)))
    assert bandit.values()[0, 0] == pytest.approx((1 - step_size) ** len(rewards) * initial + aged, abs=1e-9)


def test_an_optimistic_start_tries_every_arm_in_turn() -> None:
    bandit = EpsilonGreedy(3, 0.0, step_size=0.1, initial=5.0)
    assert bandit.probabilities() == pytest.approx([1 / 3] * 3)
    assert after(bandit, (0, 1.0)).values()[0] == pytest.approx([4.6, 5, 5])  # 5 + 0.1 (1 - 5)
    assert bandit.probabilities() == pytest.approx([0, 1 / 2, 1 / 2])
    assert after(bandit, (2, 2.0)).probabilities().tolist() == [0, 1, 0]
    assert after(bandit, (1, 0.0)).probabilities().tolist() == [0, 0, 1]  # 4.6, 4.5, 4.7


def test_a_mean_keeps_nothing_of_its_start() -> None:
    bandit = after(EpsilonGreedy(3, 0.0, initial=0.0), (0, -2.0), (0, -1.0))
    assert bandit.values().tolist() == [[-1.5, 0, 0]]
    assert bandit.probabilities() == pytest.approx([0, 1 / 2, 1 / 2])
    assert after(bandit, (1, 0.5)).probabilities().tolist() == [0, 1, 0]


def test_rewards_below_zero_leave_a_window_whole() -> None:
    bandit = after(EpsilonGreedy(2, window=2), (0, -3.0), (0, -1.0), (1, 7.0))
    assert bandit.values().tolist() == [[-1.0, 7.0]]


def test_the_index_of_the_book() -> None:
    bandit = after(UCB(3, 2.0), (0, -1.0), (0, 3.0), (1, 2.0))
    # t = 3; 1 + 2 √(1.098612 / 2), and 2 + 2 √1.098612
    assert bandit.index()[0, :2] == pytest.approx([2.482304, 4.096294], abs=1e-6)
    assert bandit.index()[0, 2] == math.inf
    assert bandit.probabilities().tolist() == [0, 0, 1]
    assert after(bandit, (2, -9.0)).probabilities().tolist() == [0, 1, 0]


def test_the_book_s_c_is_the_root_of_auer_s_confidence() -> None:
    history = [(0, 1.0), (1, 0.25), (1, 0.5), (0, 0.0)]
    assert after(UCB(2, 3.0), *history).index().tolist() == after(UCB1(2, 9.0), *history).index().tolist()


def test_an_arm_never_tried_comes_first_in_ucb_whatever_its_start() -> None:
    assert after(UCB(2, 0.0, step_size=0.1, initial=0.0), (0, 100.0)).probabilities().tolist() == [0, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"step_size": 0.0, "initial": 0.0},
        {"step_size": 1.5, "initial": 0.0},
        {"step_size": 0.1},
        {"step_size": 0.1, "initial": 0.0, "discount": 0.9},
        {"step_size": 0.1, "initial": 0.0, "window": 3},
        {"initial": math.nan},
        {"initial": -math.inf},
    ],
)
def test_values_that_cannot_be(wrong) -> None:
    with pytest.raises(ValueError):
        EpsilonGreedy(2, **wrong)


@pytest.mark.parametrize("c", [-1.0, math.inf, math.nan])
def test_confidences_that_cannot_be(c) -> None:
    for kind in (UCB, UCB1):
        with pytest.raises(ValueError):
            kind(2, c)
