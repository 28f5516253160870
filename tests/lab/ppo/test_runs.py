"""Runs, their curves, the study of settings and its figure, on few steps."""

import numpy as np
import pytest

from lab.ppo import figures
from lab.ppo.rollout import Episode
from lab.ppo.runs import POINTS, means, trained
from lab.ppo.settings import TASKS
from lab.ppo.study import SWEPT, sweep

FEW = {"steps": 1_024, "environments": 4, "horizon": 64, "epochs": 1}


def test_means_of_the_episodes_between_two_points_by_hand():
    episodes = [Episode(11, 1.0), Episode(20, 3.0), Episode(45, 10.0)]
    assert means(episodes, np.array([10, 20, 30, 40, 50])) == [None, 2.0, 2.0, 2.0, 10.0]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_can_be_trained(task):
    run = trained(task, seed=3, episodes=2, changes=FEW)
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


def test_what_is_swept_holds_what_is_usual():
    settings = TASKS["CartPole-v1"].settings
    assert all(getattr(settings, name) in values for name, values in SWEPT.items())
