"""The testbed: what is paid, who meets the same arms, how arms walk, and what is averaged."""

from functools import partial

import numpy as np
import pytest

from lab.testbed import Testbed, in_blocks, play
from rlhf.bandits import EpsilonGreedy, FixedShares


def always(arm):
    """A bandit that pulls one arm."""
    return lambda arms, runs: FixedShares(np.eye(arms)[arm].tolist(), runs=runs)


AT_RANDOM = partial(EpsilonGreedy, epsilon=1.0, initial=0.0)


def test_arms_that_are_all_alike_pay_alike() -> None:
    course = play(always(0), Testbed(arms=3, mean=4.0, spread=0.0, noise=0.0), steps=20, runs=5, seed=0)
    assert course.rewards.tolist() == [4.0] * 20
    assert course.optimal.tolist() == [1.0] * 20
    assert course.late_rewards == pytest.approx([4.0] * 5)


def test_the_best_arm_pays_most() -> None:
    """Of 10 standard normal variables the largest has mean 1.54 (Harter 1961)."""
    quiet = Testbed(noise=0.0)
    courses = [play(always(arm), quiet, steps=1, runs=4000, seed=1) for arm in range(10)]
    paid, right = (np.array([getattr(course, what) for course in courses]) for what in ("late_rewards", "late_optimal"))
    assert right.sum(axis=0).tolist() == [1.0] * 4000  # every run has one
    assert paid[right == 1].sum() == pytest.approx(paid.max(axis=0).sum())
    assert paid.max(axis=0).mean() == pytest.approx(1.5388, abs=0.04)


def test_noise_and_chance() -> None:
    course = play(AT_RANDOM, Testbed(spread=0.5, mean=2.0, noise=1.0), steps=100, runs=1000, seed=2)
    assert course.rewards.mean() == pytest.approx(2.0, abs=0.03)
    assert course.optimal.mean() == pytest.approx(0.1, abs=0.01)
    assert course.late_rewards.std() == pytest.approx(((0.5**2 + 1) / 10) ** 0.5, rel=0.15)  # of 10 steps, 1 arm each


def test_arms_walk() -> None:
    """After t steps of standard deviation 0.3 each arm lies 0.3 √t from where it began."""
    course = play(always(4), Testbed(mean=1.0, spread=0.0, noise=0.0, walk=0.3), steps=10, runs=4000, seed=3)
    assert course.rewards[0] == 1.0
    assert course.late_rewards.std() == pytest.approx(0.9, rel=0.05)  # of the tenth reward alone, after nine steps


def test_what_came_last_is_the_last_tenth() -> None:
    course = play(AT_RANDOM, Testbed(), steps=40, runs=6, seed=4)
    assert course.late_rewards.mean() == pytest.approx(course.rewards[-4:].mean())
    assert course.late_optimal.mean() == pytest.approx(course.optimal[-4:].mean())


def test_equal_seeds_give_equal_arms_and_noise_to_every_bandit() -> None:
    first, again, other = (play(always(2), Testbed(), steps=30, runs=7, seed=seed) for seed in (5, 5, 6))
    learner = play(partial(EpsilonGreedy, epsilon=0.0, initial=0.0), Testbed(arms=1), steps=30, runs=7, seed=5)
    same = play(always(0), Testbed(arms=1), steps=30, runs=7, seed=5)
    assert first.rewards.tolist() == again.rewards.tolist() != other.rewards.tolist()
    assert learner.rewards.tolist() == same.rewards.tolist()


def test_blocks() -> None:
    assert in_blocks(np.array([1.0, 3.0, 5.0, 9.0, 100.0]), 2).tolist() == [2.0, 7.0]


@pytest.mark.parametrize("wrong", [{"arms": 0}, {"noise": -1.0}, {"walk": -0.1}])
def test_testbeds_that_cannot_be(wrong) -> None:
    with pytest.raises(ValueError, match="no such testbed"):
        Testbed(**wrong)
