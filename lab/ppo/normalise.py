"""Running normalisation: what an environment shows and pays, on a scale a network likes.

moments = Moments((4,))
moments.add(observations)                # (B, 4)
(observations - moments.mean) / moments.std

Statistics stand still while steps are taken and move between updates, so that all that one update learns from was seen
through the same glasses.
"""

import numpy as np
from numpy.typing import NDArray

FAR = 10.0
"""Normalised values further from 0 are cut off there."""


class Moments:
    """Mean and variance of all that was added (Chan, Golub and LeVeque 1979, equation 2.1, for batches).

    Args:
        shape: of one sample.

    Attributes:
        count: of samples.
        mean, variance, std: of that shape, of the whole population; 0 and 1 while there is none.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.count = 0
        self.mean, self.variance, self.std = np.zeros(shape), np.ones(shape), np.ones(shape)

    def add(self, samples: NDArray) -> None:
        """Take in samples (B, *shape); none change nothing."""
        many = len(samples)
        if not many:
            return
        whole = self.count + many
        off = samples.mean(0, dtype=np.float64) - self.mean
        squares = self.variance * self.count + samples.var(0, dtype=np.float64) * many
        self.variance = (squares + off**2 * self.count * many / whole) / whole
        self.mean = self.mean + off * many / whole
        self.std, self.count = np.sqrt(self.variance + 1e-8), whole


class Observations:
    """Observations as the policy sees them: float32, flat, normalised where that was asked for."""

    def __init__(self, size: int, normalise: bool) -> None:
        self.moments = Moments((size,)) if normalise else None

    def seen(self, raw: NDArray) -> NDArray:
        """(..., size) → the same, float32."""
        if self.moments is None:
            return raw.astype(np.float32, copy=False)
        return np.clip((raw - self.moments.mean) / self.moments.std, -FAR, FAR).astype(np.float32)

    def learn(self, raw: NDArray) -> None:
        """Take in observations (B, size)."""
        if self.moments is not None:
            self.moments.add(raw)


class Rewards:
    """Rewards divided by the deviation of the discounted returns seen so far; the mean stays, it has a meaning.

    Engstrom et al. 2020 (arXiv 2005.12729), section 3, "reward scaling".

    Args:
        environments: side by side.
        gamma: discount a step.
    """

    def __init__(self, environments: int, gamma: float) -> None:
        self.moments, self._gamma, self._returns = Moments(), gamma, np.zeros(environments)

    def scaled(self, rewards: NDArray, mask: NDArray) -> NDArray:
        """Take rewards (T, N) into account, and scale them.

        Args:
            rewards: of N environments, T steps after those of the call before.
            mask: (T, N), False on steps that reset an environment.
        """
        returns = np.empty(rewards.shape)
        for t, (now, real) in enumerate(zip(rewards, mask, strict=True)):
            self._returns = returns[t] = (self._gamma * self._returns + now) * real
        self.moments.add(returns[mask])
        return np.clip(rewards / self.moments.std, -FAR, FAR)
