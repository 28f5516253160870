"""Both sides of the comparison are given the same, and what is printed is what was measured."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed (make dev)")

from benchmarks.lab_vs_sb3 import as_sb3, main, sb3, table
from lab.ppo.settings import TASKS


def test_settings_of_mountain_car_as_stable_baselines_has_them():
    theirs = as_sb3(TASKS["MountainCarContinuous-v0"].settings)
    assert theirs["vf_coef"] == 0.5  # of the whole squared error
    assert (theirs["use_sde"], theirs["sde_sample_freq"]) == (True, -1)
    assert theirs["policy_kwargs"]["log_std_init"] == -2 and not theirs["policy_kwargs"]["ortho_init"]


def test_schedules_go_by_what_is_left():
    theirs = as_sb3(TASKS["CartPole-v1"].settings)
    assert theirs["learning_rate"](1.0) == 1e-3 and theirs["learning_rate"](0.25) == pytest.approx(2.5e-4)
    assert theirs["clip_range"](0.0) == 0 and "use_sde" not in theirs


def test_their_normalised_observations_are_evaluated_normalised():
    settings = replace(TASKS["Acrobot-v1"].settings, steps=64, environments=2, horizon=32, batch=32, epochs=1)
    done = sb3("Acrobot-v1", settings, seed=0)
    assert -500 <= done.mean_return < 0 and done.steps_a_second > 0


def test_table_by_hand():
    found = {"steps_a_second": {"lab": 3000.0, "sb3": 1500.0}, "times": 2.0,
             "median_return": {"lab": 500.0, "sb3": 499.5}}  # fmt: skip
    assert table({"CartPole-v1": found}).splitlines()[-1] == "| CartPole-v1 | 3000 | 1500 | 2.00 | 500.0 | 499.5 |"


def test_both_sides_take_turns_and_make_as_many_updates(tmp_path, capsys):
    main(["--tasks", "CartPole-v1", "--rounds", "2", "--share", "0.006", "--out", str(tmp_path / "speed.json")])
    found = json.loads((tmp_path / "speed.json").read_text())["tasks"]["CartPole-v1"]
    assert found["steps"] == 512  # two rollouts of 8 · 32 steps; 600 would have been asked for
    assert found["times"] == pytest.approx(found["steps_a_second"]["lab"] / found["steps_a_second"]["sb3"])
    turns = [line.split()[3] for line in capsys.readouterr().out.splitlines() if " round " in line]
    assert turns == ["lab", "sb3", "sb3", "lab"]


def test_no_rounds_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
    assert "--rounds must be 1 or more" in capsys.readouterr().err
