"""Duels on the pairs of which the reward model is least sure: whom they favour, by simulation.

    ab_selection.shares(gap=0.0, duels=100_000, rng=rng)        # {"drawn": …, "least gap": …}
    python -m benchmarks.ab_selection                           # the same for all gaps, in a few seconds

A reply's quality is normal with standard deviation 1, and its reward is its quality with as much noise. The challenger
was trained for this reward model, so its rewards lie too high. People prefer the reply of higher quality. Where both
rewards are equal, the reply whose reward was more too high is the worse one: such pairs count against the challenger.
"""

import numpy as np
from numpy.typing import NDArray

from rlhf.chat.serving.deck import ROUND
from rlhf.chat.settings import ServeSection

Wins = NDArray[np.bool_]
SEED = 20_250_101
GAPS = (0.0, 0.25, 0.5)
"""By how much the challenger's replies are better, in standard deviations of quality."""
TOO_HIGH = 1.0
"""By how much its rewards are too high, in the same."""
DUELS = 100_000


def wins(
    gap: float, duels: int, rng: np.random.Generator, too_high: float = TOO_HIGH, pool: int = ServeSection().duel_pool
) -> tuple[Wins, Wins]:
    """Which duels the challenger wins: on pairs drawn by chance, and on those that the deck picks.

    Args:
        pool: as `serve.duel_pool`: the deck draws `ROUND` times as many pairs, and keeps the `ROUND` of the least
            difference in reward.

    Returns:
        twice (N,), N at least `duels` and a multiple of `ROUND`.
    """
    rounds, pairs = -(-duels // ROUND), ROUND * pool
    quality = rng.normal(size=(rounds, pairs)) + gap - rng.normal(size=(rounds, pairs))  # challenger's less live one's
    noise = rng.normal(size=(rounds, pairs)) + too_high - rng.normal(size=(rounds, pairs))
    picked = np.abs(quality + noise).argsort(axis=1)[:, :ROUND]
    won = quality > 0
    return won[:, :ROUND].ravel(), np.take_along_axis(won, picked, axis=1).ravel()


def shares(gap: float, duels: int, rng: np.random.Generator) -> dict[str, float]:
    """What share of such duels the challenger wins."""
    drawn, picked = wins(gap, duels, rng)
    return {"drawn": float(drawn.mean()), "least gap": float(picked.mean())}


def main() -> None:
    print("| challenger better by, sd | duels on pairs drawn by chance | duels chosen by least reward gap |")
    print("| ---: | ---: | ---: |")
    for gap in GAPS:
        found = shares(gap, DUELS, np.random.default_rng(SEED))
        print(f"| {gap} | {found['drawn']:.1%} | {found['least gap']:.1%} |")


if __name__ == "__main__":
    main()
