"""`python -m lab.ppo`: what it writes, and what it refuses."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lab.experiment import Experiment
from lab.ppo.command import Arguments, claim, main
from lab.ppo.runs import Run
from rlhf.errors import UserError


@pytest.mark.slow  # a browser draws the figures
def test_the_command_writes_results_and_figures(tmp_path, capsys):
    main(Arguments(out=tmp_path, tasks=("CartPole-v1", "Pendulum-v1"), seeds=2, share=0.02, episodes=3, workers=1))
    results = json.loads((tmp_path / "ppo.json").read_text(encoding="utf-8"))
    found = results["results"]["CartPole-v1"]
    assert results["claims"] == [] and len(found["means"]) == len(found["runs"]) == 2
    assert found["means"][0] == pytest.approx(np.mean(found["runs"][0]["evaluation"]))
    assert found["settings"]["steps"] == 2_000
    assert {path.name for path in tmp_path.glob("*.html")} == {"ppo-curves.html", "ppo-evaluations.html"}
    assert str(tmp_path / "ppo.json") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"tasks": ("Pong",)}, "Pong"), ({"tasks": ()}, "none"), ({"seeds": 0}, "--seeds"), ({"share": 1.5}, "--share"),
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


def test_a_slip_ends_in_one_message():
    done = subprocess.run([sys.executable, "-m", "lab.ppo", "--tasks", "Pong"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--tasks is out of range" in done.stderr and "Traceback" not in done.stderr
