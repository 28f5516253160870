"""The gradient bandit: steps worked out by hand, and what it learns."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.bandits import GradientBandit
from tests.bandits.kinds import after


def test_steps_with_a_baseline() -> None:
    bandit = after(GradientBandit(2, 0.5), (0, 1.0))  # the first reward is its own baseline
    assert bandit.probabilities().tolist() == [0.5, 0.5]
    after(bandit, (1, 3.0))  # 0.5 (3 - 1) = 1, times (-π₀, 1 - π₁)
    assert bandit.preferences.tolist() == [[-0.5, 0.5]]
    assert bandit.probabilities() == pytest.approx([1 / (1 + math.e), math.e / (1 + math.e)])
    assert bandit.mean_rewards.tolist() == [2.0]
    after(bandit, (0, 2.0))  # as good as the mean: nothing moves
    assert bandit.preferences.tolist() == [[-0.5, 0.5]]


def test_a_step_without_a_baseline() -> None:
    bandit = after(GradientBandit(4, 0.1, baseline=False), (2, 4.0))  # 0.4 times (-¼, -¼, ¾, -¼)
    assert bandit.preferences[0] == pytest.approx([-0.1, -0.1, 0.3, -0.1])


@given(history=st.lists(st.tuples(st.integers(0, 2), st.floats(-100, 100)), max_size=30))
def test_preferences_sum_to_zero(history) -> None:
    assert after(GradientBandit(3, 0.2), *history).preferences.sum() == pytest.approx(0, abs=1e-6)


@given(history=st.lists(st.tuples(st.integers(0, 2), st.floats(-5, 5)), max_size=20), raised=st.floats(-10, 10))
def test_with_a_baseline_only_differences_between_rewards_count(history, raised) -> None:
    bandit = after(GradientBandit(3, 0.1), *history)
    moved = after(GradientBandit(3, 0.1), *((arm, reward + raised) for arm, reward in history))
    assert moved.probabilities() == pytest.approx(bandit.probabilities(), abs=1e-9)


def test_large_preferences_do_not_overflow() -> None:
    bandit = after(GradientBandit(2, 1.0, baseline=False), (1, 1e6))
    assert bandit.probabilities().tolist() == [0, 1]


def test_without_a_baseline_rewards_far_from_zero_mislead() -> None:
    rng, share = np.random.default_rng(0), {}
    for baseline in (True, False):
        bandit = GradientBandit(2, 0.2, baseline=baseline, runs=200)
        for _ in range(200):
            arms = bandit.choose_all(rng)
            bandit.update_all(arms, 10 + 0.5 * arms + rng.normal(size=200))
        share[baseline] = bandit.probabilities_all()[:, 1].mean()
    assert share[True] > 0.8 > share[False]


@pytest.mark.parametrize("step_size", [0.0, -1.0, math.inf, math.nan])
def test_step_sizes_that_cannot_be(step_size) -> None:
    with pytest.raises(ValueError):
        GradientBandit(2, step_size)
