"""Strengths from duels: tournaments solved by hand."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from rlhf.bradley_terry import counted, fit, resampled, wins_of

LOG2 = math.log(2)


def test_three_wins_to_one_are_odds_of_three() -> None:
    strengths = fit([[0, 3], [1, 0]], ridge=1e-9)
    assert strengths == pytest.approx([math.log(3) / 2, -math.log(3) / 2], abs=1e-6)


def test_a_ridge_that_makes_it_odds_of_two() -> None:
    """Strengths ± ln 2 / 2 give the first 2/3 of 4 duels: 3 - 8/3 must be ridge · ln 2 / 2."""
    strengths = fit([[0, 3], [1, 0]], ridge=2 / (3 * LOG2))
    assert strengths == pytest.approx([LOG2 / 2, -LOG2 / 2])


def test_a_tournament_of_three_that_fits_exactly() -> None:
    """2 to 1, 2 to 1 and 4 to 1: odds of 2, 2 and 4."""
    strengths = fit([[0, 2, 4], [1, 0, 2], [1, 1, 0]], ridge=1e-9)
    assert strengths == pytest.approx([LOG2, 0, -LOG2], abs=1e-6)


def test_ten_to_nothing_is_finite() -> None:
    """10 (1 - σ(x)) = ridge · x / 2 has its root between 2.6 and 2.7 for a ridge of 1/2."""
    strengths = fit([[0, 10], [0, 0]], ridge=0.5)
    assert 2.6 < strengths[0] - strengths[1] < 2.7


def test_nobody_met_nobody_is_stronger() -> None:
    assert fit(np.zeros((3, 3)), ridge=0.5).tolist() == [0, 0, 0]


def test_many_fits_at_once_and_lopsided_ones() -> None:
    """Each of a stack is the one alone; and the optimum, also where a plain Newton step would overshoot."""
    rng = np.random.default_rng(0)
    wins = rng.integers(0, 5, size=(20, 4, 4)) * np.array([1, 1000, 1, 1])[:, None]
    together = fit(wins, ridge=1e-3)
    for one, strengths in zip(wins, together, strict=True):
        assert strengths == pytest.approx(fit(one, ridge=1e-3), abs=1e-6)

    def loss(s):
        gaps = s[:, None] - s[None, :]
        return (np.where(np.eye(4), 0, wins[0]) * np.logaddexp(0, -gaps)).sum() + 1e-3 / 2 * (s**2).sum()

    found = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8})
    assert loss(together[0]) <= found.fun + 1e-6


def test_duels_are_counted_by_pair() -> None:
    duels = [(0, 1, 1.0), (1, 0, 1.0), (2, 0, 0.5), (1, 2, 0.0)]
    assert counted(duels, 3).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert wins_of(counted(duels, 3), 3).tolist() == [[0, 1, 0.5], [1, 0, 0], [0.5, 1, 0]]


def test_ten_to_nothing_is_not_certain() -> None:
    counts = counted([(0, 1, 1.0)] * 10, 2)
    rng = np.random.default_rng(0)
    assert resampled(counts, 2, 0.5, 200, rng).std(axis=0).min() > 0.1
    assert resampled(counts, 2, 0.5, 200, rng, imaginary=np.zeros(3)).std() == pytest.approx(
        fit(wins_of(counts, 2), 0.5).std()
    )  # all sets alike: what spreads is only one player from the other


def test_a_ridge_is_needed() -> None:
    with pytest.raises(ValueError, match="ridge"):
        fit([[0, 1], [0, 0]], ridge=0.0)
