"""Simulated tournaments: how often an interval of the Bradley-Terry standing holds the true strength; Elo beside it."""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from rlhf.bradley_terry import IMAGINARY, counted, fit, resampled, wins_of
from rlhf.chat.ab_test import NORMAL_95, RIDGE

Floats = NDArray[np.float64]
TIES = 0.2
"""Share of ties between equals; it shrinks with p(1 - p), and leaves the expected score as it is."""
SETS = 200
TOURNAMENTS = {"two versions": [0.0, 1.0], "four versions": [0.0, 0.3, 0.8, 1.5]}
DUELS = (20, 100, 500)


def chances(strengths: Floats) -> Floats:
    """(pairs, 3) chance of win, tie and loss for the first of each pair."""
    won = np.array([expit(strengths[i] - strengths[j]) for i, j in combinations(range(len(strengths)), 2)])
    tie = TIES * 4 * won * (1 - won)
    return np.stack([won - tie / 2, tie, 1 - won - tie / 2], axis=1)


def coverage(strengths: Floats, duels: int, ridge: float, runs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Share of 95% intervals that hold the true strength, and their mean width, by kind of bootstrap interval.

    Args:
        strengths: (K,) in logits; their mean is taken off.
        duels: of a tournament, of pairs at random.
    """
    true, players = strengths - strengths.mean(), len(strengths)
    law = chances(true)
    held: dict[str, list[Floats]] = {}
    width: dict[str, list[Floats]] = {}
    errors = []
    for _ in range(runs):
        counts = rng.multinomial(duels, (law / len(law)).ravel()).reshape(law.shape).astype(np.float64)
        found = fit(wins_of(counts, players), ridge)
        errors.append((found - true) ** 2)
        for name, (low, high) in _intervals(counts, found, ridge, rng).items():
            held.setdefault(name, []).append((low <= true) & (true <= high))
            width.setdefault(name, []).append(high - low)
    return {
        "error": float(np.sqrt(np.mean(errors))),
        "intervals": {
            name: {"coverage": float(np.mean(held[name])), "worst": float(np.mean(held[name], axis=0).min()),
                   "width": float(np.mean(width[name]))} for name in held
        },
    }  # fmt: skip


def _intervals(counts: Floats, found: Floats, ridge: float, rng: np.random.Generator) -> dict[str, Any]:
    """The interval of the standing (last), and what else a bootstrap would give."""
    kinds: dict[str, Any] = {}
    for name, imaginary in (("plain", 0 * IMAGINARY), ("smoothed", IMAGINARY)):
        strengths = resampled(counts, len(found), ridge, SETS, rng, imaginary)
        low, high = np.quantile(strengths, [0.025, 0.975], axis=0)
        reach = NORMAL_95 * strengths.std(axis=0)
        kinds[f"{name}, percentile"] = low, high
        kinds[f"{name}, reversed"] = 2 * found - high, 2 * found - low
        kinds[f"{name}, standard deviation"] = found - reach, found + reach
    return kinds


def elo(duels: list[tuple[int, int, float]], players: int, step: float = 32.0) -> Floats:
    """(K,) ratings after the duels in their order, from 1500 (Elo 1978)."""
    ratings = np.full(players, 1500.0)
    for first, second, score in duels:
        expected = 1 / (1 + 10 ** ((ratings[second] - ratings[first]) / 400))
        ratings[[first, second]] += np.array([1, -1]) * step * (score - expected)
    return ratings


def orders(runs: int, rng: np.random.Generator, duels: int = 200) -> dict[str, float]:
    """The same duels of three versions in many orders: what Elo and Bradley-Terry make of them.

    Returns:
        in Elo points, for the difference between the two strongest versions: lowest, highest and standard deviation;
        and the share of orders in which another version comes out first than by Bradley-Terry.
    """
    law = chances(np.array([0.0, 0.3, 0.5]))
    pairs = list(combinations(range(3), 2))
    fought = []
    for _ in range(duels):
        pair = int(rng.integers(len(pairs)))
        fought.append((*pairs[pair], float(rng.choice([1.0, 0.5, 0.0], p=law[pair]))))
    points = 400 / np.log(10)
    fits, ratings = [], []
    for _ in range(runs):
        shuffled = [fought[i] for i in rng.permutation(duels)]
        fits.append(fit(wins_of(counted(shuffled, 3), 3), RIDGE))
        ratings.append(elo(shuffled, 3))
    second, first = np.argsort(fits[0])[-2:]
    gaps = np.array([rating[first] - rating[second] for rating in ratings])
    ours = np.array([(s[first] - s[second]) * points for s in fits])
    return {
        "elo_lowest": float(gaps.min()), "elo_highest": float(gaps.max()), "elo_sd": float(gaps.std()),
        "elo_another_first": float(np.mean([rating.argmax() != first for rating in ratings])),
        "bradley_terry": float(ours[0]), "bradley_terry_range": float(np.ptp(ours)),
    }  # fmt: skip
