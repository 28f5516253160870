"""One training of one task with one seed, as a figure needs it.

run = trained("CartPole-v1", seed=0)
run.evaluation                                   # returns of 100 fresh episodes
run.curve                                        # steps → mean return of the episodes that ended since the last point
"""

from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from lab.ppo.evaluation import evaluate
from lab.ppo.learner import train
from lab.ppo.policy import Policy
from lab.ppo.rollout import Episode, prepared
from lab.ppo.settings import Settings, usual
from lab.seeds import EVALUATING, seeds
from rlhf.errors import UserError
from rlhf.stopwatch import now

POINTS = 25
"""Of a learning curve."""
LONGEST = 1_000
"""Steps after which an episode is cut short where Gymnasium knows no limit: an evaluation must come to an end."""


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


def trained(task: str, seed: int, settings: Settings | None = None, episodes: int = 100) -> Run:
    """Train, then evaluate what training ended with.

    Args:
        task: an environment of Gymnasium.
        seed: of training.
        settings: default: the usual ones of the task.
        episodes: of the evaluation.
    """
    settings = settings or usual(task)
    began = now()
    training = train(environments(task, settings.environments), settings, seed)
    seconds = now() - began
    returns = evaluate(training.agent, prepared(environments(task, episodes)), seeds(seed, EVALUATING)(episodes))
    points = np.linspace(0, settings.steps, POINTS + 1).round().astype(int)[1:]
    return Run(seed, returns.tolist(), points.tolist(), means(training.episodes, points), seconds)


def environments(task: str, many: int) -> gymnasium.vector.VectorEnv:
    """Side by side in this process."""
    return gymnasium.make_vec(task, many, "sync", wrappers=[_limited])  # type: ignore[list-item]  # may wrap nothing


def check(task: str, settings: Settings) -> None:
    """Refuse what cannot be learned, before anything is trained.

    Raises:
        UserError: no such environment, a package that it needs is missing, or spaces that PPO does not know.
    """
    try:
        made = environments(task, 1)
    except (gymnasium.error.Error, ImportError) as error:
        raise UserError(f"The environment {task} cannot be made.", expected="one of Gymnasium, and what it needs",
                        found=str(error), remedy="--tasks CartPole-v1, for one") from None  # fmt: skip
    seen = prepared(made)
    shape = seen.single_observation_space.shape
    assert shape is not None
    Policy(shape[0], seen.single_action_space, settings, seed=0)
    made.close()


def _limited(environment: gymnasium.Env) -> gymnasium.Env:
    spec = environment.spec
    return environment if spec and spec.max_episode_steps else TimeLimit(environment, LONGEST)


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
