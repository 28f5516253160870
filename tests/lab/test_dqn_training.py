"""What deep Q-learning learns in small worlds whose answer is known."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import TimeLimit

from lab.dqn_learner import Learner, Settings
from lab.dqn_training import Collector, check, learn, train, trained
from lab.replay import PrioritisedReplay, Replay
from lab.runs import Episode, evaluate, prepared
from lab.seeds import seeds
from rlhf.errors import UserError
from tests.lab.worlds import Identity, side_by_side

QUICK = Settings(
    steps=2400, hidden=(32,), learning_rate=3e-3, batch=32, warmup=100, environments=4, train_every=16,
    replay_ratio=0.5, target_every=8, target_rate=1.0, exploration_fraction=0.5,
)  # fmt: skip


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


def worlds(ends: bool = False, limit: int | None = None, many: int = 4) -> VectorEnv:
    """`Paid`, cut short after so many steps."""
    return side_by_side(lambda: TimeLimit(Paid(ends), limit) if limit else Paid(ends), many)


def learned(environments: VectorEnv, settings: Settings, memory: Replay) -> Learner:
    world = Collector(environments, seeds(0, 0)(environments.num_envs))
    learner = Learner(world.observation_size, world.actions, settings, seed=0)
    learn(learner, memory, world, np.random.default_rng(0))
    return learner


@pytest.mark.parametrize("prioritised", [False, True])
def test_learns_to_do_what_it_sees(prioritised) -> None:
    settings = replace(QUICK, discount=0.5, prioritised=prioritised)
    training = train(side_by_side(Identity, 4), settings, seed=0)
    assert evaluate(training.learner, prepared(side_by_side(Identity, 20)), seed=1).tolist() == [10.0] * 20
    assert training.episodes[-1].reward > 5 > training.episodes[0].reward


@pytest.mark.parametrize("memory", [Replay(2000, (1,)), PrioritisedReplay(2000, (1,))])
def test_truncation_bootstraps_and_resets_teach_nothing(memory) -> None:
    learner = learned(worlds(limit=5), replace(QUICK, discount=0.5), memory)
    values = learner.network(torch.ones(1, 1))
    # 2 + .5 · 2 + … = 4. Were the limit an end in one step of five, or resets (reward 0) learned from: 3.33.
    assert values.tolist() == [[pytest.approx(4, abs=0.1)] * 2]


def test_transitions_skip_the_reset_and_know_an_end_from_a_limit() -> None:
    world = Collector(worlds(limit=2, many=1), [0])
    sizes = [world.step(np.zeros(1, np.int64)) for _ in range(6)]
    assert [len(step.actions) for step in sizes] == [1, 1, 0, 1, 1, 0]
    assert not any(step.terminated.any() for step in sizes)
    assert world.counter.episodes == [Episode(2, 4.0), Episode(5, 4.0)]
    world = Collector(worlds(ends=True, many=1), [0])
    ends = [world.step(np.zeros(1, np.int64)).terminated.tolist() for _ in range(6)]
    assert ends == [[False], [False], [False], [True], [], [False]]


@pytest.mark.parametrize(("environments", "train_every"), [(8, 4), (8, 8), (8, 12), (32, 8)])
def test_the_replay_ratio_holds_however_steps_and_rounds_fall(monkeypatch, environments, train_every) -> None:
    updates = []
    monkeypatch.setattr(
        Learner, "update", lambda self, sample, rate: updates.append(rate) or np.zeros(len(sample.slots))
    )
    settings = replace(QUICK, steps=960, environments=environments, train_every=train_every, warmup=0)
    train(side_by_side(Identity, environments), settings, seed=0)
    assert len(updates) == 480


def test_the_same_seed_gives_the_same_run() -> None:
    settings = Settings(steps=400, hidden=(8,), environments=2, warmup=50, train_every=20, replay_ratio=0.2)
    first, again, other = (trained("CartPole-v1", seed, settings, episodes=10) for seed in (3, 3, 4))
    assert replace(first, seconds=0.0) == replace(again, seconds=0.0)
    assert first.evaluation != other.evaluation and first.curve != other.curve


def test_observations_that_are_no_numbers_are_laid_out_as_such() -> None:
    run = trained("FrozenLake-v1", 0, replace(QUICK, steps=400), episodes=5)
    assert set(run.evaluation) <= {0.0, 1.0}


@pytest.mark.parametrize(("name", "message"), [("Pendulum-v1", "cannot act"), ("NoSuchTask-v1", "cannot be made")])
def test_refuses_what_cannot_be_learned(name, message) -> None:
    for refuse in (check, lambda task, settings: trained(task, 0, settings)):
        with pytest.raises(UserError, match=message):
            refuse(name, QUICK)
