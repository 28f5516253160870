"""A new version against the old one on the same held-out prompts: means, difference, interval, and a verdict.

    compared = Paired.of(new_scores, old_scores)
    compared.low > 0                         # the new one is better, and not by luck of the prompts

Pure functions of numbers, as all of this package.
"""

from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from rlhf.evaluation.statistics import bootstrap_ci, paired_wins
from rlhf.evaluation.terminal import aligned

Metrics = dict[str, float]
GOLD, REWARD, OLD_REWARD = "gold", "reward", "old reward"
"""Measures of which more is better: by a judge, by the reward model that the new version was trained for, by the one
before it."""
JUDGED = (GOLD, REWARD, OLD_REWARD)
PARENT, DIFFERENCE, LOW, HIGH, WINS = "parent", "difference", "low", "high", "wins"


class Paired(NamedTuple):
    """Two systems on the same prompts; the interval is a percentile bootstrap over prompts, 95%."""

    new: float
    old: float
    difference: float
    low: float
    high: float
    wins: float
    """Share of the prompts on which the new one is better, ties half."""

    @classmethod
    def of(cls, new: ArrayLike, old: ArrayLike, resamples: int = 2000) -> Self:
        """Of (N,) scores each, N at least 2. Raises `ValueError` where the numbers of prompts differ or are too few."""
        ours, theirs = np.asarray(new, dtype=np.float64), np.asarray(old, dtype=np.float64)
        if len(ours) != len(theirs) or len(ours) < 2:
            raise ValueError(f"{len(ours)} and {len(theirs)} scores cannot be paired")
        low, high = bootstrap_ci(ours - theirs, resamples) or (0.0, 0.0)
        wins = paired_wins(ours, theirs, resamples).score
        return cls(float(ours.mean()), float(theirs.mean()), float((ours - theirs).mean()), low, high, wins)

    def metrics(self, name: str) -> Metrics:
        """Flat numbers, as a version keeps them: "gold", "gold/parent", "gold/low", …"""
        parts = {PARENT: self.old, DIFFERENCE: self.difference, LOW: self.low, HIGH: self.high, WINS: self.wins}
        return {name: self.new} | {f"{name}/{part}": value for part, value in parts.items()}


def duel_table(metrics: Mapping[str, float], new: str, old: str) -> str:
    """What a version's metrics say of it and of its parent, on the same prompts and pairs; one line a measure."""
    rows = [["", new, old, "difference", f"{new} wins"]]
    for name in (key for key in metrics if "/" not in key):
        if f"{name}/{DIFFERENCE}" in metrics:
            old_mean, difference, low, high, wins = (
                metrics[f"{name}/{part}"] for part in (PARENT, DIFFERENCE, LOW, HIGH, WINS)
            )
            spread = f"{difference:+.3f} [{low:+.3f}, {high:+.3f}]"
            rows.append(
                [name, f"{metrics[name]:.3f}", f"{old_mean:.3f}", spread, f"{wins:.0%}" if name in JUDGED else ""]
            )
        else:
            before = f"{metrics[f'{name}/{PARENT}']:.3f}" if f"{name}/{PARENT}" in metrics else "–"
            rows.append([name, f"{metrics[name]:.3f}", before, "", ""])
    return "\n".join(aligned(rows))


def verdict(metrics: Mapping[str, float], new: str, old: str) -> str:
    """Better, worse, or not to be told apart by the gold judge; without one, only who scores higher by which model."""
    if f"{GOLD}/{LOW}" in metrics:
        said = {"+": f"{new} is better than {old}", "-": f"{new} is worse than {old}"}
        return f"{said.get(_sign(metrics, GOLD), _ALIKE.format(new, old))} by the gold judge{_spread(metrics, GOLD)}."
    models = {REWARD: f"the reward model that {new} was trained for", OLD_REWARD: f"that of {old}"}
    found = []
    for name in (name for name in models if f"{name}/{LOW}" in metrics):
        said = {"+": f"{new} scores higher than {old}", "-": f"{new} scores lower than {old}"}
        found.append(f"{said.get(_sign(metrics, name), _ALIKE.format(new, old))} by {models[name]}"
                     f"{_spread(metrics, name)}.")  # fmt: skip
    if not found:
        return f"{new} was not compared with {old}."
    return " ".join([*found, "Which one is better, people's judgements have to show."])


_ALIKE = "{} and {} cannot be told apart"


def _sign(metrics: Mapping[str, float], name: str) -> str:
    return "+" if metrics[f"{name}/{LOW}"] > 0 else "-" if metrics[f"{name}/{HIGH}"] < 0 else ""


def _spread(metrics: Mapping[str, float], name: str) -> str:
    difference, low, high = (metrics[f"{name}/{part}"] for part in (DIFFERENCE, LOW, HIGH))
    return f", on held-out prompts: {difference:+.3f} [{low:+.3f}, {high:+.3f}]"
