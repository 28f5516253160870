"""The experiments as a user starts them, and what their figures say."""

import json
import sys

import numpy as np
import pytest

from lab import drawing, gridworld, tabular
from lab.dynamic_programming import action_values, value_iteration
from lab.experiment import command_line
from lab.gridworld import FOUR, GridWorld
from lab.tabular_figures import arrows, panel, smoothed
from lab.tabular_planning import WORLDS, greedy_return

SHORT = ["--runs", 2, "--episodes", 10, "--interim-runs", 1, "--asymptotic-runs", 1, "--asymptotic-episodes", 5,
         "--lake-episodes", 20, "--walk-runs", 20, "--walk-episodes", 20, "--workers", 1]  # fmt: skip

EXACT = ("dynamic", "4×4", "5×5", "windy", "gambler", "FrozenLake-v1, V*", "returns that differ")
"""How the claims begin that hold however short the runs are."""


def call(monkeypatch, *words: object) -> int:
    """The exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["tabular", *map(str, words)])
    try:
        command_line(tabular.main, tabular.Arguments, "Tabular.")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.slow
def test_the_command_writes_results_and_figures(monkeypatch, tmp_path):
    assert call(monkeypatch, *SHORT, "--out", tmp_path) == 0
    found = json.loads((tmp_path / "tabular.json").read_text())
    exact = [claim for claim in found["claims"] if claim["what"].startswith(EXACT)]
    assert len(exact) == 17 and all(claim["met"] for claim in exact), exact
    assert set(found["results"]["largest difference to the linear system"]) == set(WORLDS)
    assert len(found["results"]["cliff walking, SARSA"]["returns"]) == 10
    for name in ("maps", "gambler", "walk", "cliff", "cliff-maps", "step-sizes", "schedules"):
        assert (tmp_path / f"tabular-{name}.html").stat().st_size > 1000
        if any(map(drawing.shutil.which, drawing.BROWSERS)):
            assert (tmp_path / f"tabular-{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("argument", "value"), [
    ("--runs", 0), ("--episodes", 4), ("--alpha", 0), ("--alpha", 1.5), ("--epsilon", -0.1), ("--epsilon", "nan"),
    ("--seed", -1), ("--workers", 0), ("--walk-episodes", 0), ("--lake-episodes", 1),
])  # fmt: skip
def test_an_argument_out_of_range_is_one_clear_error(monkeypatch, tmp_path, capsys, argument, value):
    assert call(monkeypatch, f"{argument}={value}", "--out", tmp_path) == 2
    told = capsys.readouterr().err
    assert told.count("error: ") == 1 and argument in told and "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def test_arrows_point_to_the_best_moves_and_nowhere_if_all_are_equal():
    values = np.array([[1.0, 2.0, 2.0, 0.0], [5.0, 1.0, 1.0, 1.0], [3.0, 3.0, 3.0, 3.0]])
    assert arrows(values, FOUR).tolist() == ["→↓", "↑", ""]
    assert arrows(np.eye(8), gridworld.EIGHT).tolist() == list("↑↗→↘↓↙←↖")


def test_a_panel_leaves_out_what_is_hidden():
    one = panel("A", np.array([1.5, -2.0]), np.array([[0, 1, 0, 0], [1, 1, 1, 1]]), FOUR, (1, 2), [False, True])
    assert one.texts.tolist() == [["1.5<br>→", ""]] and np.isnan(one.values[0, 1])


def test_returns_are_averaged_over_runs_and_episodes():
    assert smoothed(np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]), 2) == ([2, 3], [2.5, 3.5])


def test_the_greedy_return_of_the_best_values_is_the_best():
    world = GridWorld(gridworld.CLIFFS)
    best = action_values(world.model, value_iteration(world.model, 1.0).values, 1.0)
    assert greedy_return(world.model, best, 36) == -13
    assert greedy_return(world.model, np.zeros_like(best), 36, limit=20) == -20  # up for ever
