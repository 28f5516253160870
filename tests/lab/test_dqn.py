"""The command line of deep Q-learning: what it writes, what it refuses."""

import json
import sys

import numpy as np
import pytest

from lab.dqn import Arguments, claims, command_line, main
from lab.dqn_training import Curve, Run
from lab.experiment import Experiment

SHORT = "--steps 400 --seeds 2 --checks 2 --episodes 10 --workers 1".split() + (
    "--dqn.hidden 8 --dqn.environments 2 --dqn.warmup 50 --dqn.train-every 40 --dqn.updates 2".split()
)


def call(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["dqn", *words])
    command_line(main, Arguments, "")


def test_writes_results_and_figures(monkeypatch, tmp_path) -> None:
    call(monkeypatch, *SHORT, "--variants", "double", "prioritised", "--out", str(tmp_path))
    whole = json.loads((tmp_path / "dqn.json").read_text())
    assert [claim["what"][-19:] for claim in whole["claims"]] == ["seed 0: mean return", "seed 1: mean return"]
    assert set(whole["results"]) == {"double", "prioritised"}
    for seeds in whole["results"].values():
        assert [one["steps"] for one in seeds] == [[200, 400]] * 2
        for one in seeds:
            assert one["kept"] == pytest.approx(np.mean(one["kept_returns"])) and len(one["kept_returns"]) == 10
    for name in ("learning", "variants", "endings"):
        assert "plotly" in (tmp_path / f"dqn-{name}.html").read_text()[:2000].lower()


def test_every_seed_is_claimed_and_a_bad_one_is_not_met(tmp_path) -> None:
    several = [Run(Curve([1], [returns]), 1, np.full(3, returns), np.zeros(3)) for returns in (500.0, 474.0, 475.0)]
    with Experiment("dqn", Arguments(out=tmp_path, seeds=3)) as experiment:
        claims(experiment, Arguments(out=tmp_path, seeds=3), several)
    assert [(claim["measured"], claim["met"]) for claim in experiment.claims] == [
        (500, True),
        (474, False),
        (475, True),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "--seeds"),
        (["--steps", "10"], "--steps"),
        (["--checks", "0"], "--checks"),
        (["--episodes", "0"], "--episodes"),
        (["--seed", "-1"], "--seed"),
        (["--dqn.discount", "1"], "--dqn.discount"),
        (["--environment", "NoSuchTask-v1"], "no such environment"),
        (["--environment", "Pendulum-v1", "--workers", "1"], "cannot learn"),
    ],
)
def test_refuses_in_one_message(monkeypatch, capsys, tmp_path, words, message) -> None:
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, *words, "--out", str(tmp_path))
    errors = capsys.readouterr().err
    assert end.value.code == 2 and message in errors and errors.count("error:") == 1 and "Traceback" not in errors
    assert not list(tmp_path.glob("*.json"))
