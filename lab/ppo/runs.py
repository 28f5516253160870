"""One training of one task with one seed, as a figure needs it.

run = trained("CartPole-v1", seed=0)
run.evaluation                                   # returns of 100 fresh episodes
run.curve                                        # steps → mean return of the episodes that ended since the last point
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lab.ppo.evaluation import evaluate
from lab.ppo.learner import train
from lab.ppo.rollout import Episode
from lab.ppo.settings import TASKS
from lab.seeds import EVALUATING, seeds
from rlhf.stopwatch import now

POINTS = 25
"""Of a learning curve."""


@dataclass(frozen=True)
class Run:
    """What came of it."""

    seed: int
    evaluation: list[float]
    """The returns of the evaluation episodes, without exploration."""
    steps: list[int]
    """The curve's points: steps of all environments together."""
    curve: list[float | None]
    """Mean returns of the training episodes that ended between two points, with exploration; None before the first."""
    seconds: float
    """Of training alone."""


def trained(task: str, seed: int, episodes: int = 100, changes: Mapping[str, Any] | None = None) -> Run:
    """Train, then evaluate what training ended with.

    Args:
        task: one of `TASKS`.
        seed: of training.
        episodes: of the evaluation.
        changes: settings that differ from the task's.
    """
    settings = replace(TASKS[task].settings, **changes or {})
    began = now()
    training = train(environments(task, settings.environments), settings, seed)
    seconds = now() - began
    returns = evaluate(training.agent, environments(task, episodes), seeds(seed, EVALUATING)(episodes))
    points = np.linspace(0, settings.steps, POINTS + 1).round().astype(int)[1:]
    return Run(seed, returns.tolist(), points.tolist(), means(training.episodes, points), seconds)


def environments(task: str, many: int) -> gymnasium.vector.VectorEnv:
    """Side by side in this process."""
    return gymnasium.make_vec(task, many, "sync")


def means(episodes: Sequence[Episode], points: NDArray) -> list[float | None]:
    """Mean returns of the episodes that ended up to each point, but after the one before; None before the first.

    Where none ended, the mean before stays.
    """
    slots = np.searchsorted(points, [episode.step for episode in episodes])
    rewards = np.array([episode.reward for episode in episodes])
    curve: list[float | None] = []
    for slot in range(len(points)):
        here = rewards[slots == slot]
        curve.append(float(here.mean()) if len(here) else curve[-1] if curve else None)
    return curve
