"""What holds for every bandit, whatever it was paid."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from rlhf.bandits import UCB1, EpsilonGreedy, GradientBandit, ThompsonSampling
from tests.bandits.kinds import ARMS, KINDS, after

STEPS = st.tuples(st.integers(0, ARMS - 1), st.floats(-50, 50))
HISTORIES = st.lists(STEPS, max_size=20)
RUNS = 4


@pytest.mark.parametrize("kind", KINDS)
@given(history=HISTORIES)
@settings(max_examples=30)
def test_probabilities_are_a_law(kind, history) -> None:
    found = after(KINDS[kind](), *history).probabilities()
    assert found.shape == (ARMS,)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
@given(steps=st.lists(st.lists(STEPS, min_size=RUNS, max_size=RUNS), max_size=10))
@settings(max_examples=30)
def test_runs_together_are_single_runs(kind, steps) -> None:
    together = KINDS[kind](runs=RUNS)
    for step in steps:
        together.update_all([arm for arm, _ in step], [reward for _, reward in step])
    singles = [after(KINDS[kind](), *history) for history in zip(*steps, strict=True)] if steps else []
    for row, single in zip(together.probabilities_all(), singles, strict=False):
        assert row == pytest.approx(single.probabilities(), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(history=HISTORIES, more=HISTORIES)
@settings(max_examples=30)
def test_learning_all_at_once_is_learning_one_by_one(kind, history, more) -> None:
    # Binary fractions add up exactly in any order, so that equal values stay equal.
    history, more = ([(arm, round(reward * 4) / 4) for arm, reward in part] for part in (history, more))
    slow, fast = after(KINDS[kind](), *history, *more), KINDS[kind]()
    for part in (history, more):
        fast.learn([arm for arm, _ in part], [reward for _, reward in part])
    assert fast.probabilities() == pytest.approx(slow.probabilities(), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_choices_follow_the_probabilities(kind) -> None:
    bandit = after(KINDS[kind](runs=1), (0, 0.3), (1, 1.1), (2, -0.5), (0, 1.0), (1, 0.2))
    rng, draws = np.random.default_rng(5), 10_000
    seen = np.bincount([bandit.choose(rng) for _ in range(draws)], minlength=ARMS)
    expected = bandit.probabilities() * draws
    possible = expected > 0
    assert seen[~possible].sum() == 0
    assert possible.sum() == 1 or chisquare(seen[possible], expected[possible]).pvalue > 0.001


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("arm", "reward"), [(ARMS, 0.5), (-1, 0.5), (0, math.nan), (0, math.inf)])
def test_what_is_no_update_changes_nothing(kind, arm, reward) -> None:
    bandit = KINDS[kind]()
    before = bandit.probabilities()
    for call in (lambda: bandit.update(arm, reward), lambda: bandit.learn([1, arm], [1.0, reward])):
        with pytest.raises(ValueError):
            call()
    assert bandit.probabilities().tolist() == before.tolist()


@pytest.mark.parametrize("bounded", [UCB1, ThompsonSampling])
def test_rewards_are_bounded_only_where_the_rule_needs_it(bounded) -> None:
    for reward in (-0.1, 1.5):
        with pytest.raises(ValueError, match="lie in"):
            bounded(2).update(0, reward)
        EpsilonGreedy(2).update(0, reward)


def test_a_bandit_needs_an_arm_and_a_run() -> None:
    for wrong in ({"arms": 0}, {"arms": 2, "runs": 0}):
        with pytest.raises(ValueError, match="no such bandit"):
            GradientBandit(**wrong)
