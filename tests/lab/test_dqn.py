"""The command line of deep Q-learning: what it writes, what it claims, what it refuses."""

import json
import sys

import numpy as np
import pytest

from lab.dqn import SWEPT, Arguments, claim, command_line, main
from lab.dqn_learner import Settings
from lab.experiment import Experiment
from lab.runs import POINTS, Run

SHORT = "--seeds 2 --episodes 10 --workers 1 --no-study".split() + (
    "--dqn.steps 400 --dqn.hidden 8 --dqn.environments 2 --dqn.warmup 50 --dqn.train-every 40".split()
)


def call(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["dqn", *words])
    command_line(main, Arguments, "")


def test_writes_results_and_figures(monkeypatch, tmp_path) -> None:
    words = ("--tasks", "CartPole-v1", "FrozenLake-v1", "--variants", "double", "prioritised", "--out", str(tmp_path))
    call(monkeypatch, *SHORT, *words)
    whole = json.loads((tmp_path / "dqn.json").read_text())
    assert whole["claims"] == [], "settings differ"
    names = ["CartPole-v1, double", "CartPole-v1, prioritised", "FrozenLake-v1, double"]
    assert list(whole["results"]) == names
    for name, result in whole["results"].items():
        assert result["settings"]["prioritised"] == ("prioritised" in name) and result["unclaimed"]
        assert result["means"] == pytest.approx([np.mean(run["evaluation"]) for run in result["runs"]])
        for run in result["runs"]:
            assert len(run["evaluation"]) == 10 and len(run["curve"]) == POINTS and run["steps"][-1] == 400
    for name in ("curves", "evaluations"):
        assert "plotly" in (tmp_path / f"dqn-{name}.html").read_text()[:2000].lower()
    assert not (tmp_path / "dqn-study.html").exists()


def test_the_study_has_a_number_for_every_value_and_seed(monkeypatch, tmp_path) -> None:
    short = [word for word in SHORT if word != "--no-study"]
    words = ("--tasks", "CartPole-v1", "--variants", "double", "--dqn.steps", "100", "--out", str(tmp_path))
    call(monkeypatch, *short, *words)
    study = json.loads((tmp_path / "dqn.json").read_text())["results"]["study"]
    assert (study["task"], study["variant"]) == ("CartPole-v1", "double")
    assert {name: list(values) for name, values in study["outcomes"].items()} == {
        name: [f"{value:g}" for value in values] for name, values in SWEPT.items()
    }
    assert all(
        len(each) == 2 for values in study["outcomes"].values() for of in values.values() for each in of.values()
    )
    assert (tmp_path / "dqn-study.html").exists()


def test_what_is_swept_holds_what_is_usual() -> None:
    assert all(getattr(Settings(), name) in values for name, values in SWEPT.items())


def test_every_seed_is_claimed_and_a_bad_one_is_not_met(tmp_path) -> None:
    experiment = Experiment("dqn", Arguments(out=tmp_path))
    runs = [Run(seed, [value] * 3, [1], [value], 1.0) for seed, value in enumerate((500.0, 474.0, 475.0))]
    claim(experiment, "CartPole-v1", "DQN (double)", runs)
    assert [(held["measured"], held["met"]) for held in experiment.claims] == [(500, True), (474, False), (475, True)]


def test_only_published_tasks_in_full_and_with_the_default_settings_are_claimed() -> None:
    usual = Arguments()
    assert all(usual.unclaimed(task, variant) is None for task, variant in usual.wanted() if variant != "dqn")
    assert "comparison" in usual.unclaimed("CartPole-v1", "dqn")
    assert "published" in usual.unclaimed("FrozenLake-v1", "double")
    assert "differ" in Arguments(dqn=Settings(steps=10_000)).unclaimed("CartPole-v1", "double")
    assert "seeds" in Arguments(seeds=4).unclaimed("CartPole-v1", "double")


def test_the_first_task_has_every_variant_and_the_others_the_first_of_them() -> None:
    wanted = Arguments(tasks=("A", "B"), variants=("prioritised", "dqn")).wanted()
    assert list(wanted) == [("A", "prioritised"), ("A", "dqn"), ("B", "prioritised")]
    assert [(task, settings.prioritised) for task, settings in wanted.values()] == [
        ("A", True),
        ("A", False),
        ("B", True),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "--seeds"),
        (["--dqn.steps", "0"], "--dqn.steps"),
        (["--episodes", "0"], "--episodes"),
        (["--seed", "-1"], "--seed"),
        (["--dqn.discount", "1"], "--dqn.discount"),
        (["--dqn.replay-ratio", "0"], "--dqn.replay-ratio"),
        (["--dqn.warmup", "50000"], "--dqn.warmup"),
        (["--tasks", "NoSuchTask-v1"], "NoSuchTask"),
        (["--tasks", "Pendulum-v1", "--workers", "1"], "cannot act"),
    ],
)
def test_refuses_in_one_message(monkeypatch, capsys, tmp_path, words, message) -> None:
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, *words, "--out", str(tmp_path))
    errors = capsys.readouterr().err
    assert end.value.code == 2 and message in errors and errors.count("error:") == 1 and "Traceback" not in errors
    assert not list(tmp_path.glob("*.json"))
