"""The testbed: what is paid, who meets the same arms, how arms walk, what is averaged, and what is lost."""

from functools import partial

import numpy as np
import pytest

from lab.testbed import Bernoulli, Ending, Testbed, in_blocks, play, summary
from rlhf.bandits import UCB1, EpsilonGreedy, FixedShares, ThompsonSampling


def always(arm):
    """A bandit that pulls one arm."""
    return lambda arms, runs: FixedShares(np.eye(arms)[arm].tolist(), runs=runs)


AT_RANDOM = partial(EpsilonGreedy, epsilon=1.0, initial=0.0)


def test_arms_that_are_all_alike_pay_alike() -> None:
    course = play(always(0), Testbed(arms=3, mean=4.0, spread=0.0, noise=0.0), steps=20, runs=5, seed=0)
    assert course.rewards.tolist() == [4.0] * 20
    assert course.optimal.tolist() == [1.0] * 20
    assert course.late.rewards == pytest.approx([4.0] * 5)


def test_the_best_arm_pays_most() -> None:
    """Of 10 standard normal variables the largest has mean 1.54 (Harter 1961)."""
    quiet = Testbed(noise=0.0)
    courses = [play(always(arm), quiet, steps=1, runs=4000, seed=1) for arm in range(10)]
    paid, right = (np.array([getattr(course.late, what) for course in courses]) for what in ("rewards", "optimal"))
    assert right.sum(axis=0).tolist() == [1.0] * 4000  # every run has one
    assert paid[right == 1].sum() == pytest.approx(paid.max(axis=0).sum())
    assert paid.max(axis=0).mean() == pytest.approx(1.5388, abs=0.04)


def test_noise_and_chance() -> None:
    course = play(AT_RANDOM, Testbed(spread=0.5, mean=2.0, noise=1.0), steps=100, runs=1000, seed=2)
    assert course.rewards.mean() == pytest.approx(2.0, abs=0.03)
    assert course.optimal.mean() == pytest.approx(0.1, abs=0.01)
    assert course.late.rewards.std() == pytest.approx(((0.5**2 + 1) / 10) ** 0.5, rel=0.15)  # of 10 steps, 1 arm each


def test_arms_walk() -> None:
    """After t steps of standard deviation 0.3 each arm lies 0.3 √t from where it began."""
    course = play(always(4), Testbed(mean=1.0, spread=0.0, noise=0.0, walk=0.3), steps=10, runs=4000, seed=3)
    assert course.rewards[0] == 1.0
    assert course.late.rewards.std() == pytest.approx(0.9, rel=0.05)  # of the tenth reward alone, after nine steps


def test_what_came_last_is_the_last_tenth() -> None:
    course = play(AT_RANDOM, Testbed(), steps=40, runs=6, seed=4)
    assert course.late.rewards.mean() == pytest.approx(course.rewards[-4:].mean())
    assert course.late.optimal.mean() == pytest.approx(course.optimal[-4:].mean())


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


@pytest.mark.parametrize("wrong", [(), (0.5, 1.1), (-0.1,), (float("nan"),)])
def test_rates_that_cannot_be(wrong) -> None:
    with pytest.raises(ValueError, match="no such arms"):
        Bernoulli(wrong)


def test_bernoulli_arms_pay_one_or_nothing() -> None:
    course = play(always(1), Bernoulli((0.2, 0.7)), steps=400, runs=1, seed=8)
    assert set(course.rewards.tolist()) == {0.0, 1.0}
    assert course.rewards.mean() == pytest.approx(0.7, abs=0.1)  # four standard errors
    assert course.optimal.tolist() == [1.0] * 400
    assert play(always(0), Bernoulli((1.0, 0.0)), steps=4, runs=3, seed=8).rewards.tolist() == [1.0] * 4


def test_each_run_has_thumbs_of_its_own() -> None:
    """The mean of ten fair coins has standard deviation √(1/4 / 10)."""
    course = play(always(0), Bernoulli((0.5,)), steps=100, runs=2000, seed=15)
    assert course.late.rewards.std() == pytest.approx(0.025**0.5, rel=0.07)
    assert course.rewards.mean() == pytest.approx(0.5, abs=0.005)


def test_regret_is_the_gap_summed_whatever_was_paid() -> None:
    course = play(always(0), Bernoulli((0.5, 0.75, 0.25)), steps=4, runs=3, seed=9)
    assert course.regret.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert course.regrets.tolist() == [1.0] * 3
    assert play(always(1), Bernoulli((0.5, 0.75, 0.25)), steps=4, runs=3, seed=9).regret.tolist() == [0.0] * 4


def test_regret_on_normal_arms() -> None:
    """Without noise an arm pays its q; noise changes what is paid, not what is lost."""
    quiet = [play(always(arm), Testbed(arms=3, noise=0.0), steps=2, runs=1, seed=10) for arm in range(3)]
    best = max(course.rewards[0] for course in quiet)
    for arm, course in enumerate(quiet):
        assert course.regret == pytest.approx([best - course.rewards[0], 2 * (best - course.rewards[0])])
        noisy = play(always(arm), Testbed(arms=3, noise=9.0), steps=2, runs=1, seed=10)
        assert noisy.regret.tolist() == course.regret.tolist()


@pytest.mark.parametrize(("steps", "right"), [(6, [1, 1, 1, 0, 0, 0]), (5, [1, 1, 1, 0, 0])])
def test_arms_that_change_places_half_way(steps, right) -> None:
    """The better arm, 1/2 ahead, costs 1/2 a step once it is the worse one."""
    course = play(always(0), Bernoulli((1.0, 0.5), swaps=True), steps=steps, runs=4, seed=11)
    assert course.optimal.tolist() == right
    assert course.regret.tolist() == (0.5 * np.cumsum(1 - np.array(right))).tolist()
    assert course.rewards[:3].tolist() == [1.0] * 3
    assert course.second_half.optimal.tolist() == [0.0] * 4


class Noting(ThompsonSampling):
    """Notes what it was told."""

    def __init__(self, arms, **how) -> None:
        super().__init__(arms, **how)
        self.told = []
        NOTED.append(self)

    def update_all(self, arms, rewards) -> None:
        self.told.append((arms.copy(), rewards.copy()))
        super().update_all(arms, rewards)


NOTED: list[Noting] = []


@pytest.mark.parametrize("forgets", [{}, {"discount": 0.9}, {"window": 7}])
def test_each_of_many_runs_is_a_run_of_its_own(forgets) -> None:
    """What one run was told makes a single bandit believe what the run believes, and gives the run's regret."""
    course = play(partial(Noting, **forgets), Bernoulli((0.3, 0.9, 0.6)), steps=40, runs=3, seed=12)
    bandit = NOTED.pop()
    arms, rewards = (np.array(side) for side in zip(*bandit.told, strict=True))  # (T, R) both
    assert set(rewards.ravel().tolist()) == {0.0, 1.0}
    for run in range(3):
        single = ThompsonSampling(3, **forgets)
        for arm, reward in zip(arms[:, run], rewards[:, run], strict=True):
            single.update(arm, reward)
        assert bandit.counts[run] == pytest.approx(single.counts[0])
        assert bandit.rewards[run] == pytest.approx(single.rewards[0])
        assert bandit.probabilities_all()[run] == pytest.approx(single.probabilities())
        assert course.regrets[run] == pytest.approx(np.array([0.6, 0.0, 0.3])[arms[:, run]].sum())
    assert course.regret[-1] == pytest.approx(course.regrets.mean())
    assert course.rewards == pytest.approx(rewards.mean(axis=1))


@pytest.mark.parametrize("make", [ThompsonSampling, UCB1, partial(EpsilonGreedy, epsilon=0.1)])
def test_one_run_is_what_a_single_bandit_does(make) -> None:
    course = play(make, Bernoulli((0.3, 0.8)), steps=60, runs=1, seed=13)
    _, noise, choice = (np.random.default_rng((13, part)) for part in range(3))
    bandit, paid, lost = make(2), [], []
    for _ in range(60):
        arm = bandit.choose(choice)
        paid.append(float(noise.random() < (0.3, 0.8)[arm]))
        lost.append((0.5, 0.0)[arm])
        bandit.update(arm, paid[-1])
    assert course.rewards.tolist() == paid
    assert course.regret == pytest.approx(np.cumsum(lost))


def test_the_last_hundred_steps_where_they_are_not_the_last_tenth() -> None:
    long, short = (play(AT_RANDOM, Testbed(arms=2), steps=steps, runs=5, seed=14) for steps in (1200, 1000))
    assert long.last.rewards.mean() == pytest.approx(long.rewards[-100:].mean())
    assert long.second_half.optimal.mean() == pytest.approx(long.optimal[600:].mean())
    found = summary(long)["last"]
    assert found["steps"] == 100
    assert found["reward"] == pytest.approx(long.rewards[-100:].mean())
    assert found["reward_standard_error"] == pytest.approx(long.last.rewards.std() / 5**0.5)
    assert summary(long)["reward"] == pytest.approx(long.rewards[-120:].mean())
    assert "last" not in summary(short)


def test_an_ending_by_hand() -> None:
    """Two runs, two steps: means 1 and 3, deviation 1; the best arm in half and in all."""
    ending = Ending.of(2, runs=2)
    ending.add(np.array([0.0, 3.0]), np.array([True, True]))
    ending.add(np.array([2.0, 3.0]), np.array([False, True]))
    assert ending.summary() == pytest.approx(
        {"reward": 2.0, "reward_standard_error": 0.5**0.5, "optimal": 0.75, "optimal_standard_error": 0.25 * 0.5**0.5}
    )
