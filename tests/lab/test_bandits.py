"""The bandits' experiment on small settings: who is ahead of whom, what is written, what is refused."""

import json
import sys
from dataclasses import replace
from functools import partial

import pytest

from lab import drawing
from lab.bandit_figures import FIGURES
from lab.bandits import ENTRIES, PUBLISHED, STUDY, Arguments, __doc__, compete, main, sweep
from lab.experiment import command_line
from lab.routing import PROBLEMS
from lab.testbed import WALKING, summary
from rlhf.bandits import EpsilonGreedy

FEW = Arguments(runs=300, steps=500, workers=1)


def test_the_order_of_the_algorithms() -> None:
    """With 300 runs that share their arms: gaps of the book's curves that are many standard errors wide."""
    names = ("greedy", "ε = 0.1", "UCB, c = 2", "Q₁ = 5, greedy, α = 0.1", "Thompson", "gradient, α = 0.1")
    late = {name: course.late.rewards.mean() for name, course in compete({n: ENTRIES[n] for n in names}, FEW).items()}
    assert late["greedy"] + 0.15 < late["ε = 0.1"]
    assert all(late["ε = 0.1"] + 0.05 < late[name] for name in names[2:])


def test_a_baseline_helps_where_rewards_are_far_from_zero() -> None:
    names = ("α = 0.1", "α = 0.1, no baseline", "α = 0.4", "α = 0.4, no baseline")
    courses = compete({name: ENTRIES[name] for name in names}, FEW)
    late = [courses[name].late.optimal.mean() for name in names]
    assert late[0] > late[1] + 0.2
    assert late[2] > late[3] + 0.1


def test_a_constant_step_size_follows_arms_that_change() -> None:
    fast = replace(WALKING, walk=0.05)
    entries = {name: ENTRIES[name]._replace(testbed=fast) for name in ("sample average", "constant α = 0.1")}
    courses = compete(entries, Arguments(runs=400, walk_steps=1000, workers=1))
    average, constant = (course.late.optimal.mean() for course in courses.values())
    assert constant > average + 0.05


def test_the_study_finds_a_best_value_between_bad_ones() -> None:
    study = {"ε": {value: partial(EpsilonGreedy, epsilon=value, initial=0.0) for value in (0.0, 0.1, 0.8)}}
    found = sweep(study, replace(FEW, steps=1000))["ε"]
    assert found[0.1] > max(found[0.0], found[0.8]) + 0.1


def test_equal_seeds_give_equal_results() -> None:
    small = Arguments(runs=5, steps=20, workers=1, seed=3)
    first, again = (compete({"greedy": ENTRIES["greedy"]}, small)["greedy"] for _ in range(2))
    assert first.rewards.tolist() == again.rewards.tolist()
    assert summary(first)["rewards"] == first.rewards.round(4).tolist()


@pytest.fixture
def without_browser(monkeypatch) -> None:
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr(drawing, "BROWSERS", ())


def test_the_command_line_writes_results_and_figures(tmp_path, monkeypatch, capsys, without_browser) -> None:
    sizes = ["--runs", "4", "--steps", "30", "--walk-steps", "50", "--route-steps", "20"]
    small = [*sizes, "--workers", "1", "--seed", "7"]
    monkeypatch.setattr(sys, "argv", ["bandits", *small, "--out", str(tmp_path)])
    command_line(main, Arguments, __doc__)
    written = json.loads((tmp_path / "bandits.json").read_text(encoding="utf-8"))
    assert written["arguments"]["runs"] == 4
    assert written["results"]["entries"].keys() == ENTRIES.keys()
    assert len(written["results"]["entries"]["greedy"]["rewards"]) == 30
    assert {title: len(row) for title, row in written["results"]["study"].items()} == {
        title: len(row) for title, row in STUDY.items()
    }
    assert len(written["claims"]) == 2 * len(PUBLISHED) + 1 + 6  # of routing; in so few steps there is no bound to keep
    assert written["results"]["routing"].keys() == PROBLEMS.keys()
    for name in (*FIGURES, "study", "regret", "swap"):
        assert (tmp_path / f"bandits-{name}.html").stat().st_size > 1000
    assert "greedy: mean reward" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--runs", "1"], "--runs"),
        (["--steps", "9"], "--steps"),
        (["--walk-steps", "0"], "--walk-steps"),
        (["--route-steps", "9"], "--route-steps"),
        (["--seed", "-1"], "--seed"),
        (["--workers", "0"], "--workers"),
        (["--runs", "many"], "--runs"),
        (["--arm", "3"], "--arm"),
    ],
)
def test_bad_arguments_give_one_error(given, named, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["bandits", *given, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        command_line(main, Arguments, __doc__)
    message = capsys.readouterr().err
    assert ended.value.code == 2
    assert named in message
    assert "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_an_error_of_the_user(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["bandits", "--runs", "2", "--out", str(tmp_path / "file")])
    with pytest.raises(SystemExit) as ended:
        command_line(main, Arguments, __doc__)
    assert ended.value.code == 2
    assert "No results can be written" in capsys.readouterr().err
