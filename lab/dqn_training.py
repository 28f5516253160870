"""Deep Q-learning with the world: steps, remembers, learns, and plays fresh episodes at the end.

run = trained("CartPole-v1", seed=0, settings=Settings())
run.evaluation                       # (100,) returns of the policy after the last step

N environments step side by side and reset themselves on the step after an episode's last; that step is no transition
and is not learned from. What an episode ended in is kept as it was seen.
"""

from contextlib import closing
from dataclasses import dataclass

import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from lab.dqn_learner import Learner, Settings
from lab.replay import PrioritisedReplay, Replay, Transitions
from lab.runs import Counter, Episode, Run, judged, prepared, side_by_side
from lab.schedules import linear
from lab.seeds import DRAWING, TRAINING, Seeds, seeds
from rlhf.errors import UserError
from rlhf.stopwatch import now


@dataclass(frozen=True)
class Training:
    """How it went."""

    learner: Learner
    episodes: list[Episode]
    """With exploration."""


def trained(task: str, seed: int, settings: Settings, episodes: int = 100) -> Run:
    """Train, then evaluate the policy after the last step.

    Args:
        task: an environment of Gymnasium.
        seed: of everything random.
        settings: of the learning.
        episodes: of the evaluation.

    Raises:
        UserError: no such environment, or its spaces are of another kind.
    """
    began = now()
    training = train(side_by_side(task, settings.environments), settings, seed)
    return judged(training.learner, task, seed, episodes, training.episodes, settings.steps, now() - began)


def check(task: str, settings: Settings) -> None:
    """Refuse what cannot be learned, before anything is trained. Raises `UserError` as `trained`."""
    with closing(side_by_side(task, settings.environments)) as environments:
        Collector(environments, [None] * settings.environments)


def train(environments: VectorEnv, settings: Settings, seed: int) -> Training:
    """Learn from `settings.steps` steps of all environments together.

    Args:
        environments: `settings.environments` of them; observations are numbers, actions Discrete.
        settings: of the learning.
        seed: of everything random.
    """
    world = Collector(environments, seeds(seed, TRAINING)(environments.num_envs))
    learner = Learner(world.observation_size, world.actions, settings, seed)
    learn(learner, new_memory(settings, world.observation_size), world, np.random.default_rng([seed, DRAWING]))
    return Training(learner, world.counter.episodes)


def learn(learner: Learner, memory: Replay, world: "Collector", generator: np.random.Generator) -> None:
    """Step all environments, remember, learn from what is remembered; again and again."""
    settings, environments = learner.settings, world.environments
    exploration = linear(1.0, settings.final_exploration, settings.exploration_fraction)
    learning_rate = linear(settings.learning_rate, settings.final_learning_rate)
    beta = linear(settings.beta, 1.0)
    rounds = 0
    for done in range(environments, settings.steps + 1, environments):
        progress = done / settings.steps
        random = generator.random(environments) < (exploration(progress) if done > settings.warmup else 1.0)
        chance = generator.integers(world.actions, size=environments)
        memory.add(world.step(np.where(random, chance, learner.best(world.observations))))
        due, rounds = done // settings.train_every - rounds, done // settings.train_every
        if done > settings.warmup:
            for _ in range(due * max(1, round(settings.replay_ratio * settings.train_every))):
                sample = memory.sample(settings.batch, generator, beta(progress))
                memory.reprioritise(sample.slots, learner.update(sample, learning_rate(progress)))


def new_memory(settings: Settings, observation_size: int) -> Replay:
    """As the settings want it; no larger than training can fill."""
    capacity = max(min(settings.capacity, settings.steps), settings.environments)
    if settings.prioritised:
        return PrioritisedReplay(capacity, (observation_size,), settings.alpha)
    return Replay(capacity, (observation_size,))


class Collector:
    """Environments side by side that give transitions, without the steps that only reset.

    Args:
        environments: N of them.
        seed: of their first states.

    Raises:
        UserError: their spaces are of another kind, or they reset themselves in another way.
    """

    def __init__(self, environments: VectorEnv, seed: Seeds) -> None:
        self._environments = prepared(environments)
        actions, shape = environments.single_action_space, self._environments.single_observation_space.shape
        if not (isinstance(actions, Discrete) and actions.start == 0):
            raise UserError("DQN cannot act in this environment.", expected="actions Discrete(n) from 0",
                            found=str(actions), remedy="choose another of --tasks")  # fmt: skip
        assert shape is not None
        self.environments, self.observation_size, self.actions = environments.num_envs, shape[0], int(actions.n)
        self.observations = np.asarray(self._environments.reset(seed=seed)[0], np.float32)  # type: ignore[arg-type]
        self.counter = Counter(self.environments)
        self._resetting = np.zeros(self.environments, np.bool_)

    def step(self, actions: NDArray[np.int64]) -> Transitions:
        """Do actions (N,); the transitions to learn from, none of an environment that was only reset."""
        following, rewards, terminated, truncated, _ = self._environments.step(actions)
        before, self.observations = self.observations, np.asarray(following, np.float32)
        real = ~self._resetting
        self._resetting = terminated | truncated
        self.counter.count(rewards, self._resetting)
        return Transitions(
            before[real], actions[real], rewards[real].astype(np.float32), self.observations[real], terminated[real]
        )
