"""Trainings by the name of a task, on few steps; what PPO cannot learn is refused."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from lab.ppo.command import SWEPT
from lab.ppo.runs import check, trained
from lab.ppo.settings import TASKS, Settings, usual
from lab.runs import POINTS
from rlhf.errors import UserError
from tests.lab.worlds import Identity

FEW = {"steps": 1_024, "environments": 4, "horizon": 64, "epochs": 1}


@pytest.mark.parametrize("task", [*TASKS, "MountainCar-v0", "FrozenLake-v1", "Blackjack-v1"])
def test_every_task_can_be_trained_and_others_too(task):
    check(task, usual(task))
    run = trained(task, seed=3, settings=replace(usual(task), **FEW), episodes=2)
    assert run.seed == 3 and len(run.evaluation) == 2 and np.isfinite(run.evaluation).all()
    assert len(run.steps) == len(run.curve) == POINTS and run.steps[-1] == 1_024 and run.seconds > 0


def test_what_is_swept_holds_what_is_usual():
    settings = TASKS["CartPole-v1"].settings
    assert all(getattr(settings, name) in values for name, values in SWEPT.items())


class Numbers(Identity):
    """Takes whole numbers, not any others."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = Box(0, 3, (2,), np.int64)


def test_actions_of_another_kind_are_refused():
    gymnasium.register("Numbers-v0", Numbers)
    try:
        with pytest.raises(UserError, match="cannot act"):
            check("Numbers-v0", Settings())
    finally:
        del gymnasium.registry["Numbers-v0"]


def test_fewer_steps_than_a_rollout_are_refused_and_a_curve_ends_where_training_did():
    with pytest.raises(UserError, match="learn nothing"):
        check("CartPole-v1", Settings(steps=255, environments=4, horizon=64))
    settings = replace(usual("CartPole-v1"), **FEW | {"steps": 600})
    assert (settings.updates, settings.taken) == (2, 512)
    assert trained("CartPole-v1", 0, settings, episodes=1).steps[-1] == 512
