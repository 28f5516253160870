"""What DQN and PPO share: environments side by side, episodes, learning curves, the evaluation of what was learned.

environments = side_by_side("CartPole-v1", 8)
returns = evaluate(agent, side_by_side("CartPole-v1", 100), seeds(0, EVALUATING)(100))
run = judged(agent, "CartPole-v1", seed=0, episodes=100, training=episodes, steps=100_000, seconds=12.3)
run.curve                                        # mean return of the training episodes that ended since the last point
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import FlattenObservation
from numpy.typing import NDArray

from lab.seeds import EVALUATING, Seeds, seeds
from rlhf.errors import UserError

POINTS = 25
"""Of a learning curve."""
LONGEST = 1_000
"""Steps after which an episode is cut short where Gymnasium knows no limit: an evaluation must come to an end."""


class Acts(Protocol):
    """The lab's agents, and others that are held against them."""

    def best(self, observations: NDArray) -> NDArray:
        """Actions without exploration, for observations (N, O)."""


class Episode(NamedTuple):
    """One that ended in training."""

    step: int
    """Of all environments together, when it ended."""
    reward: float
    """Undiscounted sum."""


@dataclass(frozen=True)
class Run:
    """What came of one training."""

    seed: int
    evaluation: list[float]
    """The returns of the evaluation episodes, without exploration."""
    steps: list[int]
    """The curve's points: steps of all environments together."""
    curve: list[float | None]
    """Mean returns of the training episodes that ended between two points, with exploration; None before the first."""
    seconds: float
    """Of training alone."""


def side_by_side(task: str, many: int) -> VectorEnv:
    """Environments of Gymnasium in this process, their observations of one axis.

    Raises:
        UserError: no such environment, or a package that it needs is missing.
    """
    try:
        made = gymnasium.make_vec(task, many, "sync", wrappers=[_limited])  # type: ignore[list-item]  # may wrap nothing
    except (gymnasium.error.Error, ImportError) as error:
        raise UserError(f"The environment {task} cannot be made.", expected="one of Gymnasium, and what it needs",
                        found=str(error),
                        remedy="check the name and its version; some need a package more, such as gymnasium[box2d]",
                        ) from None  # fmt: skip
    return prepared(made)


def _limited(environment: gymnasium.Env) -> gymnasium.Env:
    spec = environment.spec
    return environment if spec and spec.max_episode_steps else TimeLimit(environment, LONGEST)


def prepared(environments: VectorEnv) -> VectorEnv:
    """The environments, with observations of one axis.

    Raises:
        UserError: they reset themselves in another way than on the step after an episode's last, or show what cannot
            be laid out as numbers.
    """
    mode = environments.metadata.get("autoreset_mode")
    if mode != AutoresetMode.NEXT_STEP:
        raise UserError("The environments reset themselves in a way that the lab does not know.",
                        expected="metadata['autoreset_mode'] AutoresetMode.NEXT_STEP", found=str(mode))  # fmt: skip
    space = environments.single_observation_space
    if not space.is_np_flattenable:
        raise UserError("Nothing can be learned here.", expected="observations of a fixed number of numbers",
                        found=str(space))  # fmt: skip
    return environments if isinstance(space, Box) and len(space.shape) == 1 else FlattenObservation(environments)


class Counter:
    """Sums the rewards of N environments, and notes what each episode brought.

    Attributes:
        steps: so far, of all environments together, those that only reset included.
        episodes: those that ended.
    """

    def __init__(self, environments: int) -> None:
        self.steps = 0
        self.episodes: list[Episode] = []
        self._sums = np.zeros(environments)

    def count(self, rewards: NDArray, over: NDArray) -> None:
        """One step of each: rewards (N,), and which episodes (N,) ended with it."""
        self._sums += rewards
        self.steps += len(rewards)
        if over.any():
            self.episodes += [Episode(self.steps, float(reward)) for reward in self._sums[over]]
            self._sums[over] = 0


def evaluate(agent: Acts, environments: VectorEnv, seed: int | Seeds) -> NDArray:
    """The undiscounted return of the first episode of each environment (N,): short ones do not count more often.

    Args:
        agent: acts on observations (N, O).
        environments: N; their observations as in training.
        seed: of their first states, or one for each.
    """
    observations, _ = environments.reset(seed=seed)  # type: ignore[arg-type]  # vectors take lists, too
    returns, running = np.zeros(environments.num_envs), np.ones(environments.num_envs, bool)
    while running.any():
        observations, rewards, terminated, truncated, _ = environments.step(agent.best(observations))
        returns += rewards * running
        running &= ~(terminated | truncated)
    return returns


def judged(
    agent: Acts, task: str, seed: int, episodes: int, training: Sequence[Episode], steps: int, seconds: float
) -> Run:
    """What a training came to: the agent it ended with plays fresh episodes, whose seeds training has not used.

    Args:
        agent: what was learned.
        task: an environment of Gymnasium.
        seed: of the training.
        episodes: of the evaluation.
        training: the episodes that ended in training.
        steps: of training.
        seconds: that it took.
    """
    returns = evaluate(agent, side_by_side(task, episodes), seeds(seed, EVALUATING)(episodes))
    points = np.linspace(0, steps, POINTS + 1).round().astype(int)[1:]
    return Run(seed, returns.tolist(), points.tolist(), means(training, points), seconds)


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


def mean_returns(runs: Sequence[Run]) -> list[float]:
    """Of each run's evaluation."""
    return [float(np.mean(run.evaluation)) for run in runs]
