"""Routing as it is stated, a verdict from uniform traffic alone, a standing that no order changes, a fallback."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from rlhf.chat.ab_test import Outcome, Router, misbehaves, standings, verdict
from rlhf.chat.settings import RoutingSection

POLICIES = ["fixed", "epsilon_greedy", "ucb1", "thompson"]
ARMS = ["live", "new", "newer"]
HISTORIES = st.lists(
    st.tuples(st.sampled_from([*ARMS, "gone"]), st.sampled_from([0.0, 0.5, 1.0]), st.booleans()), max_size=25
)


def outcomes(*rows: tuple[str, float, bool]) -> list[Outcome]:
    return [Outcome(version, value, uniform, float(time)) for time, (version, value, uniform) in enumerate(rows)]


def judged(version: str, ups: int, downs: int) -> list[tuple[str, float, bool]]:
    return [(version, 1.0, True)] * ups + [(version, 0.0, True)] * downs


# --- routing ----------------------------------------------------------------------------------------------------------


def test_fixed_shares_beside_the_uniform_ones() -> None:
    """A third of 10%, and 90% of a half, or of a quarter each."""
    router = Router(RoutingSection(policy="fixed", challenger_share=0.5, uniform_share=0.1), seed=0)
    assert router.probabilities(ARMS, []) == pytest.approx([0.48333333, 0.25833333, 0.25833333])


def test_epsilon_greedy_beside_the_uniform_ones() -> None:
    """Half of 20%, and 80% of 0.95 or 0.05."""
    router = Router(RoutingSection(policy="epsilon_greedy", epsilon=0.1, uniform_share=0.2), seed=0)
    found = router.probabilities(["a", "b"], outcomes(("a", 0.0, False), ("b", 1.0, True)))
    assert found == pytest.approx([0.14, 0.86])


@pytest.mark.parametrize("policy", POLICIES)
@given(history=HISTORIES, share=st.floats(0.1, 1), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_every_arm_has_its_uniform_share(policy, history, share, seed) -> None:
    router = Router(RoutingSection(policy=policy, uniform_share=share, discount=0.9), seed)
    chances = router.probabilities(ARMS, outcomes(*history))
    assert chances.sum() == pytest.approx(1)
    assert chances.min() >= share / len(ARMS) - 1e-12
    given_arm = router.assign(ARMS, outcomes(*history))
    assert given_arm.probability == pytest.approx(chances[ARMS.index(given_arm.version)])


@pytest.mark.parametrize("policy", POLICIES)
def test_the_stated_chances_are_the_true_ones(policy) -> None:
    history = outcomes(("live", 1.0, True), ("new", 0.0, False), ("newer", 1.0, True), ("live", 0.0, True))
    router = Router(RoutingSection(policy=policy, challenger_share=0.6), seed=11)
    chances = router.probabilities(ARMS, history)
    draws = 3000 if policy == "thompson" else 6000
    given_arms = [router.assign(ARMS, history) for _ in range(draws)]
    seen = [sum(given_arm.version == arm for given_arm in given_arms) for arm in ARMS]
    assert chisquare(seen, chances * draws).pvalue > 0.001
    uniform = [given_arm.version for given_arm in given_arms if given_arm.uniform]
    assert chisquare([uniform.count(arm) for arm in ARMS]).pvalue > 0.001
    expected = len(ARMS) * chances.min()  # as much of the traffic as is uniform
    assert len(uniform) / draws == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / draws))


def test_an_equal_split_is_uniform_throughout() -> None:
    router = Router(RoutingSection(policy="fixed", challenger_share=0.5), seed=0)
    assert all(router.assign(["live", "new"], []).uniform for _ in range(50))


def test_without_a_challenger_there_is_no_choice_and_no_test() -> None:
    given_arm = Router(RoutingSection(), seed=0).assign(["live"], [])
    assert (given_arm.version, given_arm.probability, given_arm.uniform) == ("live", 1.0, False)


def test_all_of_the_traffic_may_go_one_way() -> None:
    """A challenger with no share of its own still gets half of the uniform 10%."""
    router = Router(RoutingSection(policy="fixed", challenger_share=0.0), seed=4)
    given_arms = [router.assign(["live", "new"], []) for _ in range(2000)]
    new = [g for g in given_arms if g.version == "new"]
    assert [g.probability for g in new] == pytest.approx([0.05] * len(new))
    assert new and all(g.uniform for g in new)


def test_the_order_in_which_outcomes_are_handed_in_does_not_matter() -> None:
    history = outcomes(("live", 1.0, True), ("new", 0.0, True), ("new", 1.0, True))
    router = Router(RoutingSection(policy="thompson", discount=0.5), seed=0)
    assert router.probabilities(ARMS, history) == pytest.approx(router.probabilities(ARMS, history[::-1]))


def test_a_window_of_one_sees_the_last_judgement_only() -> None:
    settings_ = RoutingSection(policy="thompson", window=1, uniform_share=0.1)
    found = Router(settings_, 0).probabilities(["a", "b"], outcomes(("b", 1.0, True), ("a", 1.0, True)))
    assert found == pytest.approx([0.05 + 0.9 * 2 / 3, 0.05 + 0.9 / 3])


@pytest.mark.parametrize("arms", [[], ["a", "a"]])
def test_arms_that_are_none(arms) -> None:
    with pytest.raises(ValueError, match="arms"):
        Router(RoutingSection(), 0).assign(arms, [])


# --- the test ---------------------------------------------------------------------------------------------------------


def test_nothing_judged_nothing_decided() -> None:
    for rows in ([], judged("live", 9, 0), judged("new", 9, 0)):
        found = verdict(outcomes(*rows), "live", "new")
        assert (found.decision, found.p_value, found.difference, found.interval) == ("continue", 1, 0, (-1, 1))


def test_a_clear_difference_is_decided_either_way() -> None:
    rows = [pair for _ in range(60) for pair in (("live", 0.0, True), ("new", 1.0, True))]
    better, worse = verdict(outcomes(*rows), "live", "new"), verdict(outcomes(*rows), "new", "live")
    assert (better.decision, better.n_live, better.n_challenger) == ("promote", 60, 60)
    assert (worse.decision, worse.n_live, worse.n_challenger) == ("retire", 60, 60)
    assert better.difference == pytest.approx(60 / 62) and worse.difference == pytest.approx(-60 / 62)  # 61/62 and 1/62
    assert better.p_value < 0.001
    assert better.interval[0] > 0 > worse.interval[1]


def test_only_uniform_traffic_counts() -> None:
    rows = [pair for _ in range(60) for pair in (("live", 0.0, False), ("new", 1.0, False), ("other", 1.0, True))]
    assert verdict(outcomes(*rows), "live", "new").decision == "continue"


def test_conversations_from_before_the_challenger_do_not_count_however_late_they_are_judged() -> None:
    old = [Outcome("live", 0.0, True, 100.0 + place, f"old {place}", begun=10.0) for place in range(500)]
    new = [Outcome("live", 1.0, True, 200.0 + place, f"new {place}", begun=50.0) for place in range(30)]
    challenger = [Outcome("new", 1.0, True, 200.5 + place, f"its {place}", begun=60.0) for place in range(30)]
    found = verdict(old + new + challenger, "live", "new", since=50.0)
    assert (found.decision, found.n_live, found.difference) == ("continue", 30, 0)
    assert verdict(old + new + challenger, "live", "new").decision == "promote"


def test_a_decision_stays() -> None:
    better = [pair for _ in range(60) for pair in (("new", 1.0, True), ("live", 0.0, True))]
    worse = [pair for _ in range(300) for pair in (("new", 0.0, True), ("live", 1.0, True))]
    found = verdict(outcomes(*better, *worse), "live", "new")
    assert (found.decision, found.difference < 0) == ("promote", True)


def test_a_conversation_counts_once_with_its_first_judgement() -> None:
    """1 and 1 of the challenger's two conversations, 0 of the live version's one: (2 + 1) / 4 less 1/3."""
    rows = [("new", 1.0, "x"), ("new", 0.0, "x"), ("live", 0.0, "y"), ("live", 1.0, "y"), ("new", 1.0, "")]
    found = verdict([Outcome(v, value, True, float(t), g) for t, (v, value, g) in enumerate(rows)], "live", "new")
    assert (found.n_live, found.n_challenger, found.difference) == (1, 2, pytest.approx(3 / 4 - 1 / 3))


TALKS = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.0, 1.0]), st.booleans()), min_size=1, max_size=60)


@given(TALKS)
@settings(max_examples=50, deadline=None)
def test_what_is_judged_later_changes_no_look_of_before(rows) -> None:
    """Ten conversations, judged again and again, and duels; the p-value of each look is the smallest up to it."""
    seen: list[Outcome] = []
    before = 1.0
    for time, (talk, value, duel) in enumerate(rows):
        if duel:
            sides = (("live", value), ("new", 1 - value))
            seen += [Outcome(version, side, True, float(time), f"duel {time}", duel=True) for version, side in sides]
        else:
            seen.append(Outcome("new" if talk % 2 else "live", value, True, float(time), f"talk {talk}"))
        now = verdict(seen, "live", "new", alpha=0.5)
        assert now.p_value <= before + 1e-12
        before = now.p_value


def test_duels_and_thumbs_are_two_measurements_of_one_difference() -> None:
    """Equal versions: thumbs up 85%, all duels tied. More thumbs for the live version do not make it look better."""
    thumbs = judged("live", 170, 30) + judged("new", 17, 3)
    duels = [
        Outcome(version, 0.5, True, 1000.0 + place, f"duel {place}", duel=True)
        for place in range(100)
        for version in ("live", "new")
    ]
    found = verdict(outcomes(*thumbs) + duels, "live", "new")
    assert (found.n_live, found.n_challenger) == (300, 120)
    # 171/202 and 18/22 of the thumbs, and 1/2 of the duels, which hardly vary: in one heap 0.73 against 0.56
    assert -0.03 < found.difference < 0
    assert found.decision == "continue" and found.p_value > 0.5


def test_routing_learns_from_thumbs_alone() -> None:
    router = Router(RoutingSection(policy="thompson"), seed=0)
    thumbs = outcomes(("live", 1.0, True), ("new", 1.0, False))
    duels = [
        Outcome(version, 0.0, True, place + 9.0, f"{place}", duel=True) for place in range(9) for version in ARMS[:2]
    ]
    assert router.probabilities(ARMS, thumbs + duels) == pytest.approx(router.probabilities(ARMS, thumbs))


def test_the_two_sides_of_a_duel_are_no_two_witnesses() -> None:
    def duels(won: int, lost: int, grouped: bool) -> list[Outcome]:
        scores = [1.0, 0.0] * lost + [1.0] * (won - lost)
        return [
            Outcome(version, value, True, float(time), f"duel {time}" if grouped else "", duel=True)
            for time, score in enumerate(scores)
            for version, value in (("new", score), ("live", 1 - score))
        ]

    alone, together = (verdict(duels(60, 30, grouped), "live", "new") for grouped in (False, True))
    assert together.difference == pytest.approx(alone.difference)
    assert together.p_value > 3 * alone.p_value
    width = [interval[1] - interval[0] for interval in (alone.interval, together.interval)]
    assert width[1] > 1.3 * width[0]


def test_a_duel_with_a_third_version_is_no_part_of_the_test() -> None:
    """The live version loses to the one and draws with the other: it would look worse beside the other, too."""
    strong = [
        Outcome(version, value, True, float(time), f"strong {time}", duel=True)
        for time in range(60)
        for version, value in (("live", 0.0), ("newer", 1.0))
    ]
    even = [
        Outcome(version, 0.5, True, time + 0.5, f"even {time}", duel=True)
        for time in range(60)
        for version in ("live", "new")
    ]
    found = verdict(strong + even, "live", "new")
    assert (found.n_live, found.n_challenger, found.difference, found.decision) == (60, 60, 0, "continue")
    assert verdict(strong + even, "live", "newer").decision == "promote"


@given(HISTORIES.filter(bool), st.randoms())
@settings(deadline=None)
def test_no_verdict_depends_on_the_order_handed_in(history, random) -> None:
    rows = outcomes(*history)
    mixed = list(rows)
    random.shuffle(mixed)
    assert verdict(mixed, "live", "new") == verdict(rows, "live", "new")


@given(HISTORIES)
@settings(deadline=None)
def test_exchanging_the_versions_exchanges_the_sign(history) -> None:
    rows = outcomes(*history)
    one, other = verdict(rows, "live", "new"), verdict(rows, "new", "live")
    assert one.p_value == pytest.approx(other.p_value)
    assert one.difference == pytest.approx(-other.difference)
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))


def test_equal_versions_are_seldom_told_apart_however_often_one_looks() -> None:
    """The p-value is that of the best moment, so it is as if one had looked after every judgement."""
    rng = np.random.default_rng(8)
    found = []
    for _ in range(60):
        rows = [(str(rng.choice(["live", "new"])), float(rng.random() < 0.6), True) for _ in range(300)]
        found.append(verdict(outcomes(*rows), "live", "new").decision)
    assert found.count("continue") >= 57


def test_a_judgement_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="judgement"):
        verdict(outcomes(("live", 2.0, True)), "live", "new")


# --- the standing -----------------------------------------------------------------------------------------------------

DUELS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["d", "e"]), st.sampled_from([0.0, 0.5, 1.0])),
    min_size=1,
    max_size=20,
)


def close(one, other) -> None:
    for first, second in zip(sorted(one, key=lambda s: s.version), sorted(other, key=lambda s: s.version), strict=True):
        assert (first.version, first.n) == (second.version, second.n)
        assert (first.strength, first.low, first.high) == pytest.approx((second.strength, second.low, second.high))


@given(DUELS, st.randoms())
@settings(max_examples=40, deadline=None)
def test_neither_order_nor_side_matters(duels, random) -> None:
    before = standings(duels, resamples=50)
    mixed = [duel if random.random() < 0.5 else (duel[1], duel[0], 1 - duel[2]) for duel in duels]
    random.shuffle(mixed)
    close(before, standings(mixed, resamples=50))
    assert sum(standing.strength for standing in before) == pytest.approx(0, abs=1e-6)
    assert all(standing.low < standing.strength < standing.high for standing in before)


def test_ten_to_nothing_is_finite_and_uncertain() -> None:
    first, second = standings([("winner", "loser", 1.0)] * 10)
    assert (first.version, first.n, second.n) == ("winner", 10, 10)
    assert 1.3 < first.strength < 1.35  # half of the 2.6 to 2.7 of test_bradley_terry
    assert first.low < first.strength - 0.2 and math.isfinite(first.high)


def test_ties_are_half_a_win_each() -> None:
    tied = standings([("a", "b", 0.5)] * 4, resamples=50)
    split = standings([("a", "b", 1.0), ("b", "a", 1.0)] * 2, resamples=50)
    assert [s.strength for s in tied] == pytest.approx([s.strength for s in split]) == [0, 0]


def test_more_duels_make_a_narrower_interval() -> None:
    few, many = (standings([("a", "b", 1.0), ("a", "b", 1.0), ("a", "b", 0.0)] * times)[0] for times in (4, 40))
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_no_duels_no_standing() -> None:
    assert standings([]) == []


@pytest.mark.parametrize("duel", [("a", "b", 0.7), ("a", "a", 1.0)])
def test_what_is_no_duel_is_refused(duel) -> None:
    with pytest.raises(ValueError, match="duel"):
        standings([duel])


# --- the fallback -----------------------------------------------------------------------------------------------------


def test_a_challenger_may_fail_a_fifth_of_the_time() -> None:
    routing = RoutingSection(fallback_after=20, fallback_rate=0.2)
    assert not misbehaves([True] * 19, routing)
    assert misbehaves([True] * 20, routing)
    assert not misbehaves([True] * 4 + [False] * 16, routing)
    assert misbehaves([True] * 5 + [False] * 15, routing)
    assert not misbehaves([], routing)


def test_good_replies_of_long_ago_do_not_hide_bad_ones() -> None:
    routing = RoutingSection(fallback_after=20, fallback_rate=0.2)
    assert not misbehaves([False] * 5000 + [True] * 20, routing)  # 20 of the last 100
    assert misbehaves([False] * 5000 + [True] * 21, routing)
    assert not misbehaves([True] * 20 + [False] * 80, routing)


def test_what_was_ruled_out_stays_ruled_out() -> None:
    """A challenger that wins every time and is disliked later: the decision and the interval agree at every look."""
    won = [outcome for n in range(60) for outcome in _pair_of_thumbs(n, 0.0, 1.0)]
    lost = [outcome for n in range(60, 140) for outcome in _pair_of_thumbs(n, 1.0, 0.0)]
    narrowest = (-1.0, 1.0)
    for end in range(2, len(won) + 40, 2):
        found = verdict([*won, *lost][:end], "live", "new")
        low, high = found.interval
        assert narrowest[0] <= low <= high <= narrowest[1]
        assert (found.decision != "continue") == (low > 0 or high < 0)
        narrowest = found.interval
    assert found.decision == "promote" and found.difference < 1


def _pair_of_thumbs(n: int, live: float, new: float) -> list[Outcome]:
    return [
        Outcome("live", live, uniform=True, time=2.0 * n, group=f"l{n}"),
        Outcome("new", new, uniform=True, time=2.0 * n + 1, group=f"n{n}"),
    ]
