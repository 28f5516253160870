"""Statistics of the report: bootstrap intervals, of clusters too, paired win rates, calibration, rank correlation.

Pure functions of numpy arrays. Where a figure cannot be had (too few values, no spread), the answer is None.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

Interval = tuple[float, float]
Floats = NDArray[np.float64]

TIE_TOLERANCE = 1e-6
"""Scores closer than this tie: batching moves the score of one and the same text by less."""
CALIBRATION_BINS = 10
CHUNK = 4_000_000
"""Numbers drawn at a time, so that a large set does not fill the memory."""


def bootstrap_ci(values: ArrayLike, resamples: int = 2000, seed: int = 0, level: float = 0.95) -> Interval | None:
    """Percentile bootstrap interval of the mean (Efron 1979).

    Args:
        values: (N,) numbers.

    Returns:
        Lower and upper end; None where N < 2, since one value says nothing about its spread.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    if n < 2:
        return None
    return _middle([sample[drawn].mean(axis=1) for drawn in _draws(n, resamples, seed)], level)


def cluster_bootstrap_ci(
    values: ArrayLike, clusters: ArrayLike, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval | None:
    """Percentile bootstrap interval of the mean where values of a cluster go together: whole clusters are drawn.

    Values that say much the same, such as those of rewordings of one question, count as independent in `bootstrap_ci`,
    and make its interval too narrow (Davison and Hinkley 1997, section 3.8). A resample has as many clusters as there
    are; its mean is that of all their values, so that large clusters weigh more, as they do in the mean itself.

    Args:
        values: (N,) numbers.
        clusters: (N,) names or numbers of the clusters that they belong to.

    Returns:
        Lower and upper end; None with fewer than two clusters.

    Raises:
        ValueError: there is not one cluster for each value.
    """
    sample, names = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    if sample.shape != names.shape:
        raise ValueError(f"{len(sample)} values, {len(names)} clusters of them")
    found, place = np.unique(names, return_inverse=True)
    if len(found) < 2:
        return None
    sums, sizes = np.bincount(place, sample), np.bincount(place)
    draws = _draws(len(found), resamples, seed)
    return _middle([sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1) for drawn in draws], level)


def _draws(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """(rows, n) numbers below n, `resamples` rows in all, a piece at a time."""
    rng = np.random.default_rng(seed)
    piece = max(1, CHUNK // n)
    for start in range(0, resamples, piece):
        yield rng.integers(0, n, size=(min(piece, resamples - start), n))


def _middle(means: list[Floats], level: float) -> Interval:
    """What lies between the tails of all means."""
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class WinRate:
    """How often one system beats another on the same prompt. win + tie + loss = 1."""

    win: float
    tie: float
    loss: float
    ci95: Interval | None
    """Interval of `win`."""
    score: float
    """win + tie / 2: 0.5 where neither is better."""
    score_ci95: Interval | None
    n: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


def paired_wins(ours: ArrayLike, theirs: ArrayLike, resamples: int = 2000, seed: int = 0) -> WinRate:
    """Compare two systems prompt by prompt; prompts are what is resampled.

    Args:
        ours: (N,) scores of the first system.
        theirs: (N,) scores of the second on the same prompts.

    Raises:
        ValueError: no prompts, or another number of them.
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"{len(a)} and {len(b)} scores cannot be paired")
    tie = np.abs(a - b) <= TIE_TOLERANCE
    win = (a > b) & ~tie
    score = win + tie / 2
    rates = float(win.mean()), float(tie.mean())
    return WinRate(
        win=rates[0], tie=rates[1], loss=float((~win & ~tie).mean()), ci95=bootstrap_ci(win, resamples, seed),
        score=float(score.mean()), score_ci95=bootstrap_ci(score, resamples, seed), n=len(a),
    )  # fmt: skip


def right(margins: ArrayLike) -> Floats:
    """(N,) 1 where the better reply scored higher, 0 where lower, 1/2 where both scored the same."""
    values = np.asarray(margins, dtype=np.float64)
    return np.where(np.abs(values) <= TIE_TOLERANCE, 0.5, (values > 0).astype(np.float64))


def longer_wins_accuracy(length_chosen: ArrayLike, length_rejected: ArrayLike) -> float:
    """Accuracy of preferring the longer reply; equal lengths count one half. What a reward model has to beat."""
    difference = np.asarray(length_chosen, dtype=np.float64) - np.asarray(length_rejected, dtype=np.float64)
    return float(right(difference).mean())


@dataclass(frozen=True)
class Bin:
    """Pairs whose confidence lies in (lower, upper]; the first bin holds its lower end too."""

    lower: float
    upper: float
    confidence: float
    """Mean confidence."""
    accuracy: float
    n: int


def reliability_bins(logits: ArrayLike, bins: int = CALIBRATION_BINS) -> list[Bin]:
    """Confidence against accuracy of pairwise decisions; bins without pairs are left out.

    The label of a pair is always "chosen", so p = sigmoid(logit) alone has nothing to be compared with. A decision
    for the reply that scores higher has confidence max(p, 1 - p), from 0.5 to 1, and is right where logit > 0. That is
    the same as showing every pair in both orders and binning p over [0, 1], which is symmetric about one half.

    Args:
        logits: (N,) Bradley-Terry logits, chosen minus rejected.
        bins: bins of equal width over [0.5, 1].
    """
    values = np.asarray(logits, dtype=np.float64)
    confidence = 1 / (1 + np.exp(-np.abs(values)))
    correct = right(values)
    edges = np.linspace(0.5, 1.0, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    found: list[Bin] = []
    for i in range(bins):
        inside = index == i
        if inside.any():
            means = float(confidence[inside].mean()), float(correct[inside].mean())
            found.append(Bin(float(edges[i]), float(edges[i + 1]), *means, n=int(inside.sum())))
    return found


def expected_calibration_error(bins: list[Bin]) -> float | None:
    """Σ_b n_b / N · |accuracy_b - confidence_b| (Guo et al. 2017, arXiv 1706.04599, eq. 3); None without pairs."""
    total = sum(b.n for b in bins)
    return sum(b.n * abs(b.accuracy - b.confidence) for b in bins) / total if total else None


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Rank correlation, -1 to 1; None with fewer than three values or where one side never varies."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)
