"""Running statistics against those of NumPy over everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lab.ppo.normalise import Moments, Observations, Rewards

BATCHES = st.lists(
    st.integers(0, 5).flatmap(lambda many: arrays(np.float64, (many, 2), elements=st.floats(-100, 100))), max_size=6
)


@given(BATCHES)
def test_moments_are_those_of_all_samples_however_they_came(batches):
    moments, everything = Moments((2,)), np.concatenate([np.empty((0, 2)), *batches])
    for batch in batches:
        moments.add(batch)
    assert moments.count == len(everything)
    if len(everything):
        assert moments.mean == pytest.approx(everything.mean(0), abs=1e-9)
        assert moments.variance == pytest.approx(everything.var(0), abs=1e-8)


def test_observations_have_mean_0_and_variance_1():
    raw = np.random.default_rng(0).normal([5, -3], [2, 0.1], (1000, 2))
    observations = Observations(2, normalise=True)
    assert observations.seen(raw[:1]) == pytest.approx(raw[:1])  # nothing is known yet
    observations.learn(raw)
    seen = observations.seen(raw)
    assert seen.dtype == np.float32
    assert seen.mean(0) == pytest.approx([0, 0], abs=1e-5) and seen.std(0) == pytest.approx([1, 1], rel=1e-5)
    assert observations.seen(np.array([[1e6, -1e6]])).tolist() == [[10, -10]]


def test_observations_stay_as_they_are_unless_asked_for():
    observations = Observations(2, normalise=False)
    observations.learn(np.full((3, 2), 7.0))
    assert observations.seen(np.array([[1.0, 200.0]])).tolist() == [[1.0, 200.0]]


def test_rewards_are_divided_by_the_deviation_of_discounted_returns():
    # γ = .5. Left: 1, 2 + .5 = 2.5, a reset, 4. Right: 0, 1, 2.5, 1.25.
    rewards = np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 2.0], [4.0, 0.0]])
    mask = np.array([[True, True], [True, True], [False, True], [True, True]])
    deviation = np.std([1, 2.5, 4, 0, 1, 2.5, 1.25])
    scaler = Rewards(2, gamma=0.5)
    assert scaler.scaled(rewards, mask) == pytest.approx(rewards / deviation, rel=1e-6)
    # Returns go on where the last call stopped: 4·.5 + 1 = 3 and 1.25·.5 + 1 = 1.625.
    deviation = np.std([1, 2.5, 4, 0, 1, 2.5, 1.25, 3, 1.625])
    assert scaler.scaled(np.ones((1, 2)), mask[:1]) == pytest.approx(np.ones((1, 2)) / deviation, rel=1e-6)
