"""Is one mean larger than another? A test that one may look at after every observation.

    moments, totals = cumulative(units)                     # (U, 4) units, oldest first
    difference, variance = difference_and_variance(moments, totals)
    difference, variance = combined(…)                      # where there are units of several kinds
    p = anytime_p(log_ratio(difference, variance, mixing_sd))

The mixture sequential probability ratio test (Robbins 1970; Johari, Pekelis and Walsh, arXiv 1512.04922). With the
difference D of two sample means of variance V, and a normal mixture N(0, τ²) over true differences, the ratio of the
likelihoods with and without a difference is

    Λ = √(V / (V + τ²)) · exp(τ² D² / (2 V (V + τ²)))

Without a difference Λ is a martingale of mean 1, so the chance that it ever reaches 1/α is at most α (Ville 1939). That
holds exactly for normal values of known variance, whatever the order of the arms, as long as outcomes do not decide it
(D / V has independent increments); for others as far as sample means are normal. Two things keep small samples honest:

- To each arm's observations one imaginary 0 and one 1 are added, as Agresti and Caffo (2000) do for an interval:
  without them three equal observations would have no variance at all.
- V is the variance of sums over units (Liang and Zeger 1986): the two sides of one duel are not independent, and are
  one unit.

A unit is a row (a, c, b, d): the sum and number of its values in the first arm, then in the second; values lie in
[0, 1]. Few units, or units of very different weight, make V too small: let each have one value an arm. The past must
stay as it was: a unit that changes after it was counted makes another path of Λ, for which nothing is promised.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

IMAGINARY = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]], dtype=np.float64)
"""A loss and a win for each arm."""


def cumulative(units: ArrayLike) -> tuple[Floats, Floats]:
    """Sums over the (..., U, 4) units so far: (..., U, 4, 4) of their products, and (..., U, 4) of themselves."""
    rows = np.asarray(units, dtype=np.float64)
    return np.cumsum(rows[..., :, None] * rows[..., None, :], axis=-3), np.cumsum(rows, axis=-2)


def difference_and_variance(moments: Floats, totals: Floats) -> tuple[Floats, Floats]:
    """Mean of the second arm less that of the first, and its variance, the imaginary values included.

    Args:
        moments: (..., 4, 4) sums of products of units.
        totals: (..., 4) sums of units.
    """
    first, n_first, second, n_second = np.moveaxis(totals + IMAGINARY.sum(axis=0), -1, 0)
    means = first / n_first, second / n_second
    # What a unit adds to the difference beyond its share: (b - d·mean₂) / n₂ - (a - c·mean₁) / n₁, linear in the unit.
    weights = np.stack([-1 / n_first, means[0] / n_first, 1 / n_second, -means[1] / n_second], axis=-1)
    products = moments + IMAGINARY.T @ IMAGINARY
    return means[1] - means[0], np.einsum("...i,...ij,...j->...", weights, products, weights)


def combined(differences: Floats, variances: Floats, known: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """One difference, and its variance, from those of several kinds of units, (kinds, ...), weighted by 1/V.

    Then D / V is the sum of what it is for each kind, and its increments are as independent as theirs.

    Args:
        known: whether there is a unit of this kind by now; there is one of some kind.
    """
    information = np.where(known, 1 / variances, 0.0)
    variance = 1 / information.sum(axis=0)
    return (differences * information).sum(axis=0) * variance, variance


def log_ratio(difference: ArrayLike, variance: ArrayLike, mixing_sd: float) -> Floats:
    """ln Λ: how much likelier the data are under the mixture of differences than under none.

    Args:
        mixing_sd: τ, in units of the values.
    """
    d, v, mixing = np.asarray(difference, float), np.asarray(variance, float), mixing_sd**2
    return np.asarray(mixing * d**2 / (2 * v * (v + mixing)) - np.log1p(mixing / v) / 2)


def anytime_p(log_ratios: ArrayLike) -> Floats:
    """(N,) p-values over time: the smallest 1/Λ so far. However often one looks, P(p ever <= α) <= α."""
    return np.minimum(1.0, np.exp(-np.maximum.accumulate(np.asarray(log_ratios, float))))


def anytime_radius(variance: ArrayLike, mixing_sd: float, alpha: float) -> Floats:
    """Half the width of the interval of differences that have Λ < 1/α: right at all times at once, with 1 - α."""
    v, mixing = np.asarray(variance, float), mixing_sd**2
    return np.asarray(np.sqrt(v * (v + mixing) / mixing * (2 * np.log(1 / alpha) + np.log1p(mixing / v))))


def best_mixing_sd(difference: float, alpha: float) -> float:
    """The τ with which a true difference is found soonest.

    A difference δ is found when δ²/V = (1 + 1/ρ)(2 ln(1/α) + ln(1 + ρ)), where ρ = τ²/V. That is least where
    ρ = 2 ln(1/α) + ln(1 + ρ), and there δ² = (1 + ρ) V, so that τ = δ √(ρ / (1 + ρ)).
    """
    rho = 2 * np.log(1 / alpha)
    for _ in range(50):  # a contraction: its slope is 1 / (1 + ρ)
        rho = 2 * np.log(1 / alpha) + np.log1p(rho)
    return float(difference * np.sqrt(rho / (1 + rho)))
