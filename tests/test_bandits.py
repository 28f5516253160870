"""Bandits: indices, posteriors and forgetting worked out by hand, and what holds for any history."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from rlhf.bandits import UCB1, EpsilonGreedy, FixedShares, ThompsonSampling, probability_of_best

KINDS = {
    "fixed": lambda **given: FixedShares([1, 2, 5], **given),
    "epsilon": lambda **given: EpsilonGreedy(3, 0.2, **given),
    "ucb1": lambda **given: UCB1(3, **given),
    "thompson": lambda **given: ThompsonSampling(3, **given),
}
HISTORIES = st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), max_size=30)
FORGETTING = st.fixed_dictionaries(
    {"discount": st.sampled_from([0.3, 0.9, 1.0]), "window": st.sampled_from([None, 1, 4, 50])}
)


def after(bandit, *history):
    for arm, reward in history:
        bandit.update(arm, reward)
    return bandit


def test_the_index_of_ucb1() -> None:
    bandit = after(UCB1(2), (0, 1.0), (0, 1.0), (0, 0.0), (1, 0.0))
    # t = 4; 2/3 + √(2 · 1.386294 / 3), and 0 + √(2 · 1.386294 / 1)
    assert bandit.index()[0] == pytest.approx([1.628018, 1.665109], abs=1e-6)
    assert bandit.probabilities().tolist() == [0, 1]
    assert bandit.choose(np.random.default_rng(0)) == 1


def test_an_arm_never_tried_comes_first() -> None:
    for bandit in (UCB1(3), EpsilonGreedy(3, 0.0)):
        assert after(bandit, (0, 1.0), (2, 1.0)).probabilities().tolist() == [0, 1, 0]


def test_the_best_arm_gets_all_but_what_is_random() -> None:
    bandit = after(EpsilonGreedy(4, 0.2), (0, 0.0), (1, 0.75), (2, 0.75), (3, 0.5))
    assert bandit.probabilities() == pytest.approx([0.05, 0.45, 0.45, 0.05])


def test_shares_are_made_to_sum_to_one() -> None:
    assert FixedShares([1, 3]).probabilities().tolist() == [0.25, 0.75]


def test_posteriors_of_thompson_sampling() -> None:
    bandit = ThompsonSampling(2)
    assert bandit.probabilities() == pytest.approx([1 / 2, 1 / 2])
    bandit.update(0, 1.0)  # ∫ 2x · x dx
    assert bandit.probabilities() == pytest.approx([2 / 3, 1 / 3], abs=1e-9)
    bandit.update(1, 0.0)  # ∫ 2x · (1 - (1 - x)²) dx
    assert bandit.probabilities() == pytest.approx([5 / 6, 1 / 6], abs=1e-9)


def test_half_a_reward_is_half_a_success() -> None:
    bandit = after(ThompsonSampling(2), (0, 0.5), (0, 0.5), (1, 1.0), (1, 0.0))
    assert bandit.probabilities() == pytest.approx([0.5, 0.5], abs=1e-9)


@pytest.mark.parametrize(
    ("given", "counts", "rewards"),
    [
        ({}, [2, 1], [1, 1]),
        ({"discount": 0.5}, [1.25, 0.5], [0.25, 0.5]),
        ({"window": 2}, [1, 1], [0, 1]),
        ({"window": 2, "discount": 0.5}, [1, 0.5], [0, 0.5]),
        ({"window": 1}, [1, 0], [0, 0]),
    ],
)
def test_the_past_counts_less_or_not_at_all(given, counts, rewards) -> None:
    bandit = after(ThompsonSampling(2, **given), (0, 1.0), (1, 1.0), (0, 0.0))
    assert bandit.counts[0] == pytest.approx(counts)
    assert bandit.rewards[0] == pytest.approx(rewards)


def test_an_arm_that_left_the_window_is_tried_again() -> None:
    assert after(UCB1(2, window=2), (1, 1.0), (0, 0.5), (0, 0.5)).probabilities().tolist() == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
@given(history=HISTORIES, forgetting=FORGETTING)
@settings(max_examples=30, deadline=None)
def test_probabilities_are_a_law(kind, history, forgetting) -> None:
    found = after(KINDS[kind](**forgetting), *history).probabilities()
    assert found.shape == (3,)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1)


@given(history=HISTORIES, more=HISTORIES, forgetting=FORGETTING)
@settings(deadline=None)
def test_learning_all_at_once_is_learning_one_by_one(history, more, forgetting) -> None:
    slow, fast = ThompsonSampling(3, **forgetting), ThompsonSampling(3, **forgetting)
    after(slow, *history, *more)
    for part in (history, more):
        fast.learn([arm for arm, _ in part], [reward for _, reward in part])
    after(slow, (1, 0.25))
    after(fast, (1, 0.25))
    assert fast.counts == pytest.approx(slow.counts, abs=1e-12)
    assert fast.rewards == pytest.approx(slow.rewards, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_choices_follow_the_probabilities(kind) -> None:
    """Thompson sampling draws from its posteriors, and says what the integral says: two ways to one law."""
    bandit = after(KINDS[kind](discount=0.9), (0, 0.3), (1, 0.9), (2, 0.5), (0, 1.0), (1, 0.2))
    rng, draws = np.random.default_rng(5), 20_000
    seen = np.bincount([bandit.choose(rng) for _ in range(draws)], minlength=3)
    expected = bandit.probabilities() * draws
    possible = expected > 0
    assert seen[~possible].sum() == 0
    assert possible.sum() == 1 or chisquare(seen[possible], expected[possible]).pvalue > 0.001


def test_equal_seeds_choose_equally() -> None:
    first, second = (ThompsonSampling(5).choose_all(np.random.default_rng(3)) for _ in range(2))
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize(("a", "b", "draws"), [([1.3, 2.7, 5.5, 1], [1.2, 4, 3.3, 1], 400_000)])
def test_the_largest_of_several_beta_variables(a, b, draws) -> None:
    drawn = np.random.default_rng(0).beta(a, b, size=(draws, len(a))).argmax(axis=1)
    seen = np.bincount(drawn, minlength=len(a)) / draws
    assert probability_of_best(np.array(a), np.array(b)) == pytest.approx(seen, abs=4 * 0.5 / math.sqrt(draws))


def test_narrow_posteriors_beside_wide_ones() -> None:
    """Beta(50,000, 50,000) is a spike at 1/2, and a uniform variable is above it half the time."""
    found = probability_of_best(np.array([1.0, 5e4]), np.array([1.0, 5e4]))
    assert found == pytest.approx([0.5, 0.5], abs=1e-8)


def test_runs_are_independent_copies() -> None:
    bandit = UCB1(2, runs=3)
    bandit.update_all([0, 1, 1], [1.0, 0.5, 0.0])
    bandit.update_all([1, 0, 0], [0.0, 1.0, 0.0])
    assert bandit.rewards.tolist() == [[1, 0], [1, 0.5], [0, 0]]
    assert bandit.probabilities_all().tolist() == [[1, 0], [1, 0], [0.5, 0.5]]


def test_a_window_follows_a_swap_and_plain_thompson_does_not() -> None:
    rng, share = np.random.default_rng(2), {"plain": 0.0, "window": 0.0}
    for name, given_window in (("plain", None), ("window", 100)):
        bandit = ThompsonSampling(2, window=given_window, runs=50)
        for t in range(1200):
            arms = bandit.choose_all(rng)
            rates = np.array([0.4, 0.7] if t < 600 else [0.7, 0.4])
            bandit.update_all(arms, rng.random(50) < rates[arms])
            if 700 <= t < 1000:
                share[name] += (arms == 0).mean() / 300
    assert share["window"] > 0.85
    assert share["plain"] < 0.6


@pytest.mark.parametrize(("arm", "reward"), [(2, 0.5), (-1, 0.5), (0, 1.5), (0, -0.1), (0, math.nan)])
def test_what_is_no_update_changes_nothing(arm, reward) -> None:
    bandit = ThompsonSampling(2)
    with pytest.raises(ValueError):
        bandit.update(arm, reward)
    with pytest.raises(ValueError):
        bandit.learn([arm], [reward])
    assert bandit.counts.sum() == 0


def test_bandits_that_cannot_be() -> None:
    for wrong in ({"arms": 0}, {"arms": 2, "discount": 0.0}, {"arms": 2, "window": 0}, {"arms": 2, "runs": 0}):
        with pytest.raises(ValueError):
            UCB1(**wrong)
    for shares in ([0, 0], [1, -1]):
        with pytest.raises(ValueError):
            FixedShares(shares)
    with pytest.raises(ValueError):
        EpsilonGreedy(2, 1.5)
