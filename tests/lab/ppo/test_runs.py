"""Runs, their curves, the study of settings and its figure, on few steps."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Sequence

from lab.ppo import figures
from lab.ppo.rollout import Episode
from lab.ppo.runs import LONGEST, POINTS, Run, check, environments, means, trained
from lab.ppo.settings import TASKS, Settings, usual
from lab.ppo.study import SWEPT, outcomes, sweep
from rlhf.errors import UserError
from tests.lab.ppo.worlds import Identity, Pays

FEW = {"steps": 1_024, "environments": 4, "horizon": 64, "epochs": 1}


def test_means_of_the_episodes_between_two_points_by_hand():
    episodes = [Episode(11, 1.0), Episode(20, 3.0), Episode(45, 10.0)]
    assert means(episodes, np.array([10, 20, 30, 40, 50])) == [None, 2.0, 2.0, 2.0, 10.0]


@pytest.mark.parametrize("task", [*TASKS, "MountainCar-v0", "FrozenLake-v1", "Blackjack-v1"])
def test_every_task_can_be_trained_and_others_too(task):
    check(task, usual(task))
    run = trained(task, seed=3, settings=replace(usual(task), **FEW), episodes=2)
    assert run.seed == 3 and len(run.evaluation) == 2 and np.isfinite(run.evaluation).all()
    assert len(run.steps) == len(run.curve) == POINTS and run.steps[-1] == 1_024 and run.seconds > 0


def test_a_sweep_changes_one_setting_at_a_time_and_trains_what_is_usual_once():
    changes = FEW | {"epochs": 8}
    found = sweep("CartPole-v1", {"clip": [0.001, 0.2], "lam": [0.8, 1.0]}, range(2), changes, episodes=2, workers=1)
    assert {name: list(values) for name, values in found.items()} == {"clip": [0.001, 0.2], "lam": [0.8, 1.0]}
    assert found["clip"][0.2] is found["lam"][0.8]
    assert [run.seed for run in found["lam"][1.0]] == [0, 1]
    assert found["clip"][0.001][0].evaluation != found["clip"][0.2][0].evaluation
    assert len(figures.sensitivity(found, "CartPole-v1").data) == 2 * 2 * 2


def test_a_sweep_is_judged_by_what_runs_reached_and_what_they_did_meanwhile():
    runs = [Run(0, [4.0, 6.0], [10, 20], [None, 3.0], 1.0), Run(1, [1.0], [10, 20], [2.0, 4.0], 1.0)]
    found = outcomes({"clip": {0.2: runs}})
    assert found == {"clip": {"0.2": {"Evaluation return": [5.0, 1.0], "Mean training return": [3.0, 3.0]}}}


def test_what_is_swept_holds_what_is_usual():
    settings = TASKS["CartPole-v1"].settings
    assert all(getattr(settings, name) in values for name, values in SWEPT.items())


class Numbers(Identity):
    """Takes whole numbers, not any others."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = Box(0, 3, (2,), np.int64)


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
    kinds = (Numbers, Growing, Endless)
    for kind in kinds:
        gymnasium.register(f"{kind.__name__}-v0", kind)
    yield
    for kind in kinds:
        del gymnasium.registry[f"{kind.__name__}-v0"]


@pytest.mark.parametrize(
    ("task", "named"),
    [("Pong", "Pong cannot be made"), ("CartPole-v99", "CartPole-v99"), ("no_such_package:World-v0", "no_such_package"),
     ("Numbers-v0", "cannot act"), ("Growing-v0", "cannot see")],
)  # fmt: skip
def test_what_cannot_be_learned_is_refused(worlds, task, named):
    with pytest.raises(UserError, match=named):
        check(task, Settings())


def test_episodes_without_a_limit_are_cut_short_and_others_keep_theirs(worlds):
    endless = environments("Endless-v0", 1)
    endless.reset(seed=0)
    cut = [bool(endless.step(np.zeros(1, int))[3][0]) for _ in range(LONGEST)]
    assert cut == [False] * (LONGEST - 1) + [True]
    assert environments("Acrobot-v1", 1).envs[0].spec.max_episode_steps == 500
