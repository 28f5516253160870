"""Tasks, variants and settings on several seeds: what is trained, what is told of it."""

from dataclasses import dataclass

import pytest

from lab.experiment import Experiment, Options
from lab.runs import POINTS, Run
from lab.trainings import learned, log, meanwhile, outcomes, record, sweep, too_few


@dataclass(frozen=True)
class Settings:
    clip: float = 0.2
    lam: float = 0.8


def trained(task: str, seed: int, settings: Settings, episodes: int) -> Run:
    """No training: what it was asked for, to be found again."""
    trained.calls.append((task, seed, settings, episodes))
    return Run(seed, [settings.clip + seed] * episodes, [10, 20], [None, settings.lam], 1.0)


@pytest.fixture(autouse=True)
def calls():
    trained.calls = []
    return trained.calls


def test_everything_is_trained_on_every_seed(calls):
    wanted = {"first": ("World-v0", Settings()), "second": ("World-v1", Settings(clip=0.5))}
    found = learned(trained, wanted, range(3, 5), "both", 2, workers=1)
    assert {name: [(run.seed, run.evaluation) for run in runs] for name, runs in found.items()} == {
        "first": [(3, [3.2] * 2), (4, [4.2] * 2)], "second": [(3, [3.5] * 2), (4, [4.5] * 2)],
    }  # fmt: skip
    assert [call[:2] for call in calls] == [("World-v0", 3), ("World-v0", 4), ("World-v1", 3), ("World-v1", 4)]


def test_one_setting_is_changed_at_a_time_and_the_usual_is_trained_once(calls):
    found = sweep(trained, "World-v0", Settings(), {"clip": [0.1, 0.2], "lam": [0.8, 1.0]}, range(2), 3, workers=1)
    assert {name: list(values) for name, values in found.items()} == {"clip": [0.1, 0.2], "lam": [0.8, 1.0]}
    assert found["clip"][0.2] is found["lam"][0.8]
    assert [run.seed for run in found["lam"][1.0]] == [0, 1]
    assert found["clip"][0.1][1].evaluation == [1.1] * 3
    different = [Settings(clip=0.1), Settings(), Settings(lam=1.0)]
    assert calls == [("World-v0", seed, settings, 3) for settings in different for seed in (0, 1)]


def test_a_run_is_told_by_what_it_reached_and_what_it_did_meanwhile():
    runs = [Run(0, [4.0, 6.0], [10, 20], [None, 3.0], 1.0), Run(1, [1.0], [10, 20], [2.0, 4.0], 1.0)]
    found = outcomes({"clip": {0.2: runs}})
    assert found == {"clip": {"0.2": {"Evaluation return": [5.0, 1.0], "Mean training return": [3.0, 3.0]}}}
    assert meanwhile(Run(0, [1.0], [10], [None], 1.0)) is None, "no episode ended"


@pytest.mark.parametrize(("seeds", "episodes", "enough"), [(5, 100, True), (4, 100, False), (5, 99, False)])
def test_a_claim_rests_on_five_seeds_and_a_hundred_episodes(seeds, episodes, enough):
    assert (too_few(seeds, episodes) is None) == enough


def test_what_is_not_claimed_is_kept_and_said(tmp_path, capsys):
    experiment = Experiment("demo", Options(out=tmp_path))
    record(experiment, "World-v0", Settings(), "too short", [Run(0, [1.0, 2.0], [10], [None], 1.0)])
    assert experiment.results["World-v0"]["means"] == [1.5] and experiment.results["World-v0"]["settings"]["lam"] == 0.8
    assert capsys.readouterr().out == "World-v0: mean returns 1.5; nothing is claimed (too short)\n"


def test_the_curves_are_logged_point_by_point(tmp_path, monkeypatch):
    logged = []
    experiment = Experiment("demo", Options(out=tmp_path))
    monkeypatch.setattr(experiment, "log", lambda values, step: logged.append((step, values)))
    curves = [[None] * POINTS, [None, *[2.0] * (POINTS - 1)], [None, *[4.0] * (POINTS - 1)]]
    log(experiment, {"World-v0": [Run(0, [1.0], list(range(POINTS)), curve, 1.0) for curve in curves]})
    assert logged[:2] == [(0, {"World-v0/steps": 0}), (1, {"World-v0/steps": 1, "World-v0/return": 3.0})]
    assert len(logged) == POINTS
