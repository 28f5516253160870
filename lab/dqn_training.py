"""Deep Q-learning in the world: environments side by side, exploration, replay, evaluation.

run = train(partial(gymnasium.make, "CartPole-v1"), Settings(), steps=50_000, seed=0)
run.curve.means, run.kept.mean()              # greedy returns on the way; 100 episodes of the policy kept

Environments that end are reset by the step after (Gymnasium ≥ 1.0, "next step" autoreset). That step leads from the end
of one episode to the start of another and its action does nothing: it counts as a step and is not learned from.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from lab.dqn_learner import Learner, Settings
from lab.replay import Floats, PrioritisedReplay, Replay, Transitions
from lab.schedules import linear
from lab.seeds import CHECKING, DRAWING, EVALUATING, TRAINING, Seeds, seeds
from rlhf.errors import UserError

Make = Callable[[], gymnasium.Env]
LONGEST = 10_000
"""Steps after which an episode is evaluated no further, for tasks without a time limit."""


class Curve(NamedTuple):
    """What the greedy policy reached while it learned."""

    steps: list[int]
    """Steps made before each check."""
    means: list[float]
    """Mean return of its episodes."""


class Run(NamedTuple):
    """One training."""

    curve: Curve
    kept_at: int
    """Steps made when the policy that did best in a check was kept; the later one, where two are as good."""
    kept: Floats
    """(episodes,): its returns on fresh seeds."""
    last: Floats
    """(episodes,): those of the policy after the last step, on the same seeds."""


def train(make: Make, settings: Settings, steps: int, seed: int, checks: int = 20, episodes: int = 100) -> Run:
    """Learn, check the greedy policy on the way, keep the best, evaluate it on seeds never used before.

    Args:
        make: makes an environment; its observations are numbers (Box), its actions Discrete.
        settings: of the learning.
        steps: of all environments together, rounded down to what they make side by side; at least `checks`.
        seed: of everything random.
        checks: how often the policy is checked, in tenths of `episodes`, at equal distances, at the end too.
        episodes: of the evaluation.

    Raises:
        UserError: the environment's spaces are of another kind.
    """
    steps -= steps % settings.environments
    with _one_thread(), Collector(make, settings.environments, seeds(seed, TRAINING)) as world:
        learner = Learner(world.observation_size, world.actions, settings, seed)
        memory = _memory(settings, world.observation_shape, steps)
        curve, best = Curve([], []), -np.inf
        for done in learn(learner, memory, world, steps, np.random.default_rng([seed, DRAWING])):
            if done * checks // steps > len(curve.steps):
                fresh = seeds(seed, CHECKING, done)(max(episodes // 10, 1))
                curve.steps.append(done)
                curve.means.append(float(evaluate(make, learner, fresh).mean()))
                if curve.means[-1] >= best:
                    best, kept_at, kept = curve.means[-1], done, copy.deepcopy(learner)
        fresh = seeds(seed, EVALUATING)(episodes)
        return Run(curve, kept_at, evaluate(make, kept, fresh), evaluate(make, learner, fresh))


def evaluate(make: Make, learner: Learner, seeds: Seeds) -> Floats:
    """Returns (episodes,) of the greedy policy, an episode for each seed, all side by side."""
    envs = SyncVectorEnv([make] * len(seeds), autoreset_mode=AutoresetMode.NEXT_STEP)
    returns, running = np.zeros(len(seeds)), np.ones(len(seeds), np.bool_)
    observations, _ = envs.reset(seed=seeds)
    for _ in range(LONGEST):
        observations, rewards, terminated, truncated, _ = envs.step(learner.act(np.asarray(observations, np.float32)))
        returns += rewards * running
        running &= ~(terminated | truncated)
        if not running.any():
            break
    envs.close()
    return returns.astype(np.float32)


def learn(
    learner: Learner, memory: Replay, world: "Collector", steps: int, generator: np.random.Generator
) -> Iterator[int]:
    """Step, remember, learn; yields the steps made, after each step of all environments and what is learned from it."""
    settings = learner.settings
    exploration = linear(1.0, settings.final_exploration, settings.exploration_fraction)
    learning_rate = linear(settings.learning_rate, settings.final_learning_rate)
    beta = linear(settings.beta, 1.0)
    rounds = 0
    for done in range(settings.environments, steps + 1, settings.environments):
        progress = done / steps
        random = generator.random(settings.environments) < (exploration(progress) if done > settings.warmup else 1.0)
        chance = generator.integers(world.actions, size=settings.environments)
        memory.add(world.step(np.where(random, chance, learner.act(world.observations))))
        if done // settings.train_every > rounds:
            rounds = done // settings.train_every
            if done > settings.warmup:
                for _ in range(settings.updates):
                    sample = memory.sample(settings.batch, generator, beta(progress))
                    memory.reprioritise(sample.slots, learner.update(sample, learning_rate(progress)))
        yield done


def _memory(settings: Settings, observation_shape: tuple[int, ...], steps: int) -> Replay:
    capacity = max(min(settings.capacity, steps), settings.environments)
    if settings.prioritised:
        return PrioritisedReplay(capacity, observation_shape, settings.alpha)
    return Replay(capacity, observation_shape)


class Collector:
    """Environments side by side that give transitions, without the steps that only reset."""

    def __init__(self, make: Make, count: int, seeds: Callable[[int], Seeds]) -> None:
        self._envs = SyncVectorEnv([make] * count, autoreset_mode=AutoresetMode.NEXT_STEP)
        seen, done = self._envs.single_observation_space, self._envs.single_action_space
        if not (isinstance(seen, spaces.Box) and isinstance(done, spaces.Discrete) and done.start == 0):
            raise UserError("DQN cannot learn here.", expected="Box observations, Discrete actions from 0",
                            found=f"{seen} and {done}", remedy="choose another --environment")  # fmt: skip
        self.observation_shape = seen.shape
        self.observation_size = int(np.prod(seen.shape))
        self.actions = int(done.n)
        self.observations = np.asarray(self._envs.reset(seed=seeds(count))[0], np.float32)
        self._resetting = np.zeros(count, np.bool_)

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, *_: object) -> None:
        self._envs.close()

    def step(self, actions: NDArray[np.int64]) -> Transitions:
        """Do actions (environments,); the transitions to learn from, none of an environment that was only reset."""
        following, rewards, terminated, truncated, _ = self._envs.step(actions)
        before, self.observations = self.observations, np.asarray(following, np.float32)
        real = ~self._resetting
        self._resetting = terminated | truncated
        return Transitions(
            before[real], actions[real], rewards[real].astype(np.float32), self.observations[real], terminated[real]
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a network gains nothing by more threads, and the result would depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
