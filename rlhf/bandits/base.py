"""What every bandit is: probabilities to choose by, and rewards to learn from.

class Mine(Bandit):
    def probabilities_all(self): ...          # (R, K), rows sum to 1
    def _take(self, arms, rewards): ...       # (R,) both, already checked
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Bandit(ABC):
    """A rule that says which arm to pull, and learns from what it pays.

    Args:
        arms: K.
        runs: R independent copies.

    Raises:
        ValueError: no arm or no run.
    """

    reward_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    """Rewards that the rule is made for; others are refused."""

    def __init__(self, arms: int, *, runs: int = 1) -> None:
        if arms < 1 or runs < 1:
            raise ValueError(f"no such bandit: {arms=}, {runs=}")
        self.arms, self.runs = arms, runs
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
            ValueError: an arm that is not there, or a reward that is not finite or outside `reward_range`.
        """
        pulled, paid = np.atleast_1d(np.asarray(arms)), np.atleast_1d(np.asarray(rewards, dtype=np.float64))
        self._check(pulled, paid)
        self._take(pulled, paid)

    def update(self, arm: int, reward: float) -> None:
        """An arm and its reward, for the single run."""
        self.update_all([arm], [reward])

    def learn(self, arms: Sequence[int], rewards: Sequence[float]) -> None:
        """Many updates of the single run at once, oldest first: the same as `update` with each.

        Raises:
            ValueError: as `update_all`; nothing is learned then.
        """
        pulled, paid = np.asarray(arms, dtype=np.int64), np.asarray(rewards, dtype=np.float64)
        self._check(pulled, paid)
        self._take_in_turn(pulled, paid)

    @abstractmethod
    def _take(self, arms: Ints, rewards: Floats) -> None:
        """Learn from one arm and its reward for each run, (R,) both."""

    def _take_in_turn(self, arms: Ints, rewards: Floats) -> None:
        """Learn from (N,) arms and their rewards, of the single run."""
        for place in range(len(arms)):
            self._take(arms[place : place + 1], rewards[place : place + 1])

    def _check(self, arms: Ints, rewards: Floats) -> None:
        if len(arms) and not (arms.min() >= 0 and arms.max() < self.arms):
            raise ValueError(f"arms are numbered from 0 to {self.arms - 1}, not {arms.min()} to {arms.max()}")
        low, high = self.reward_range
        if not (np.isfinite(rewards).all() and (rewards >= low).all() and (rewards <= high).all()):
            raise ValueError(
                f"rewards are finite and lie in [{low:g}, {high:g}], not {rewards.min()} to {rewards.max()}"
            )


def draw(probabilities: Floats, rng: np.random.Generator) -> Ints:
    """(R,) an arm from each row of (R, K) probabilities."""
    cumulative = probabilities.cumsum(axis=-1)
    cumulative /= cumulative[..., -1:]  # rounding must leave no gap below 1
    return np.asarray((cumulative > rng.random((len(probabilities), 1))).argmax(axis=1), dtype=np.int64)


def best(values: Floats) -> Floats:
    """(R, K) 1 for the highest of each row, shared equally where several are."""
    highest = values == values.max(axis=1, keepdims=True)
    return highest / highest.sum(axis=1, keepdims=True)
