"""The gradient bandit: no values, only preferences, moved up the gradient of the expected reward.

bandit = GradientBandit(10, step_size=0.1)
bandit.update(3, 1.7)
bandit.preferences, bandit.probabilities()         # (1, 10), (10,)
"""

import math

import numpy as np

from rlhf.bandits.base import Bandit, Floats, Ints


class GradientBandit(Bandit):
    """Chooses by π = softmax(H), and learns H ← H + α (R - R̄) (1[arm pulled] - π).

    Sutton and Barto (2018, equation 2.12). R̄ is the run's mean reward before this one; the first reward is its own
    baseline, so it moves nothing. This is REINFORCE (Williams 1992) with one state.

    Args:
        arms: K.
        step_size: α.
        baseline: whether rewards are compared with R̄; else with 0.
        runs: R independent copies.

    Raises:
        ValueError: a step size that is not positive and finite.
    """

    def __init__(self, arms: int, step_size: float = 0.1, *, baseline: bool = True, runs: int = 1) -> None:
        super().__init__(arms, runs=runs)
        if not 0 < step_size < math.inf:
            raise ValueError(f"a step size is positive: {step_size}")
        self.step_size, self.baseline = step_size, baseline
        self.preferences: Floats = np.zeros((runs, arms))
        """(R, K) H."""
        self.mean_rewards: Floats = np.zeros(runs)
        """(R,) R̄."""
        self.updates = 0

    def probabilities_all(self) -> Floats:
        weights = np.exp(self.preferences - self.preferences.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def _take(self, arms: Ints, rewards: Floats) -> None:
        if self.updates == 0:
            self.mean_rewards = rewards.copy()
        ahead = self.step_size * (rewards - self.mean_rewards if self.baseline else rewards)
        self.preferences -= ahead[:, None] * self.probabilities_all()
        self.preferences[self._rows, arms] += ahead
        self.updates += 1
        self.mean_rewards += (rewards - self.mean_rewards) / self.updates
