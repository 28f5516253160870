"""The command line of deep Q-learning: what it writes, what it claims, what it refuses."""

import json
import sys

import numpy as np
import pytest

from lab.dqn import SWEPT, Arguments, command_line, main, record
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
    call(monkeypatch, *SHORT, "--variants", "double", "prioritised", "--out", str(tmp_path))
    whole = json.loads((tmp_path / "dqn.json").read_text())
    assert [claim["what"][-19:] for claim in whole["claims"]] == ["seed 0: mean return", "seed 1: mean return"] * 2
    assert set(whole["results"]) == {"double", "prioritised"}
    for variant, result in whole["results"].items():
        assert result["settings"]["prioritised"] == (variant == "prioritised")
        assert result["means"] == pytest.approx([np.mean(run["evaluation"]) for run in result["runs"]])
        for run in result["runs"]:
            assert len(run["evaluation"]) == 10 and len(run["curve"]) == POINTS and run["steps"][-1] == 400
    for name in ("curves", "evaluations"):
        assert "plotly" in (tmp_path / f"dqn-{name}.html").read_text()[:2000].lower()
    assert not (tmp_path / "dqn-study.html").exists()


def test_the_study_has_a_number_for_every_value_and_seed(monkeypatch, tmp_path) -> None:
    short = [word for word in SHORT if word != "--no-study"]
    call(monkeypatch, *short, "--variants", "double", "--dqn.steps", "100", "--out", str(tmp_path))
    study = json.loads((tmp_path / "dqn.json").read_text())["results"]["study"]
    assert study["variant"] == "double"
    assert {name: list(values) for name, values in study["outcomes"].items()} == {
        name: [f"{value:g}" for value in values] for name, values in SWEPT.items()
    }
    assert all(
        len(each) == 2 for values in study["outcomes"].values() for of in values.values() for each in of.values()
    )
    assert (tmp_path / "dqn-study.html").exists()


def test_what_is_swept_holds_what_is_usual() -> None:
    assert all(getattr(Settings(), name) in values for name, values in SWEPT.items())


def finished(returns: float, seed: int) -> Run:
    return Run(seed, [returns] * 3, [1], [returns], 1.0)


def test_every_seed_is_claimed_and_a_bad_one_is_not_met(tmp_path) -> None:
    arguments = Arguments(out=tmp_path)
    with Experiment("dqn", arguments) as experiment:
        record(experiment, arguments, "double", [finished(*each) for each in ((500.0, 0), (474.0, 1), (475.0, 2))])
        record(experiment, arguments, "dqn", [finished(100.0, 0)])
    assert [(claim["measured"], claim["met"]) for claim in experiment.claims] == [
        (500, True),
        (474, False),
        (475, True),
    ]
    assert experiment.results["dqn"]["means"] == [100]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "--seeds"),
        (["--dqn.steps", "0"], "--dqn.steps"),
        (["--episodes", "0"], "--episodes"),
        (["--seed", "-1"], "--seed"),
        (["--dqn.discount", "1"], "--dqn.discount"),
        (["--dqn.replay-ratio", "0"], "--dqn.replay-ratio"),
        (["--environment", "NoSuchTask-v1"], "NoSuchTask"),
        (["--environment", "Pendulum-v1", "--workers", "1"], "cannot act"),
    ],
)
def test_refuses_in_one_message(monkeypatch, capsys, tmp_path, words, message) -> None:
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, *words, "--out", str(tmp_path))
    errors = capsys.readouterr().err
    assert end.value.code == 2 and message in errors and errors.count("error:") == 1 and "Traceback" not in errors
    assert not list(tmp_path.glob("*.json"))
