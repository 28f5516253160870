"""One setting changed at a time: what is trained, what is told of it, what is drawn."""

from dataclasses import dataclass

import numpy as np

from lab.runs import Run
from lab.study import outcomes, sensitivity, sweep


@dataclass(frozen=True)
class Settings:
    clip: float = 0.2
    lam: float = 0.8


def trained(task: str, seed: int, settings: Settings, episodes: int) -> Run:
    """No training: what it was asked for, to be found again."""
    trained.calls.append((task, seed, settings, episodes))
    return Run(seed, [settings.clip + seed] * episodes, [10, 20], [None, settings.lam], 1.0)


def test_one_setting_is_changed_at_a_time_and_the_usual_is_trained_once():
    trained.calls = []
    found = sweep(trained, "World-v0", Settings(), {"clip": [0.1, 0.2], "lam": [0.8, 1.0]}, range(2), 3, workers=1)
    assert {name: list(values) for name, values in found.items()} == {"clip": [0.1, 0.2], "lam": [0.8, 1.0]}
    assert found["clip"][0.2] is found["lam"][0.8]
    assert [run.seed for run in found["lam"][1.0]] == [0, 1]
    assert found["clip"][0.1][1].evaluation == [1.1] * 3
    different = [Settings(clip=0.1), Settings(), Settings(lam=1.0)]
    assert trained.calls == [("World-v0", seed, settings, 3) for settings in different for seed in (0, 1)]


def test_a_run_is_told_by_what_it_reached_and_what_it_did_meanwhile():
    runs = [Run(0, [4.0, 6.0], [10, 20], [None, 3.0], 1.0), Run(1, [1.0], [10, 20], [2.0, 4.0], 1.0)]
    found = outcomes({"clip": {0.2: runs}})
    assert found == {"clip": {"0.2": {"Evaluation return": [5.0, 1.0], "Mean training return": [3.0, 3.0]}}}


def test_the_figure_has_every_seed_and_their_median():
    runs = [Run(seed, [value], [1], [10 * value], 1.0) for seed, value in enumerate((1.0, 2.0, 6.0))]
    figure = sensitivity({"clip": {0.2: runs}}, "World-v0")
    assert [np.asarray(trace.y).tolist() for trace in figure.data] == [[1, 2, 6], [2], [10, 20, 60], [20]]
