"""Bandits that count: how often each arm was pulled and what it paid, the past weighing less where that is asked for.

bandit = FixedShares([0.9, 0.1], discount=0.99)
bandit.learn([0, 0, 1], [1.0, 0.0, 1.0])
bandit.counts, bandit.rewards         # (1, 2) both
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from rlhf.bandits.base import Bandit, Floats, Ints

FORGOTTEN = 1e-9
"""An arm with less weight than this counts as never tried: what is left is rounding."""


class CountingBandit(Bandit):
    """Sums of what each arm has paid, and of how often; `learn` is fast.

    Args:
        arms: K.
        discount: weight of the past, multiplied by this at each update.
        window: updates that count, newest first; None: all.
        runs: R independent copies.

    Raises:
        ValueError: no arm, no run, or a discount or window out of range.
    """

    def __init__(self, arms: int, *, discount: float = 1.0, window: int | None = None, runs: int = 1) -> None:
        super().__init__(arms, runs=runs)
        if not 0 < discount <= 1 or (window is not None and window < 1):
            raise ValueError(f"no such bandit: {discount=}, {window=}")
        self.discount, self.window = discount, window
        self.counts: Floats = np.zeros((runs, arms))
        """(R, K) updates of each arm, discounted."""
        self.rewards: Floats = np.zeros((runs, arms))
        """(R, K) sums of rewards, discounted."""
        self._recent: deque[tuple[Ints, Floats]] = deque()

    def _take(self, arms: Ints, rewards: Floats) -> None:
        self.counts *= self.discount
        self.rewards *= self.discount
        self.counts[self._rows, arms] += 1
        self.rewards[self._rows, arms] += rewards
        if self.window is not None:
            self._recent.append((arms, rewards))
            if len(self._recent) > self.window:
                self._forget(self.window)

    def _take_in_turn(self, arms: Ints, rewards: Floats) -> None:
        if self.window is not None:
            new = ((arms[i : i + 1], rewards[i : i + 1]) for i in range(len(arms)))
            self._recent = deque([*self._recent, *new][-self.window :])
            self.counts[:], self.rewards[:] = 0, 0
            arms, rewards = (np.array([pair[side][0] for pair in self._recent]) for side in (0, 1))
        if len(arms):
            weights = self.discount ** np.arange(len(arms) - 1, -1, -1.0)
            past = self.discount ** len(arms)
            self.counts[0] = past * self.counts[0] + np.bincount(arms, weights, self.arms)
            self.rewards[0] = past * self.rewards[0] + np.bincount(arms, weights * rewards, self.arms)

    def _forget(self, age: int) -> None:
        arms, rewards = self._recent.popleft()
        left = self.discount**age
        self.counts[self._rows, arms] -= left
        self.rewards[self._rows, arms] -= left * rewards
        np.maximum(self.counts, 0, out=self.counts)  # rounding must not leave a debt
        low, high = self.reward_range
        if np.isfinite([low, high]).all():
            np.clip(self.rewards, low * self.counts, high * self.counts, out=self.rewards)


class FixedShares(CountingBandit):
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
