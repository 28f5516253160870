"""Bandits: which arm to pull next, given what the arms have paid so far.

    bandit = ThompsonSampling(arms=2, discount=0.99)
    arm = bandit.choose(rng)              # 0 or 1
    bandit.update(arm, reward)            # 0 <= reward <= 1
    bandit.probabilities()                # with which `choose` would take each arm now: (K,), sums to 1

Where the arms change over time, the past can be made to count less (`discount`: every update multiplies what was seen
before by it) or not at all (`window`: only so many of the last updates count). `runs` holds many independent copies of
one bandit, for simulations: `choose_all` and `update_all` serve them in one step, with the arithmetic of a single one.
K arms, R runs.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, betaln, xlog1py, xlogy

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FORGOTTEN = 1e-9
"""An arm with less weight than this counts as never tried: what is left is rounding."""


class Bandit(ABC):
    """What the arms have paid, and a rule that says which to pull.

    Args:
        arms: K.
        discount: weight of the past, multiplied by this at each update.
        window: updates that count, newest first; None: all.
        runs: R independent copies.

    Raises:
        ValueError: no arm, no run, or a discount or window out of range.
    """

    def __init__(self, arms: int, *, discount: float = 1.0, window: int | None = None, runs: int = 1) -> None:
        if arms < 1 or runs < 1 or not 0 < discount <= 1 or (window is not None and window < 1):
            raise ValueError(f"no such bandit: {arms=}, {runs=}, {discount=}, {window=}")
        self.arms, self.runs, self.discount, self.window = arms, runs, discount, window
        self.counts: Floats = np.zeros((runs, arms))
        """(R, K) updates of each arm, discounted."""
        self.rewards: Floats = np.zeros((runs, arms))
        """(R, K) sums of rewards, discounted."""
        self._recent: deque[tuple[Ints, Floats]] = deque()
        self._rows = np.arange(runs)

    @abstractmethod
    def probabilities_all(self) -> Floats:
        """(R, K) probabilities with which each run would choose each arm now; rows sum to 1."""

    def probabilities(self) -> Floats:
        """(K,) of the single run."""
        return self.probabilities_all()[0]

    def choose_all(self, rng: np.random.Generator) -> Ints:
        """(R,) an arm for each run."""
        return draw(self.probabilities_all(), rng)

    def choose(self, rng: np.random.Generator) -> int:
        """An arm for the single run."""
        return int(self.choose_all(rng)[0])

    def update_all(self, arms: ArrayLike, rewards: ArrayLike) -> None:
        """One arm and its reward for each run, (R,) both.

        Raises:
            ValueError: an arm that is not there, or a reward outside [0, 1].
        """
        pulled, paid = np.atleast_1d(np.asarray(arms)), np.atleast_1d(np.asarray(rewards, dtype=np.float64))
        self._check(pulled, paid)
        self.counts *= self.discount
        self.rewards *= self.discount
        self.counts[self._rows, pulled] += 1
        self.rewards[self._rows, pulled] += paid
        if self.window is not None:
            self._recent.append((pulled, paid))
            if len(self._recent) > self.window:
                self._forget(self.window)

    def update(self, arm: int, reward: float) -> None:
        """An arm and its reward, for the single run."""
        self.update_all([arm], [reward])

    def learn(self, arms: Sequence[int], rewards: Sequence[float]) -> None:
        """Many updates of the single run at once, oldest first: the same as `update` with each, and faster."""
        pulled, paid = np.asarray(arms, dtype=np.int64), np.asarray(rewards, dtype=np.float64)
        self._check(pulled, paid)
        if self.window is not None:
            kept = [*self._recent, *((pulled[i : i + 1], paid[i : i + 1]) for i in range(len(pulled)))][-self.window :]
            self._recent = deque(kept)
            self.counts[:], self.rewards[:] = 0, 0
            pulled, paid = (np.array([pair[side][0] for pair in kept]) for side in (0, 1))
        if len(pulled):
            weights = self.discount ** np.arange(len(pulled) - 1, -1, -1.0)
            past = self.discount ** len(pulled)
            self.counts[0] = past * self.counts[0] + np.bincount(pulled, weights, self.arms)
            self.rewards[0] = past * self.rewards[0] + np.bincount(pulled, weights * paid, self.arms)

    def means(self) -> Floats:
        """(R, K) mean reward of each arm; infinite where it was never tried, so that it is tried first."""
        tried = self.counts > FORGOTTEN
        return np.where(tried, self.rewards / np.where(tried, self.counts, 1), np.inf)

    def _check(self, arms: NDArray[np.int64], rewards: Floats) -> None:
        if len(arms) and not (arms.min() >= 0 and arms.max() < self.arms):
            raise ValueError(f"arms are numbered from 0 to {self.arms - 1}, not {arms.min()} to {arms.max()}")
        if len(rewards) and not (rewards.min() >= 0 and rewards.max() <= 1):
            raise ValueError(f"rewards lie in [0, 1], not {rewards.min()} to {rewards.max()}")

    def _forget(self, age: int) -> None:
        arms, rewards = self._recent.popleft()
        left = self.discount**age
        self.counts[self._rows, arms] -= left
        self.rewards[self._rows, arms] -= left * rewards
        np.maximum(self.counts, 0, out=self.counts)  # rounding must not leave a debt
        np.clip(self.rewards, 0, self.counts, out=self.rewards)


class FixedShares(Bandit):
    """Learns nothing.

    Args:
        shares: (K,) not negative; they are made to sum to 1.
    """

    def __init__(
        self, shares: Sequence[float], *, discount: float = 1.0, window: int | None = None, runs: int = 1
    ) -> None:
        super().__init__(len(shares), discount=discount, window=window, runs=runs)
        given = np.asarray(shares, dtype=np.float64)
        if given.min() < 0 or not 0 < given.sum() < np.inf:
            raise ValueError(f"shares are not negative and not all zero: {shares}")
        self.shares: Floats = given / given.sum()

    def probabilities_all(self) -> Floats:
        return np.tile(self.shares, (self.runs, 1))


class EpsilonGreedy(Bandit):
    """The arm that has paid best, but every so often any.

    Args:
        epsilon: share of the choices that are random.
    """

    def __init__(
        self, arms: int, epsilon: float = 0.1, *, discount: float = 1.0, window: int | None = None, runs: int = 1
    ) -> None:
        super().__init__(arms, discount=discount, window=window, runs=runs)
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon is a share: {epsilon}")
        self.epsilon = epsilon

    def probabilities_all(self) -> Floats:
        return self.epsilon / self.arms + (1 - self.epsilon) * best(self.means())


class UCB1(Bandit):
    """The arm with the highest upper confidence bound: mean + √(confidence · ln t / n) (Auer et al. 2002).

    t is the weight of all updates, n that of the arm. Discounted, it is the D-UCB of Garivier and Moulines (2011,
    arXiv 0805.3415), in a window their SW-UCB, with Auer's confidence.

    Args:
        confidence: 2 in the paper, for rewards in [0, 1]; less explores less.
    """

    def __init__(
        self, arms: int, confidence: float = 2.0, *, discount: float = 1.0, window: int | None = None, runs: int = 1
    ) -> None:
        super().__init__(arms, discount=discount, window=window, runs=runs)
        self.confidence = confidence

    def index(self) -> Floats:
        """(R, K) upper bounds; infinite where an arm was never tried."""
        total = np.log(np.maximum(self.counts.sum(axis=1, keepdims=True), 1))
        return self.means() + np.sqrt(self.confidence * total / np.maximum(self.counts, FORGOTTEN))

    def probabilities_all(self) -> Floats:
        return best(self.index())


class ThompsonSampling(Bandit):
    """Each arm with the probability that it is the best one, under Beta(1 + rewards, 1 + what was missed) posteriors.

    Thompson (1933). A reward between 0 and 1 is that much of a success and the rest of a failure. Discounted: Raj and
    Kalyani (2017, arXiv 1707.09727); the prior is not discounted.
    """

    def choose_all(self, rng: np.random.Generator) -> Ints:
        drawn = rng.beta(1 + self.rewards, 1 + np.maximum(self.counts - self.rewards, 0))
        return np.asarray(drawn.argmax(axis=1), dtype=np.int64)  # the same law as `probabilities`, at less cost

    def probabilities_all(self) -> Floats:
        a, b = 1 + self.rewards, 1 + np.maximum(self.counts - self.rewards, 0)
        return np.stack([probability_of_best(*posteriors) for posteriors in zip(a, b, strict=True)])


def draw(probabilities: Floats, rng: np.random.Generator) -> Ints:
    """(R,) an arm from each row of (R, K) probabilities."""
    cumulative = probabilities.cumsum(axis=-1)
    cumulative /= cumulative[..., -1:]  # rounding must leave no gap below 1
    return np.asarray((cumulative > rng.random((len(probabilities), 1))).argmax(axis=1), dtype=np.int64)


def best(values: Floats) -> Floats:
    """(R, K) 1 for the highest of each row, shared equally where several are."""
    highest = values == values.max(axis=1, keepdims=True)
    return highest / highest.sum(axis=1, keepdims=True)


LEVELS = np.array([1e-15, 1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.05, 0.15, 0.3, 0.5])
NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)


def probability_of_best(a: Floats, b: Floats) -> Floats:
    """(K,) probability that each of K independent Beta(a, b) variables is the largest: ∫ f_i(x) Π_{j≠i} F_j(x) dx.

    Gauss-Legendre between quantiles of all the variables, so that narrow ones beside wide ones are met; right to about
    1e-9 (a, b >= 1).
    """
    if len(a) == 1:
        return np.ones(1)
    levels = np.concatenate([LEVELS, 1 - LEVELS[:-1]])
    edges = np.unique(np.concatenate([[0.0, 1.0], betaincinv(a[:, None], b[:, None], levels).ravel()]))
    pieces = np.array([(low, high) for low, high in pairwise(edges) if high > low])
    half = (pieces[:, 1] - pieces[:, 0]) / 2
    x = (pieces[:, :1] + half[:, None] * (1 + NODES)).ravel()
    dx = (half[:, None] * WEIGHTS).ravel()
    below = betainc(a[:, None], b[:, None], x)  # (K, X)
    density = np.exp(xlogy(a[:, None] - 1, x) + xlog1py(b[:, None] - 1, -x) - betaln(a, b)[:, None])
    others = np.stack([np.delete(below, i, axis=0).prod(axis=0) for i in range(len(a))])
    found = np.asarray((density * others) @ dx, dtype=np.float64)
    return found / found.sum()
