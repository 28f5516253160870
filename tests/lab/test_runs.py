"""Environments side by side, episodes and their curves, evaluations: by hand and in worlds whose returns are known."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Sequence
from gymnasium.vector import AutoresetMode

from lab import runs
from lab.runs import LONGEST, POINTS, Counter, Episode, Run, evaluate, judged, mean_returns, means, prepared
from rlhf.errors import UserError
from tests.lab.worlds import Identity, Pays, side_by_side


class First:
    """Does the first thing, always."""

    def best(self, observations):
        return np.zeros(len(observations), np.int64)


class Growing(Identity):
    """Shows ever more."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = Sequence(Box(0.0, 1.0, (1,)))


class Endless(Pays):
    """Stops for nobody."""

    def __init__(self) -> None:
        super().__init__(1.0, steps=-1)


@pytest.fixture
def worlds():
    """Registered under the names of their classes, for this test only."""
    kinds = (Growing, Endless)
    for kind in kinds:
        gymnasium.register(f"{kind.__name__}-v0", kind)
    yield
    for kind in kinds:
        del gymnasium.registry[f"{kind.__name__}-v0"]


def test_means_of_the_episodes_between_two_points_by_hand():
    episodes = [Episode(11, 1.0), Episode(20, 3.0), Episode(45, 10.0)]
    assert means(episodes, np.array([10, 20, 30, 40, 50])) == [None, 2.0, 2.0, 2.0, 10.0]


def test_rewards_are_summed_up_to_the_end_of_each_episode():
    counter = Counter(2)
    for rewards, over in (([1, 2], [False, True]), ([3, 4], [True, False]), ([5, 6], [False, True])):
        counter.count(np.array(rewards, float), np.array(over))
    assert counter.steps == 6
    assert counter.episodes == [Episode(2, 2.0), Episode(4, 4.0), Episode(6, 10.0)]


def test_a_return_is_of_one_episode_whatever_the_others_last():
    lengths = iter((2, 5))
    environments = side_by_side(lambda: Pays(3.0, steps=next(lengths)), 2)
    assert evaluate(First(), environments, [1, 2]).tolist() == [6.0, 15.0]


def test_a_run_is_judged_on_fresh_episodes(worlds):
    run = judged(First(), "Endless-v0", 4, 3, [Episode(30, 2.0)], steps=100, seconds=1.5)
    assert run.evaluation == [float(LONGEST)] * 3 and run.seed == 4 and run.seconds == 1.5
    assert run.steps[-1] == 100 and len(run.steps) == POINTS
    assert run.curve[:7] == [None] * 7 and run.curve[7:] == [2.0] * (POINTS - 7)


def test_the_mean_return_of_each_run():
    assert mean_returns([Run(0, [1.0, 3.0], [1], [None], 1.0), Run(1, [5.0], [1], [None], 1.0)]) == [2.0, 5.0]


@pytest.mark.parametrize("task", ["Pong", "CartPole-v99", "no_such_package:World-v0"])
def test_environments_that_cannot_be_made_are_refused(task):
    with pytest.raises(UserError, match=f"{task} cannot be made"):
        runs.side_by_side(task, 1)


def test_observations_without_a_size_are_refused(worlds):
    with pytest.raises(UserError, match="Nothing can be learned"):
        runs.side_by_side("Growing-v0", 1)


def test_environments_that_reset_themselves_at_once_are_refused():
    with pytest.raises(UserError, match="reset themselves"):
        prepared(side_by_side(Identity, 2, AutoresetMode.SAME_STEP))


@pytest.mark.parametrize(("task", "size"), [("FrozenLake-v1", 16), ("CartPole-v1", 4), ("Blackjack-v1", 32 + 11 + 2)])
def test_observations_are_of_one_axis(task, size):
    assert runs.side_by_side(task, 2).single_observation_space.shape == (size,)


def test_episodes_without_a_limit_are_cut_short_and_others_keep_theirs(worlds):
    endless = runs.side_by_side("Endless-v0", 1)
    endless.reset(seed=0)
    cut = [bool(endless.step(np.zeros(1, int))[3][0]) for _ in range(LONGEST)]
    assert cut == [False] * (LONGEST - 1) + [True]
    assert runs.side_by_side("Acrobot-v1", 1).envs[0].spec.max_episode_steps == 500
