"""Normal posteriors worked out by hand, and the law of the largest of them."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from rlhf.bandits import GaussianThompson
from rlhf.bandits.thompson import probability_of_best_normal
from tests.bandits.kinds import after


def test_posteriors() -> None:
    bandit = after(GaussianThompson(2, noise=2.0, prior_mean=1.0, prior_sd=1.0), (0, 3.0), (0, 5.0))
    mean, sd = bandit.posterior()
    assert mean[0] == pytest.approx([2.0, 1.0])  # precision 1 + 2/4; (1 + 8/4) / 1.5
    assert sd[0] == pytest.approx([1.5**-0.5, 1.0])
    ahead = NormalDist().cdf(1 / math.sqrt(1 / 1.5 + 1))  # of two, the difference is normal
    assert bandit.probabilities() == pytest.approx([ahead, 1 - ahead], abs=1e-9)


def test_what_is_forgotten_leaves_the_prior() -> None:
    mean, sd = after(GaussianThompson(2, window=1), (0, 3.0), (1, -3.0)).posterior()
    assert mean[0] == pytest.approx([0, -1.5])
    assert sd[0] == pytest.approx([1, math.sqrt(0.5)])


def test_the_largest_of_several_normal_variables() -> None:
    mean, sd, draws = np.array([0.0, 1.0, 0.5, -3.0]), np.array([1.0, 0.2, 2.0, 1.0]), 400_000
    drawn = np.random.default_rng(0).normal(mean, sd, size=(draws, 4)).argmax(axis=1)
    seen = np.bincount(drawn, minlength=4) / draws
    assert probability_of_best_normal(mean, sd) == pytest.approx(seen, abs=4 * 0.5 / math.sqrt(draws))


def test_narrow_posteriors_beside_wide_ones() -> None:
    found = probability_of_best_normal(np.zeros(2), np.array([1e-5, 1e3]))
    assert found == pytest.approx([0.5, 0.5], abs=1e-8)


def test_a_single_arm_is_the_best() -> None:
    assert GaussianThompson(1).probabilities().tolist() == [1]


@pytest.mark.parametrize("wrong", [{"noise": 0.0}, {"prior_sd": -1.0}, {"prior_mean": math.nan}, {"noise": math.inf}])
def test_laws_that_cannot_be(wrong) -> None:
    with pytest.raises(ValueError):
        GaussianThompson(2, **wrong)
