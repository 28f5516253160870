"""What a rollout holds, step by step."""

import numpy as np

from lab.ppo.actor import Actor
from lab.ppo.normalise import Observations
from lab.ppo.policy import Policy
from lab.ppo.rollout import Collector
from lab.ppo.settings import Settings
from lab.runs import Episode
from tests.lab.worlds import Pays, side_by_side

SETTINGS = Settings(environments=2, horizon=8, hidden=(4,))


def collector():
    worlds = side_by_side(lambda: Pays(2.0, steps=3), 2)
    policy = Policy(2, worlds.single_action_space, SETTINGS, seed=0)
    actor = Actor(policy, worlds.single_action_space, 2, SETTINGS, np.random.default_rng(0))
    return Collector(worlds, actor, Observations(2, normalise=False), SETTINGS, seed=0)


def test_every_fourth_step_only_resets():
    rollout = collector().collect()
    assert rollout.mask[:, 0].tolist() == [True, True, True, False] * 2
    assert rollout.rewards[:, 1].tolist() == [2.0, 2.0, 2.0, 0.0] * 2
    assert rollout.continues.all()


def test_observations_are_those_that_were_acted_on_and_the_next_rollout_goes_on_from_the_last():
    worlds = collector()
    first = worlds.collect()
    np.testing.assert_array_equal(first.raw, first.observations[:-1])
    assert len(np.unique(first.raw[:, 0], axis=0)) == 8
    behind = first.observations[-1].copy()
    second = worlds.collect()
    np.testing.assert_array_equal(second.observations[0], behind)
    assert second.mask[:, 0].tolist() == [True, True, True, False] * 2


def test_steps_resets_and_episodes_are_counted():
    worlds = collector()
    worlds.collect()
    assert (worlds.counter.steps, worlds.resets) == (16, 4)
    assert worlds.counter.episodes == [Episode(6, 6.0)] * 2 + [Episode(14, 6.0)] * 2
