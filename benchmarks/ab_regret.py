"""Simulated routing: what each bandit loses against always choosing the better version."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf.bandits import UCB1, Bandit, EpsilonGreedy, FixedShares, ThompsonSampling

Floats = NDArray[np.float64]
Maker = Callable[[int], Bandit]
"""A bandit for a number of runs."""

STATIONARY: dict[str, Maker] = {
    "equal split": lambda runs: FixedShares([1, 1], runs=runs),
    "UCB1": lambda runs: UCB1(2, runs=runs),
    "ε-greedy, 0.1": lambda runs: EpsilonGreedy(2, 0.1, runs=runs),
    "Thompson": lambda runs: ThompsonSampling(2, runs=runs),
}
PAIRS = [(0.6, 0.7), (0.1, 0.2), (0.4, 0.5), (0.8, 0.9)]


def _changing() -> dict[str, Maker]:
    makers: dict[str, Maker] = {"Thompson": STATIONARY["Thompson"]}
    for discount in (0.9, 0.95, 0.97, 0.98, 0.99, 0.993, 0.995):
        makers[f"Thompson, discount {discount}"] = lambda runs, d=discount: ThompsonSampling(2, discount=d, runs=runs)
    for window in (25, 50, 75, 100, 200, 400):
        makers[f"Thompson, window {window}"] = lambda runs, w=window: ThompsonSampling(2, window=w, runs=runs)
    makers["UCB1, discount 0.98"] = lambda runs: UCB1(2, discount=0.98, runs=runs)
    makers["UCB1, window 100"] = lambda runs: UCB1(2, window=100, runs=runs)
    makers["ε-greedy, 0.1, discount 0.98"] = lambda runs: EpsilonGreedy(2, 0.1, discount=0.98, runs=runs)
    makers["ε-greedy, 0.1, window 100"] = lambda runs: EpsilonGreedy(2, 0.1, window=100, runs=runs)
    return makers


CHANGING = _changing()


def regret(make: Maker, rates: Floats, runs: int, rng: np.random.Generator) -> Floats:
    """(R, T) what was lost so far: sum of the better arm's rate less the chosen one's.

    Args:
        rates: (T, K) chance of a reward of 1.
    """
    bandit = make(runs)
    lost = np.zeros((runs, len(rates)))
    for t, now in enumerate(rates):
        arms = bandit.choose_all(rng)
        bandit.update_all(arms, rng.random(runs) < now[arms])
        lost[:, t] = now.max() - now[arms]
    return lost.cumsum(axis=1)


def constant(pair: tuple[float, float], steps: int) -> Floats:
    return np.tile(np.asarray(pair), (steps, 1))


def swapped(pair: tuple[float, float], steps: int) -> Floats:
    """Arms that change places halfway."""
    return np.concatenate([constant(pair, steps // 2), constant(pair[::-1], steps - steps // 2)])


def summary(lost: Floats) -> dict[str, Any]:
    """Mean at the end with its standard error, the 90% quantile there, and the mean over time."""
    end = lost[:, -1]
    curve = lost.mean(axis=0)[:: max(1, lost.shape[1] // 200)]
    return {
        "regret": float(end.mean()),
        "standard_error": float(end.std() / np.sqrt(len(end))),
        "worst_tenth": float(np.quantile(end, 0.9)),
        "curve": curve.tolist(),
    }
