"""What deep Q-learning learns in small worlds whose answer is known."""

from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit

from lab.dqn_learner import Learner, Settings
from lab.dqn_training import Collector, evaluate, learn, train
from lab.replay import PrioritisedReplay, Replay
from lab.seeds import seeds
from rlhf.errors import UserError

QUICK = Settings(
    hidden=(32,), learning_rate=3e-3, batch=32, warmup=100, environments=4, train_every=16, updates=8, target_every=8,
    target_rate=1.0, exploration_fraction=0.5,
)  # fmt: skip


class Same(gymnasium.Env):
    """The right action is the one that is seen; each such step gives 1."""

    observation_space = gymnasium.spaces.Box(0, 1, (3,))
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action):
        reward = float(action == self._wanted)
        return self._look(), reward, False, False, {}

    def _look(self):
        self._wanted = int(self.np_random.integers(3))
        return np.eye(3, dtype=np.float32)[self._wanted]


class Paid(gymnasium.Env):
    """The same every step, whatever is done: it gives 2. `ends`: after four steps the task is over."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, ends: bool = False) -> None:
        self._ends, self._steps = ends, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return np.ones(1, np.float32), {}

    def step(self, action):
        self._steps += 1
        return np.ones(1, np.float32), 2.0, self._ends and self._steps == 4, False, {}


def limited(world: type[gymnasium.Env], steps: int) -> gymnasium.Env:
    return TimeLimit(world(), steps)


def learned(make, settings: Settings, memory, steps: int) -> Learner:
    with Collector(make, settings.environments, seeds(0, 0)) as world:
        learner = Learner(world.observation_size, world.actions, settings, seed=0)
        for _ in learn(learner, memory, world, steps, np.random.default_rng(0)):
            pass
    return learner


@pytest.mark.parametrize("prioritised", [False, True])
def test_learns_to_do_what_it_sees(prioritised) -> None:
    settings = replace(QUICK, discount=0.5, prioritised=prioritised)
    run = train(partial(limited, Same, 20), settings, steps=2400, seed=0, checks=3, episodes=20)
    assert run.last.tolist() == [20.0] * 20
    assert run.curve.steps == [800, 1600, 2400] and run.kept_at == 2400


@pytest.mark.parametrize("memory", [Replay(2000, (1,)), PrioritisedReplay(2000, (1,))])
def test_truncation_bootstraps_and_resets_teach_nothing(memory) -> None:
    learner = learned(partial(limited, Paid, 5), replace(QUICK, discount=0.5), memory, 2400)
    values = learner.network(torch.ones(1, 1))
    # 2 + .5 · 2 + … = 4. Were the limit an end in one step of five, or resets (reward 0) learned from: 3.33.
    assert values.tolist() == [[pytest.approx(4, abs=0.1)] * 2]


def test_transitions_skip_the_reset_and_know_an_end_from_a_limit() -> None:
    with Collector(partial(limited, Paid, 2), 1, seeds(0, 0)) as world:
        sizes = [world.step(np.zeros(1, np.int64)) for _ in range(6)]
    assert [len(step.actions) for step in sizes] == [1, 1, 0, 1, 1, 0]
    assert not any(step.terminated.any() for step in sizes)
    with Collector(partial(Paid, True), 1, seeds(0, 0)) as world:
        ends = [world.step(np.zeros(1, np.int64)).terminated.tolist() for _ in range(6)]
    assert ends == [[False], [False], [False], [True], [], [False]]


def test_a_return_is_of_one_episode() -> None:
    learner = Learner(1, 2, QUICK, seed=0)
    assert evaluate(partial(Paid, True), learner, [1, 2, 3]).tolist() == [8, 8, 8]
    assert evaluate(partial(limited, Paid, 3), learner, [1]).tolist() == [6]


def test_the_same_seed_gives_the_same_run() -> None:
    settings = Settings(hidden=(8,), environments=2, warmup=50, train_every=20, updates=4)
    make = partial(gymnasium.make, "CartPole-v1")
    first, again, other = (train(make, settings, 400, seed, checks=2, episodes=10) for seed in (3, 3, 4))
    assert first.curve == again.curve and (first.last == again.last).all()
    assert (first.last != other.last).any()


@pytest.mark.parametrize("name", ["Pendulum-v1", "FrozenLake-v1"])
def test_refuses_other_spaces(name) -> None:
    with pytest.raises(UserError, match="cannot learn"):
        train(partial(gymnasium.make, name), QUICK, 400, 0)
