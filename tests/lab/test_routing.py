"""What routing loses: the formulas worked out by hand, and that what is measured is what routes."""

import math

import numpy as np
import pytest

from lab.experiment import Experiment, Options
from lab.routing import (
    FOLLOWERS,
    POLICIES,
    PROBLEMS,
    auer_bound,
    claim,
    divergence,
    growth,
    lai_robbins,
    lower_end,
    results,
    route,
)
from lab.testbed import play
from rlhf.chat.ab_test import policy
from rlhf.chat.settings import RoutingSection


def test_the_bound_of_ucb1() -> None:
    """ln 5000 = 8.517193, ln 100 = 4.605170, 1 + π²/3 = 4.289868."""
    assert auer_bound((0.4, 0.6), 5000) == pytest.approx(8 * 8.517193 / 0.2 + 4.289868 * 0.2, rel=1e-6)  # 341.5
    assert auer_bound((0.9, 0.8, 0.5), 100) == pytest.approx(8 * 4.605170 * 12.5 + 4.289868 * 0.5, rel=1e-6)
    assert auer_bound((0.5, 0.25, 0.5), 1) == pytest.approx(1.072467)  # the best arms lose nothing, ln 1 = 0


def test_an_even_split_loses_more_than_the_bound_allows() -> None:
    """Else the claim about UCB1 could not fail."""
    assert auer_bound(PROBLEMS["two"].versions.rates, 5000) < 5000 * 0.2 / 2


def test_the_slope_of_lai_and_robbins() -> None:
    """KL(0.4, 0.6) = 0.2 ln 1.5; KL(1/4, 1/2) = ln 0.5 / 4 + 3 ln 1.5 / 4 = 0.130812; KL(0, 1/2) = ln 2."""
    assert divergence(0.4, 0.6) == pytest.approx(0.2 * 0.405465, rel=1e-5)
    assert divergence(0.3, 0.3) == 0
    assert lai_robbins((0.4, 0.6)) == pytest.approx(2.466303)
    assert lai_robbins((0.5, 0.25, 0.0, 0.5)) == pytest.approx(0.25 / 0.130812 + 0.5 / 0.693147, rel=1e-5)
    assert lai_robbins((0.3, 0.3)) == 0


def test_growth_by_the_logarithm() -> None:
    assert growth(7 + 3 * np.log(np.arange(1, 1001))) == pytest.approx(3)
    assert growth(np.array([1.0, 1.0 + math.log(2)])) == pytest.approx(1)


def test_the_lower_end_of_an_interval() -> None:
    """Mean 2.5, standard deviation 1.290994, of four."""
    assert lower_end(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(2.5 - 1.959964 * 1.290994 / 2, rel=1e-6)


def kept(bandit) -> dict[str, object]:
    """All that a bandit was made with, and began with."""
    values = vars(bandit) | {"class": type(bandit), "_recent": list(bandit._recent)}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("even split", {"policy": "fixed"}),
        ("ε-greedy, 0.1", {"policy": "epsilon_greedy"}),
        ("UCB1", {"policy": "ucb1"}),
        ("Thompson", {"policy": "thompson"}),
        ("Thompson, discount 0.99", {"policy": "thompson", "discount": 0.99}),
        ("Thompson, window 200", {"policy": "thompson", "window": 200}),
    ],
)
def test_what_is_measured_is_what_routes(name, settings) -> None:
    assert kept((POLICIES | FOLLOWERS)[name](2, runs=1)) == kept(policy(RoutingSection(**settings), 2))


@pytest.fixture(scope="module")
def played():
    return route(PROBLEMS, steps=1000, runs=200, seed=0, workers=1)


def test_each_policy_meets_each_problem(played) -> None:
    """In the order of the problems, whatever order they were played in."""
    found = [(name, policy) for name, row in played.items() for policy in row]
    assert found == [(name, policy) for name, problem in PROBLEMS.items() for policy in problem.policies]
    for name, problem in PROBLEMS.items():
        alone = play(problem.policies["Thompson"], problem.versions, steps=1000, runs=200, seed=0)
        assert alone.regret.tolist() == played[name]["Thompson"].regret.tolist()


def test_the_results(played) -> None:
    found = results(PROBLEMS, played)
    assert found["two"]["lai_robbins"] == pytest.approx(2.466303)
    assert "lai_robbins" not in found["swap"]
    ucb1, course = found["ten"]["policies"]["UCB1"], played["ten"]["UCB1"]
    assert ucb1["regret"] == pytest.approx(course.regret[-1])
    assert ucb1["regrets"] == course.regret[9::10].round(4).tolist()
    assert ucb1["regret_standard_error"] == pytest.approx(course.regrets.std() / 200**0.5)


def claimed(played, tmp_path) -> list[dict[str, object]]:
    experiment = Experiment("bandits", Options(out=tmp_path))
    claim(experiment, played)
    return experiment.claims


def test_the_claims_hold_on_small_settings(played, tmp_path) -> None:
    claims = claimed(played, tmp_path)
    assert len(claims) == 6, "in so few steps every policy keeps the bound of UCB1: nothing is claimed of it"
    assert [found["what"] for found in claims if not found["met"]] == []
    even, saved, *_ = claims
    assert even["published"] == "100.0"  # 1,000 steps, a mean gap of 0.1
    assert saved["measured"] > 0


def test_the_claims_can_fail(played, tmp_path) -> None:
    two, swap = played["two"], played["swap"]
    exchanged = {"even split": two["Thompson"], "UCB1": two["Thompson"], "Thompson": two["UCB1"]}
    forgetful = dict.fromkeys(FOLLOWERS, swap["Thompson"]) | {"Thompson": swap["Thompson, window 200"]}
    claims = claimed({"two": exchanged, "ten": played["ten"], "swap": forgetful}, tmp_path)
    assert [found["met"] for found in claims] == [False, False, True, True, False, False]


@pytest.mark.parametrize(("regret", "met"), [(341.0, True), (342.0, False)])
def test_ucb1_is_held_against_its_bound_where_an_even_split_would_break_it(played, tmp_path, regret, met) -> None:
    longer = played["two"]["UCB1"]._replace(regret=np.zeros(5000), regrets=np.full(200, regret))
    claims = claimed(played | {"two": played["two"] | {"UCB1": longer}}, tmp_path)
    assert [found["met"] for found in claims if "theorem 1" in found["source"]] == [met]


def test_policies_that_do_the_same_are_no_order(played, tmp_path) -> None:
    same = played["two"] | {"UCB1": played["two"]["Thompson"]}
    saved = [found for found in claimed(played | {"two": same}, tmp_path) if "loses less" in found["source"]]
    assert [found["met"] for found in saved] == [False, True]
