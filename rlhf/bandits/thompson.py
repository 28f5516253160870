"""Thompson sampling: each arm with the probability that it is the best one, given what was seen.

bandit = GaussianThompson(10, noise=1.0, prior_sd=1.0, runs=2000)
arms = bandit.choose_all(rng)         # one draw from each posterior, the largest wins
bandit.probabilities_all()            # the same law as an integral
"""

import math
from itertools import pairwise

import numpy as np
from scipy.special import betainc, betaincinv, betaln, ndtr, ndtri, xlog1py, xlogy

from rlhf.bandits.base import Floats, Ints
from rlhf.bandits.counting import CountingBandit


class ThompsonSampling(CountingBandit):
    """Each arm with the probability that it is the best one, under Beta(1 + rewards, 1 + what was missed) posteriors.

    Thompson (1933). A reward between 0 and 1 is that much of a success and the rest of a failure. Discounted: Raj and
    Kalyani (2017, arXiv 1707.09727); the prior is not discounted.
    """

    reward_range = (0.0, 1.0)

    def choose_all(self, rng: np.random.Generator) -> Ints:
        drawn = rng.beta(1 + self.rewards, 1 + np.maximum(self.counts - self.rewards, 0))
        return np.asarray(drawn.argmax(axis=1), dtype=np.int64)  # the same law as `probabilities`, at less cost

    def probabilities_all(self) -> Floats:
        a, b = 1 + self.rewards, 1 + np.maximum(self.counts - self.rewards, 0)
        return np.stack([probability_of_best(*posteriors) for posteriors in zip(a, b, strict=True)])


class GaussianThompson(CountingBandit):
    """The same under normal posteriors, for normal rewards of known noise (Russo et al. 2018, arXiv 1707.02038).

    With prior N(m, s²) and noise σ², an arm that paid S in n pulls has precision 1/s² + n/σ² and mean
    (m/s² + S/σ²) / precision. Discounted or in a window, S and n are; the prior is not.

    Args:
        arms: K.
        noise: σ, standard deviation of a reward around its arm's mean.
        prior_mean: m, of each arm.
        prior_sd: s, of each arm.
        discount, window, runs: see `CountingBandit`.

    Raises:
        ValueError: something out of range.
    """

    def __init__(
        self,
        arms: int,
        noise: float = 1.0,
        prior_mean: float = 0.0,
        prior_sd: float = 1.0,
        *,
        discount: float = 1.0,
        window: int | None = None,
        runs: int = 1,
    ) -> None:
        super().__init__(arms, discount=discount, window=window, runs=runs)
        if not (0 < noise < math.inf and 0 < prior_sd < math.inf and math.isfinite(prior_mean)):
            raise ValueError(f"no normal law: {noise=}, {prior_mean=}, {prior_sd=}")
        self.noise, self.prior_mean, self.prior_sd = noise, prior_mean, prior_sd

    def posterior(self) -> tuple[Floats, Floats]:
        """(R, K) means and standard deviations."""
        precision = self.prior_sd**-2 + self.counts * self.noise**-2
        mean = (self.prior_mean * self.prior_sd**-2 + self.rewards * self.noise**-2) / precision
        return mean, precision**-0.5

    def choose_all(self, rng: np.random.Generator) -> Ints:
        return np.asarray(rng.normal(*self.posterior()).argmax(axis=1), dtype=np.int64)

    def probabilities_all(self) -> Floats:
        return np.stack([probability_of_best_normal(*one) for one in zip(*self.posterior(), strict=True)])


LOWER = np.array([1e-15, 1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.05, 0.15, 0.3, 0.5])
LEVELS = np.concatenate([LOWER, 1 - LOWER[:-1]])
"""Where the quantiles lie between which one integrates."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)


def probability_of_best(a: Floats, b: Floats) -> Floats:
    """(K,) probability that each of K independent Beta(a, b) variables is the largest; a, b (K,), at least 1.

    Right to about 1e-9.
    """
    if len(a) == 1:
        return np.ones(1)
    x, dx = _nodes(np.concatenate([[0.0, 1.0], betaincinv(a[:, None], b[:, None], LEVELS).ravel()]))
    below = betainc(a[:, None], b[:, None], x)
    density = np.exp(xlogy(a[:, None] - 1, x) + xlog1py(b[:, None] - 1, -x) - betaln(a, b)[:, None])
    return _largest(density, below, dx)


def probability_of_best_normal(mean: Floats, sd: Floats) -> Floats:
    """(K,) probability that each of K independent N(mean, sd²) variables is the largest; mean, sd (K,)."""
    if len(mean) == 1:
        return np.ones(1)
    x, dx = _nodes((mean[:, None] + sd[:, None] * ndtri(LEVELS)).ravel())
    away = (x - mean[:, None]) / sd[:, None]
    density = np.exp(-(away**2) / 2) / (math.sqrt(2 * math.pi) * sd[:, None])
    return _largest(density, ndtr(away), dx)


def _nodes(quantiles: Floats) -> tuple[Floats, Floats]:
    """(X,) points and weights of Gauss-Legendre between neighbours of quantiles of all the variables.

    So narrow variables beside wide ones are met.
    """
    pieces = np.array([(low, high) for low, high in pairwise(np.unique(quantiles)) if high > low])
    half = (pieces[:, 1] - pieces[:, 0]) / 2
    return (pieces[:, :1] + half[:, None] * (1 + NODES)).ravel(), (half[:, None] * WEIGHTS).ravel()


def _largest(density: Floats, below: Floats, dx: Floats) -> Floats:
    """(K,) ∫ f_i(x) Π_{j≠i} F_j(x) dx, made to sum to 1.

    Args:
        density: (K, X) f at each point.
        below: (K, X) F there.
        dx: (X,) weights of the points.
    """
    others = np.stack([np.delete(below, i, axis=0).prod(axis=0) for i in range(len(below))])
    found = np.asarray((density * others) @ dx, dtype=np.float64)
    return found / found.sum()
