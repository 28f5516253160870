"""The mSPRT: its likelihood ratio by numerical integration, variances by hand, its interval and its mixing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from rlhf.sequential_test import (
    anytime_p,
    anytime_radius,
    best_mixing_sd,
    combined,
    cumulative,
    difference_and_variance,
    log_ratio,
)


@pytest.mark.parametrize(("d", "v", "sd"), [(0.1, 0.001, 0.1), (0.0, 0.02, 0.3), (-0.25, 0.004, 0.05)])
def test_the_likelihood_ratio_is_the_integral_over_the_mixture(d, v, sd) -> None:
    mixed, _ = quad(lambda theta: norm.pdf(d, theta, math.sqrt(v)) * norm.pdf(theta, 0, sd), -4, 4, points=[0, d])
    assert math.exp(log_ratio(d, v, sd)) == pytest.approx(mixed / norm.pdf(d, 0, math.sqrt(v)), rel=1e-6)


def test_the_variance_of_single_values() -> None:
    """0, 1 against 1, 1: with a loss and a win more on each side, means 2/4 and 3/4, variances 1/4 and 3/16 over 4."""
    units = [[0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    difference, variance = difference_and_variance(*cumulative(units))
    assert difference[-1] == pytest.approx(0.25)
    assert variance[-1] == pytest.approx(0.25 / 4 + 0.1875 / 4)
    assert variance[0] == pytest.approx((1 / 3) * (2 / 3) / 3 + 0.25 / 2)  # 0 0 1 against 0 1


def test_both_sides_of_a_duel_are_one_unit() -> None:
    """Means 1/3 and 2/3 of three each. The duel adds 1/9 + 1/9 at once; imaginary values 1/9, 2/9, 2/9, 1/9."""
    _, variance = difference_and_variance(*cumulative([[0, 1, 1, 1]]))
    assert variance[0] == pytest.approx((4 + 1 + 4 + 4 + 1) / 81)


def test_kinds_of_units_are_weighted_by_what_they_tell() -> None:
    """0.2 of variance 1 and 0.5 of variance 1/2: (0.2 + 2 · 0.5) / 3 of variance 1/3. A kind not seen has no part."""
    differences, variances = np.array([[0.2, 0.2], [0.5, 0.5]]), np.array([[1.0, 1.0], [0.5, 0.5]])
    found, variance = combined(differences, variances, np.array([[True, True], [True, False]]))
    assert found == pytest.approx([0.4, 0.2]) and variance == pytest.approx([1 / 3, 1])


def test_the_p_value_never_rises() -> None:
    assert anytime_p(np.log([0.5, 4, 2, 10, 1])).tolist() == pytest.approx([1, 0.25, 0.25, 0.1, 0.1])


@given(st.floats(1e-5, 0.5), st.floats(0.01, 1), st.floats(0.001, 0.5))
def test_the_interval_holds_what_the_test_does_not_refuse(variance, sd, alpha) -> None:
    radius = anytime_radius(variance, sd, alpha)
    assert log_ratio(radius, variance, sd) == pytest.approx(math.log(1 / alpha))


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_the_mixing_finds_its_difference_soonest(alpha) -> None:
    """Of many mixings, none leaves a larger variance, that is a smaller sample, at which 0.1 is found."""

    def largest_variance(sd: float) -> float:
        variances = np.geomspace(1e-5, 1e-1, 20_000)
        return float(variances[log_ratio(0.1, variances, sd) >= math.log(1 / alpha)].max())

    chosen = best_mixing_sd(0.1, alpha)
    others = [largest_variance(sd) for sd in np.geomspace(0.01, 1, 60)]
    assert largest_variance(chosen) >= max(others) * (1 - 1e-3)
    assert best_mixing_sd(0.2, alpha) == pytest.approx(2 * chosen)
