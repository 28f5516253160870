"""Simulated A/B tests: how often equal versions are told apart, how soon different ones are, and when replies go bad.

R runs, L looks.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rlhf.bandits import ThompsonSampling
from rlhf.chat.ab_test import NOTICED, RECENT
from rlhf.chat.settings import RoutingSection
from rlhf.sequential_test import best_mixing_sd, difference_and_variance, log_ratio

Floats = NDArray[np.float64]
CHUNK = 500
"""Runs at a time."""
ALPHA = 0.05
NORMAL_95 = 1.959964
FIRST, LAST, EVERY = 50, 2000, 10
"""Judgements an arm at the first and last look, and between two."""


def chunks(runs: int) -> list[int]:
    edges = [*range(0, runs, CHUNK), runs]
    return [high - low for low, high in pairwise(edges)]


def crossed(wins: Sequence[Floats] | Floats, counts: Sequence[Floats] | Floats, mixing_sd: float) -> NDArray[np.bool_]:
    """(R, L) whether the mSPRT decides at each look, for thumbs that are independent of each other.

    Args:
        wins: (R, L) thumbs up so far, for each of the two arms.
        counts: (R, L) judgements so far, for each.
    """
    totals = np.stack([wins[0], counts[0], wins[1], counts[1]], axis=-1).astype(np.float64)
    moments = np.zeros((*totals.shape, 4))  # a thumb is 0 or 1, so its square is itself
    for side in (0, 2):
        moments[..., side, side] = moments[..., side, side + 1] = moments[..., side + 1, side] = totals[..., side]
        moments[..., side + 1, side + 1] = totals[..., side + 1]
    return np.asarray(log_ratio(*difference_and_variance(moments, totals), mixing_sd) >= np.log(1 / ALPHA))


def naive(wins: Sequence[Floats], n: Floats) -> NDArray[np.bool_]:
    """(R, L) whether a z-test with pooled variance finds a difference at each look, as if it were the only one."""
    rate = (wins[0] + wins[1]) / (2 * n)
    error = np.sqrt(np.maximum(2 * rate * (1 - rate) / n, 1e-12))
    return np.asarray(np.abs(wins[1] - wins[0]) / n > NORMAL_95 * error)


def stopping(
    rates: tuple[float, float], noticed: Sequence[float], looks: Sequence[int], runs: int, rng: np.random.Generator
) -> dict[str, dict[str, float | None]]:
    """For the naive test, and for the mSPRT at several differences to notice: how often it decides, and when.

    Returns:
        by test: `decided`, a share of the runs; `median` and `quartile_3`, judgements an arm, None beyond the last
        look; `mean_cut`, those of all runs, the undecided ones at the last look.
    """
    n = np.asarray(looks, dtype=np.float64)
    stops: dict[str, list[Floats]] = {}
    for size in chunks(runs):
        wins = [(rng.random((size, looks[-1])) < rate).cumsum(axis=1)[:, np.asarray(looks) - 1] for rate in rates]
        counts = [np.broadcast_to(n, wins[0].shape)] * 2
        found = {"naive": naive(wins, n)}
        found |= {str(seen): crossed(wins, counts, best_mixing_sd(seen, ALPHA)) for seen in noticed}
        for name, hit in found.items():
            stops.setdefault(name, []).append(np.where(hit.any(axis=1), n[hit.argmax(axis=1)], np.inf))
    return {name: _summary(np.concatenate(times), looks[-1]) for name, times in stops.items()}


def _summary(times: Floats, last: int) -> dict[str, float | None]:
    def finite(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    middle, late = np.quantile(times, [0.5, 0.75], method="inverted_cdf")
    return {
        "decided": float(np.isfinite(times).mean()), "median": finite(middle), "quartile_3": finite(late),
        "mean_cut": float(np.minimum(times, last).mean()),
    }  # fmt: skip


def dependent(runs: int, rng: np.random.Generator, conversations: int = 400, each: int = 5) -> dict[str, float]:
    """False decisions where judgements come in groups: taken one by one, and as the test takes them.

    `conversation`: five thumbs each, whose chance of being up is Beta(1.2, 0.8), mean 0.6, for both versions.
    `duel`: both sides of a duel, one won and one lost. A look after each group.
    """
    wrong: dict[str, float] = {}
    threshold, sd = np.log(1 / ALPHA), best_mixing_sd(NOTICED, ALPHA)
    found: dict[str, list[Floats]] = {}
    for size in chunks(runs):
        ups = rng.binomial(each, rng.beta(1.2, 0.8, size=(size, conversations))).astype(np.float64)
        challenger = rng.random(ups.shape) < 0.5
        talks = np.stack([ups * ~challenger, each * ~challenger, ups * challenger, each * challenger], axis=-1)
        first = rng.random(ups.shape) < ups / each  # of thumbs in any order
        firsts = np.stack([first & ~challenger, ~challenger, first & challenger, challenger], axis=-1).astype(float)
        won = (rng.random(ups.shape) < 0.5).astype(np.float64)
        duels = np.stack([1 - won, np.ones_like(won), won, np.ones_like(won)], axis=-1)
        for name, rows in (("conversation", talks), ("duel", duels)):
            wins, counts = rows.cumsum(axis=1)[..., ::2], rows.cumsum(axis=1)[..., 1::2]
            apart = crossed(np.moveaxis(wins, -1, 0), np.moveaxis(counts, -1, 0), sd)
            found.setdefault(f"{name}, one by one", []).append(apart.any(axis=1))
        for name, rows in (("conversation, its first", firsts), ("duel, a unit", duels)):
            together = (rows[..., :, None] * rows[..., None, :]).cumsum(axis=1)
            ratios = log_ratio(*difference_and_variance(together, rows.cumsum(axis=1)), sd)
            found.setdefault(name, []).append((ratios >= threshold).any(axis=1))
    for name, hits in found.items():
        wrong[name] = float(np.concatenate(hits).mean())
    return wrong


def adaptive(runs: int, rng: np.random.Generator, conversations: int = 2000, share: float = 0.1) -> dict[str, float]:
    """False decisions between equal versions that Thompson sampling routes to, while all judgements get better.

    Both versions' rate rises from 0.4 to 0.8. The test sees all traffic, or the uniform part of it.
    """
    sd = best_mixing_sd(NOTICED, ALPHA)
    hits: dict[str, list[Floats]] = {}
    for size in chunks(runs):
        bandit = ThompsonSampling(2, runs=size)
        arms, ups, uniform = (np.zeros((size, conversations), dtype=np.int64) for _ in range(3))
        for t in range(conversations):
            uniform[:, t] = rng.random(size) < share
            arms[:, t] = np.where(uniform[:, t], rng.integers(0, 2, size), bandit.choose_all(rng))
            ups[:, t] = rng.random(size) < 0.4 + 0.4 * t / conversations
            bandit.update_all(arms[:, t], ups[:, t])
        for name, seen in (("all traffic", np.ones_like(uniform)), ("uniform traffic only", uniform)):
            counts = [(seen * (arms == arm)).cumsum(axis=1) for arm in (0, 1)]
            wins = [(seen * (arms == arm) * ups).cumsum(axis=1) for arm in (0, 1)]
            hits.setdefault(name, []).append(crossed(wins, counts, sd).any(axis=1))
    return {name: float(np.concatenate(some).mean()) for name, some in hits.items()}


def fallback(runs: int, rng: np.random.Generator, good: int = 1000, bad: int = 1000) -> dict[str, dict[str, float]]:
    """Replies of which a share is bad, and later half: which rule raises a false alarm before, and how late after.

    Returns:
        by rule: `false_RATE` for a constant rate of bad replies over `good` replies; `delay`, median number of replies
        after a version with 2% starts to fail half the time.
    """
    settings = RoutingSection()
    after = settings.fallback_after
    rules = {"all so far": None, f"last {after}": after, f"last {RECENT * after}": RECENT * after}
    found: dict[str, dict[str, float]] = {name: {} for name in rules}
    for rate in (0.02, 0.05, 0.1):
        replies = rng.random((runs, good)) < rate
        for name, length in rules.items():
            found[name][f"false_{rate}"] = float(_alarms(replies, length, settings).any(axis=1).mean())
    replies = np.concatenate([rng.random((runs, good)) < 0.02, rng.random((runs, bad)) < 0.5], axis=1)
    for name, length in rules.items():
        late = _alarms(replies, length, settings)[:, good:]
        found[name]["delay"] = float(np.median(np.where(late.any(axis=1), late.argmax(axis=1) + 1, np.inf)))
    return found


def _alarms(replies: NDArray[np.bool_], length: int | None, settings: RoutingSection) -> NDArray[np.bool_]:
    """(R, T) whether the last `length` replies, up to each, are too bad: `ab_test.misbehaves` for many runs."""
    so_far = replies.cumsum(axis=1)
    n = np.arange(1, replies.shape[1] + 1)
    if length is not None:
        so_far = so_far - np.pad(so_far, ((0, 0), (length, 0)))[:, : replies.shape[1]]
    seen = n if length is None else np.minimum(n, length)
    return np.asarray((n >= settings.fallback_after) & (so_far > settings.fallback_rate * seen))
