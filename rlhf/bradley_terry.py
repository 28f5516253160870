"""Strengths from duels (Bradley and Terry 1952): P(i beats j) = σ(sᵢ - sⱼ).

    counts = counted([(0, 1, 1.0), (1, 2, 0.5)], players=3)
    strengths = fit(wins_of(counts, 3), ridge=0.5)
    spread = resampled(counts, 3, ridge=0.5, sets=1000, rng=rng).std(axis=0)

The ridge is a normal prior of variance 1/ridge on every strength. It keeps a record of 10 to 0 finite, says what the
scale's zero is (strengths sum to 0), and ties together players who never met. Strengths are in logits: 1 more wins 73%.
The order of the duels has no part in it. K players.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

Floats = NDArray[np.float64]
Duel = tuple[int, int, float]
"""Two players by number, and the first one's score: 1, 1/2 or 0."""

STEPS = 200
TOLERANCE = 1e-9
SCORES = np.array([1.0, 0.5, 0.0])
IMAGINARY = np.array([0.5, 0.0, 0.5])
"""Half a win and half a loss, added to the duels of a pair before they are resampled."""


def fit(wins: ArrayLike, ridge: float) -> Floats:
    """(..., K) strengths that maximise Σ wins[i, j] · ln σ(sᵢ - sⱼ) - ridge/2 · Σ sᵢ².

    By Newton's method. Steps are damped by ln(1 + d)/d, where d is the largest change of a difference: with that the
    objective rises at every step (Bach 2010, proposition 2: ln σ is self-concordant in his sense).

    Args:
        wins: (..., K, K), not negative; the diagonal is not read.
        ridge: above 0.

    Raises:
        ValueError: no ridge: a player who never lost would be infinitely strong.
    """
    if not ridge > 0:
        raise ValueError(f"the ridge is above 0, not {ridge}")
    won = np.asarray(wins, dtype=np.float64)
    players = won.shape[-1]
    won = won * (1 - np.eye(players))
    met = won + np.swapaxes(won, -1, -2)
    strengths: Floats = np.zeros(won.shape[:-1])
    for _ in range(STEPS):
        expected = expit(strengths[..., :, None] - strengths[..., None, :])
        slope = won.sum(axis=-1) - (met * expected).sum(axis=-1) - ridge * strengths
        if np.abs(slope).max(initial=0) <= TOLERANCE * max(1.0, met.max(initial=0)):
            break
        information = met * expected * (1 - expected)
        curvature = (information.sum(axis=-1) + ridge)[..., None] * np.eye(players) - information
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        change = np.ptp(step, axis=-1, keepdims=True)
        strengths = strengths + step * np.log1p(change) / np.maximum(change, 1e-12)
    return strengths


def counted(duels: Sequence[Duel], players: int) -> Floats:
    """(pairs, 3) how often the first of a pair won, tied, lost; pairs in the order of `combinations`: 01, 02, 12 …"""
    place = {pair: number for number, pair in enumerate(combinations(range(players), 2))}
    counts: Floats = np.zeros((len(place), 3))
    for first, second, score in duels:
        ordered = score if first < second else 1 - score
        counts[place[min(first, second), max(first, second)], int(round(2 - 2 * ordered))] += 1
    return counts


def wins_of(counts: ArrayLike, players: int) -> Floats:
    """(..., K, K) wins from (..., pairs, 3) counts, a tie half a win each."""
    numbers = np.asarray(counts, dtype=np.float64)
    wins: Floats = np.zeros((*numbers.shape[:-2], players, players))
    for number, (first, second) in enumerate(combinations(range(players), 2)):
        wins[..., first, second] = numbers[..., number, :] @ SCORES
        wins[..., second, first] = numbers[..., number, :] @ (1 - SCORES)
    return wins


def resampled(
    counts: Floats, players: int, ridge: float, sets: int, rng: np.random.Generator, imaginary: Floats = IMAGINARY
) -> Floats:
    """(sets, K) strengths of bootstrap sets of as many duels each.

    Every pair that met gets half an imaginary win and loss first. Without them a record of 10 to 0 would come back as
    10 to 0 from every resampling, as if nothing were uncertain.

    Args:
        counts: (pairs, 3) as `counted` gives them, at least one duel.
        imaginary: (3,) wins, ties and losses added to each pair that met.
    """
    smoothed = counts + imaginary * (counts.sum(axis=1, keepdims=True) > 0)
    drawn = rng.multinomial(int(counts.sum()), (smoothed / smoothed.sum()).ravel(), size=sets)
    return fit(wins_of(drawn.reshape(-1, *counts.shape), players), ridge)
