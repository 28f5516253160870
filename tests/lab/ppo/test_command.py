"""`python -m lab.ppo`: what it writes, and what it refuses."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tyro

from lab.experiment import Experiment
from lab.ppo.command import SWEPT, Arguments, claim, main
from lab.ppo.settings import TASKS
from lab.runs import Run
from rlhf.errors import UserError


@pytest.mark.slow  # a browser draws the figures
def test_the_command_writes_results_and_figures(tmp_path, capsys):
    main(Arguments(out=tmp_path, tasks=("CartPole-v1", "Pendulum-v1"), seeds=1, share=0.05, episodes=2, workers=1))
    results = json.loads((tmp_path / "ppo.json").read_text(encoding="utf-8"))
    found, study = results["results"]["CartPole-v1"], results["results"]["study"]
    assert results["claims"] == [] and len(found["means"]) == len(found["runs"]) == 1
    assert found["means"][0] == pytest.approx(np.mean(found["runs"][0]["evaluation"]))
    assert found["settings"]["steps"] == 5_000 and found["unclaimed"] == "trained for 0.05 of its steps"
    assert found["runs"][0]["steps"][-1] == 4_864, "nineteen whole rollouts of 256"
    assert study["steps"] == 1_792 and {name: list(of) for name, of in study["outcomes"].items()} == {
        name: [f"{value:g}" for value in values] for name, values in SWEPT.items()
    }
    drawn = {f"ppo-{name}.html" for name in ("curves", "evaluations", "study")}
    assert {path.name for path in tmp_path.glob("*.html")} == drawn
    assert str(tmp_path / "ppo.json") in capsys.readouterr().out


@pytest.mark.slow  # a browser draws the figures
def test_with_other_settings_nothing_is_claimed_and_nothing_studied(tmp_path, capsys):
    few = ("steps=1024", "epochs=1", "hidden=[8]", "clip_course=constant")
    main(Arguments(out=tmp_path, tasks=("CartPole-v1", "MountainCar-v0"), seeds=1, episodes=1, workers=1, set=(few,)))
    results = json.loads((tmp_path / "ppo.json").read_text(encoding="utf-8"))
    known, other = results["results"]["CartPole-v1"], results["results"]["MountainCar-v0"]
    assert results["claims"] == [] and set(results["results"]) == {"CartPole-v1", "MountainCar-v0"}
    assert known["settings"]["gamma"] == 0.98 and other["settings"]["gamma"] == 0.99, "each keeps what is not changed"
    assert known["settings"]["hidden"] == other["settings"]["hidden"] == [8]
    assert known["unclaimed"] == "settings differ: steps=1024, epochs=1, hidden=[8], clip_course=constant"
    assert other["unclaimed"] == "nothing published is known here"
    assert f"nothing is claimed ({known['unclaimed']})" in capsys.readouterr().out
    assert not (tmp_path / "ppo-study.html").exists()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"tasks": ()}, "none"), ({"set": (("clip",),)}, "name=value"), ({"set": (("clip=-1",),)}, "clip is out of range"),
     ({"set": (("learning_rat=1",),)}, "did you mean learning_rate"), ({"set": (("steps=few",),)}, "steps: "),
     ({"seeds": 0}, "--seeds"), ({"share": 1.5}, "--share"),
     ({"share": 0.0}, "--share"), ({"episodes": 0}, "--episodes"), ({"workers": 0}, "--workers")],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(wrong, named):
    with pytest.raises(UserError, match=named):
        Arguments(**wrong)


def test_every_seed_has_a_claim_of_its_own_or_all_have_one_together(tmp_path):
    runs = [Run(seed, [mean - 1, mean + 1], [10], [None], 1.0) for seed, mean in enumerate([500.0, 470.0, 90.0])]
    experiment = Experiment("ppo", Arguments(out=tmp_path))
    claim(experiment, "CartPole-v1", runs)
    claim(experiment, "MountainCarContinuous-v0", runs)
    assert [held["measured"] for held in experiment.claims] == [500, 470, 90, 470]
    assert [held["met"] for held in experiment.claims] == [True, False, False, True]


def test_what_is_set_comes_before_what_a_task_has_and_the_share_after():
    arguments = Arguments(set=(("steps=1e3", "learning_rate=3e-4"), ("hidden=[32,32]",)), share=0.5)
    settings = arguments.settings("CartPole-v1")
    assert settings == replace(TASKS["CartPole-v1"].settings, steps=500, learning_rate=3e-4, hidden=(32, 32))


def test_only_published_tasks_in_full_and_with_their_own_settings_are_claimed():
    assert Arguments().unclaimed("CartPole-v1") is None
    assert "0.5" in Arguments(share=0.5).unclaimed("CartPole-v1")
    assert "clip=0.1" in Arguments(set=(("clip=0.1",),)).unclaimed("CartPole-v1")
    assert Arguments().unclaimed("MountainCar-v0")


def test_slips_end_in_one_message(tmp_path):
    wrong = ["--tasks", "Pong", "--out", str(tmp_path / "none")]
    done = subprocess.run([sys.executable, "-m", "lab.ppo", *wrong], capture_output=True, text=True)
    assert done.returncode == 2 and not (tmp_path / "none").exists()
    assert "Pong cannot be made" in done.stderr and "Traceback" not in done.stderr


def test_set_may_be_repeated_on_the_command_line():
    given = tyro.cli(Arguments, args=["--set", "clip=0.1", "lam=0.5", "--set", "gamma=0.9", "--no-study"])
    assert given.changes() == {"clip": 0.1, "lam": 0.5, "gamma": 0.9} and not given.study
