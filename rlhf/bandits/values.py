"""Bandits that choose by the arms' values: ε-greedy and upper confidence bounds.

bandit = EpsilonGreedy(10, epsilon=0.0, step_size=0.1, initial=5.0)       # greedy from an optimistic start
bandit = UCB(10, c=2.0)
bandit.values()           # (1, 10)
"""

import math
from typing import TypedDict, Unpack

import numpy as np

from rlhf.bandits.base import Floats, Ints, best
from rlhf.bandits.counting import FORGOTTEN, CountingBandit


class Estimates(TypedDict, total=False):
    """Arguments of `ValueBandit` by name, as those that choose by its values pass them on."""

    step_size: float | None
    initial: float
    discount: float
    window: int | None
    runs: int


class ValueBandit(CountingBandit):
    """An estimate of what each arm pays: the mean of its rewards, or one that follows the latest ones.

    Args:
        arms: K.
        step_size: α of Q ← Q + α (R - Q), at each update of an arm (Sutton and Barto 2018, equation 2.5); the rewards
            of an arm then weigh α (1 - α)^i, i of its updates ago, and `initial` what is left. None: the mean.
        initial: value of an arm that was never tried. Infinite: such an arm comes first. Of a mean nothing of it is
            left after one reward.
        discount, window, runs: see `CountingBandit`; a step size of each arm's own goes with neither of the former.

    Raises:
        ValueError: something out of range, or two ways of forgetting.
    """

    def __init__(
        self,
        arms: int,
        *,
        step_size: float | None = None,
        initial: float = math.inf,
        discount: float = 1.0,
        window: int | None = None,
        runs: int = 1,
    ) -> None:
        super().__init__(arms, discount=discount, window=window, runs=runs)
        if math.isnan(initial) or initial == -math.inf:
            raise ValueError(f"no value of an arm: {initial=}")
        if step_size is not None:
            if not (0 < step_size <= 1 and math.isfinite(initial)):
                raise ValueError(f"a step size is a share and starts from a finite value: {step_size=}, {initial=}")
            if discount != 1 or window is not None:
                raise ValueError(f"two ways of forgetting: {step_size=}, {discount=}, {window=}")
        self.step_size, self.initial = step_size, initial
        self._followed: Floats = np.full((runs, arms), initial)

    def values(self) -> Floats:
        """(R, K) estimates; `initial` where an arm was never tried, or has left the window."""
        if self.step_size is not None:
            return self._followed
        tried = self.counts > FORGOTTEN
        return np.where(tried, self.rewards / np.where(tried, self.counts, 1), self.initial)

    def _take(self, arms: Ints, rewards: Floats) -> None:
        super()._take(arms, rewards)
        if self.step_size is not None:
            self._followed[self._rows, arms] += self.step_size * (rewards - self._followed[self._rows, arms])

    def _take_in_turn(self, arms: Ints, rewards: Floats) -> None:
        super()._take_in_turn(arms, rewards)
        if self.step_size is not None:
            for arm, reward in zip(arms, rewards, strict=True):
                self._followed[0, arm] += self.step_size * (reward - self._followed[0, arm])


class EpsilonGreedy(ValueBandit):
    """The arm that has paid best, but every so often any.

    Args:
        epsilon: share of the choices that are random.
        estimates: arguments of `ValueBandit`.
    """

    def __init__(self, arms: int, epsilon: float = 0.1, **estimates: Unpack[Estimates]) -> None:
        super().__init__(arms, **estimates)
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon is a share: {epsilon}")
        self.epsilon = epsilon

    def probabilities_all(self) -> Floats:
        return self.epsilon / self.arms + (1 - self.epsilon) * best(self.values())


class UCB1(ValueBandit):
    """The arm with the highest upper confidence bound: value + √(confidence · ln t / n) (Auer et al. 2002).

    t is the weight of all updates, n that of the arm. Discounted, it is the D-UCB of Garivier and Moulines (2011,
    arXiv 0805.3415), in a window their SW-UCB, with Auer's confidence. An arm never tried comes first.

    Args:
        confidence: 2 in the paper, for rewards in [0, 1]; less explores less.
        estimates: arguments of `ValueBandit`.
    """

    reward_range = (0.0, 1.0)

    def __init__(self, arms: int, confidence: float = 2.0, **estimates: Unpack[Estimates]) -> None:
        super().__init__(arms, **estimates)
        if not 0 <= confidence < math.inf:
            raise ValueError(f"a confidence is finite and not negative: {confidence}")
        self.confidence = confidence

    def index(self) -> Floats:
        """(R, K) upper bounds; infinite where an arm was never tried."""
        total = np.log(np.maximum(self.counts.sum(axis=1, keepdims=True), 1))
        bounds = self.values() + np.sqrt(self.confidence * total / np.maximum(self.counts, FORGOTTEN))
        return np.where(self.counts > FORGOTTEN, bounds, np.inf)

    def probabilities_all(self) -> Floats:
        return best(self.index())


class UCB(UCB1):
    """The same for any rewards, as the book has it: value + c √(ln t / n) (Sutton and Barto 2018, equation 2.10).

    c stands for what Auer's bound takes from the range of the rewards: `UCB(arms, c)` is UCB1 with confidence c².

    Args:
        c: in units of the rewards, not negative.
        estimates: arguments of `ValueBandit`.
    """

    reward_range = (-math.inf, math.inf)

    def __init__(self, arms: int, c: float = 2.0, **estimates: Unpack[Estimates]) -> None:
        if not c >= 0:
            raise ValueError(f"c is not negative: {c}")
        super().__init__(arms, c**2, **estimates)
