"""The simulations decide as the code that serves does, and in small they show what the large ones are to show."""

import json

import numpy as np
import pytest

from benchmarks import ab_process, ab_regret, ab_selection, ab_simulation, ab_standing, ab_stopping
from benchmarks.ab_stopping import crossed
from rlhf.chat.ab_test import NOTICED, Outcome, misbehaves, verdict
from rlhf.chat.settings import RoutingSection
from rlhf.sequential_test import best_mixing_sd


def test_a_simulated_test_decides_as_the_verdict_does() -> None:
    rng = np.random.default_rng(1)
    decided = []
    for _ in range(6):
        arms = np.concatenate([[1], rng.integers(0, 2, 249)])
        ups = (rng.random(250) < np.where(arms == 1, 0.75, 0.55)).astype(float)
        rows = [Outcome("ab"[arm], up, True, float(t)) for t, (arm, up) in enumerate(zip(arms, ups, strict=True))]
        wins = [((arms == arm) * ups).cumsum()[None] for arm in (0, 1)]
        counts = [(arms == arm).cumsum()[None] for arm in (0, 1)]
        hit = crossed(wins, counts, best_mixing_sd(NOTICED, ab_stopping.ALPHA)).any()
        decided.append(bool(hit))
        assert (verdict(rows, "a", "b").decision == "promote") == hit
    assert set(decided) == {True, False}


def test_simulated_fallbacks_are_those_of_the_server() -> None:
    settings = RoutingSection()
    replies = np.random.default_rng(0).random((3, 300)) < np.array([[0.05], [0.2], [0.3]])
    alarms = ab_stopping._alarms(replies, 5 * settings.fallback_after, settings)
    for row, expected in zip(replies.tolist(), alarms, strict=True):
        assert [misbehaves(row[: t + 1], settings) for t in range(300)] == expected.tolist()


def test_looking_often_fools_the_naive_test_only() -> None:
    found = ab_stopping.stopping((0.6, 0.6), [0.1], range(50, 2001, 10), 200, np.random.default_rng(0))
    assert found["naive"]["decided"] > 0.25
    assert found["0.1"]["decided"] <= 0.05


def test_a_difference_is_found_in_time() -> None:
    found = ab_stopping.stopping((0.6, 0.7), [0.1], range(50, 2001, 10), 200, np.random.default_rng(0))["0.1"]
    assert found["decided"] > 0.99
    assert found["median"] is not None and 280 < found["median"] < 420


def test_whole_servers_tell_equal_versions_apart_seldom_and_better_ones_often() -> None:
    equal, better = (ab_process.judged(gap, 12, np.random.default_rng(3)) for gap in (0.0, 0.25))
    assert equal["decided"] <= 1 / 12 and equal["held"] >= 11 / 12
    assert better["decided"] == better["right"] >= 10 / 12 and better["median"] < 450
    assert better["held"] >= 11 / 12


def test_what_is_never_found_has_no_median() -> None:
    found = ab_stopping.stopping((0.6, 0.6), [0.1], [10], 20, np.random.default_rng(0))["0.1"]
    assert (found["decided"], found["median"], found["mean_cut"]) == (0, None, 10)


def test_regret_is_what_the_better_arm_would_have_paid_more() -> None:
    """An equal split loses half the difference a step; a swap halfway makes no difference to it."""
    rates = ab_regret.swapped((0.4, 0.7), 1000)
    assert rates[499].tolist() == [0.4, 0.7] and rates[500].tolist() == [0.7, 0.4]
    lost = ab_regret.regret(ab_regret.STATIONARY["equal split"], rates, 200, np.random.default_rng(0))
    assert lost[:, -1].mean() == pytest.approx(150, abs=3)


def test_forgetting_pays_after_a_swap() -> None:
    rates = ab_regret.swapped((0.4, 0.7), 2000)
    plain, window = (
        ab_regret.regret(ab_regret.CHANGING[name], rates, 40, np.random.default_rng(0))[:, -1].mean()
        for name in ("Thompson", "Thompson, window 200")
    )
    assert window < 70 < 150 < plain


def test_elo_depends_on_the_order() -> None:
    """Level from 1500, a win moves 16; the second of two games starts from another rating than the first."""
    assert ab_standing.elo([(0, 1, 1.0)], 2).tolist() == [1516, 1484]
    first, second = ab_standing.elo([(0, 1, 1.0), (0, 1, 0.0)], 2), ab_standing.elo([(0, 1, 0.0), (0, 1, 1.0)], 2)
    assert first[0] < 1500 < second[0]


def test_ties_leave_the_expected_score_alone() -> None:
    law = ab_standing.chances(np.array([0.0, 1.0]))
    assert law.sum(axis=1) == pytest.approx([1])
    assert law @ [1, 0.5, 0] == pytest.approx([1 / (1 + np.e)])


def test_pairs_of_equal_reward_favour_the_version_that_is_underrated() -> None:
    """Quality and noise differ by N(g, 2) and N(t, 2). Given that they cancel, quality differs by N((g - t) / 2, 1).

    So the challenger wins Φ((g - t) / 2) of the duels on pairs of equal reward, and Φ(g / √2) of the others.
    """
    drawn, picked = ab_selection.wins(0.5, 4000, np.random.default_rng(0), too_high=1.0, pool=100)
    assert drawn.mean() == pytest.approx(0.638, abs=0.03)
    assert picked.mean() == pytest.approx(0.401, abs=0.03)
    fair = ab_selection.wins(0.0, 4000, np.random.default_rng(0), too_high=0.0)
    assert [won.mean() for won in fair] == pytest.approx([0.5, 0.5], abs=0.03)


def test_all_of_it_in_small(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(ab_simulation, "DIFFERENCES", (0.2, 0.3))
    monkeypatch.setattr(ab_simulation, "RATES", (0.6,))
    monkeypatch.setattr(ab_regret, "PAIRS", [(0.6, 0.7)])
    monkeypatch.setattr(
        "sys.argv", ["x", "--runs", "8", "--json", str(tmp_path / "ab.json"), "--plot", str(tmp_path / "ab.png")]
    )
    ab_simulation.main()
    found = json.loads((tmp_path / "ab.json").read_text())
    assert found["runs"] == 8
    assert found["orders"]["bradley_terry_range"] < 1e-6
    assert (tmp_path / "ab.png").read_bytes().startswith(b"\x89PNG")
    assert "| test | false positives |" in capsys.readouterr().out
