"""Judgements as outcomes: thumbs of routed replies by conversation, duels between versions by duel, nothing else."""

import itertools

import numpy as np
import pytest

from benchmarks import ab_selection
from rlhf.chat.ab_test import verdict
from rlhf.chat.feedback import FeedbackStore, Rating, StoredMessage, new_id
from rlhf.chat.serving.outcomes import LeftSide, Outcomes
from rlhf.chat.store.judgements import IMPORTED, RUN, collect


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / "feedback.sqlite") as store:
        yield store


def replies(store, *fields, kind="chat"):
    """A conversation with one question, and a reply to it for each dictionary of fields."""
    talk = store.new_conversation("ann", kind=kind)
    asked = store.add_message(StoredMessage(new_id(), talk.id, None, "user", "Hello"))
    return [
        store.add_message(StoredMessage(new_id(), talk.id, asked.id, "assistant", f"Hi {number}", **values))
        for number, values in enumerate(fields)
    ]


def plain(outcomes):
    return [(outcome.version, outcome.value, outcome.uniform, outcome.group) for outcome in outcomes]


def test_thumbs_of_routed_replies(store):
    routed = {"version": "v1", "routed": 0.5, "uniform": True}
    up, down, silent, unrouted, safe, other = replies(
        store, routed, routed | {"uniform": False}, routed, {"version": "v1"}, routed | {"blocked": True}, routed
    )
    for reply, rating in [
        (up, Rating(thumb=1)), (down, Rating(thumb=-1)), (unrouted, Rating(thumb=1)), (safe, Rating(thumb=-1)),
        (other, Rating(helpful=1)),
    ]:  # fmt: skip
        store.rate("ann", reply.id, rating)
    talk = up.conversation
    assert plain(Outcomes(store).since(0)) == [("v1", 1.0, True, talk), ("v1", 0.0, False, talk)]
    assert silent.id not in [judged.message.id for judged in store.rated()]


def test_what_is_taken_back_or_changed(store):
    outcomes = Outcomes(store)
    [reply] = replies(store, {"version": "v1", "routed": 0.5})
    store.rate("ann", reply.id, Rating(thumb=1))
    assert [outcome.value for outcome in outcomes.since(0)] == [1.0]
    store.rate("ann", reply.id, Rating(thumb=-1))
    assert [outcome.value for outcome in outcomes.since(0)] == [0.0]
    store.unrate("ann", reply.id)
    assert outcomes.since(0) == []


def test_duels_between_versions(store):
    choices = ("left", "right", "tie", "both_bad", None)
    for choice, versions in itertools.product(choices, (("ppo", "v1"), ("v1", "ppo"), ("ppo", "ppo"))):
        left, right = replies(store, *({"version": version} for version in versions), kind="duel")
        duel = store.open_duel("ann", left.parent, left.id, right.id, "random")
        if choice:
            store.vote("ann", duel.id, choice)
    found = [(outcome.version, outcome.value) for outcome in Outcomes(store).since(0)]
    assert found == [
        ("ppo", 1.0), ("v1", 0.0), ("v1", 1.0), ("ppo", 0.0),
        ("ppo", 0.0), ("v1", 1.0), ("v1", 0.0), ("ppo", 1.0),
        ("ppo", 0.5), ("v1", 0.5), ("v1", 0.5), ("ppo", 0.5),
    ]  # fmt: skip
    assert all(outcome.uniform for outcome in Outcomes(store).since(0))
    assert len({outcome.group for outcome in Outcomes(store).since(0)}) == 6


def test_a_duel_with_a_blocked_side_says_nothing(store):
    left, right = replies(store, {"version": "ppo"}, {"version": "v1", "blocked": True}, kind="duel")
    duel = store.open_duel("ann", left.parent, left.id, right.id, "random")
    store.vote("ann", duel.id, "left")
    assert Outcomes(store).since(0) == []


def test_only_conversations_that_began_since_a_time(store):
    [old] = replies(store, {"version": "v1", "routed": 0.5, "uniform": True})
    [new] = replies(store, {"version": "v1", "routed": 0.5, "uniform": True})
    came = store.conversation(new.conversation).created
    for reply in (old, new):  # both are judged after the challenger came
        store.rate("ann", reply.id, Rating(thumb=1))
    found = Outcomes(store).since(came)
    assert [(outcome.group, outcome.begun) for outcome in found] == [(new.conversation, came)]
    assert len(Outcomes(store).since(0)) == 2


def test_thumbs_and_duels_are_told_apart(store):
    [reply] = replies(store, {"version": "v1", "routed": 0.5})
    store.rate("ann", reply.id, Rating(thumb=1))
    fight(store, "left", None)
    assert [outcome.duel for outcome in Outcomes(store).since(0)] == [False, True, True]


def fight(store, choice, latency_ms, user="ann", chosen_by="random", **right):
    left, right = replies(store, {"version": "ppo"}, {"version": "v1"} | right, kind="duel")
    duel = store.open_duel(user, left.parent, left.id, right.id, chosen_by)
    return store.vote(user, duel.id, choice, latency_ms)


def test_a_vote_that_was_changed_when_the_names_were_known_says_nothing(store):
    duel = fight(store, "left", None)
    assert len(Outcomes(store).since(0)) == 2 and len(Outcomes(store).results()) == 1
    store.vote("ann", duel.id, "right")
    assert Outcomes(store).since(0) == [] and Outcomes(store).results() == []


def test_spam_promotes_nobody(store):
    """Nor a script that always gives one side, what is cut off or blocked, or an imported file. One vote is left."""
    for _ in range(5):
        fight(store, "right", 1)
        fight(store, "tie", 1)
    for _ in range(RUN):
        fight(store, "right", 5000, user="bob")
    fight(store, "right", 5000, finish_reason="error")
    fight(store, "right", 5000, blocked=True)
    fight(store, "right", None, user=IMPORTED)
    fight(store, "left", 5000)
    assert Outcomes(store).results() == [("ppo", "v1", 1.0)]
    assert [(outcome.version, outcome.value) for outcome in Outcomes(store).since(0)] == [("ppo", 1.0), ("v1", 0.0)]


def test_a_hidden_conversation_goes_on_counting(store):
    """… in the comparison: whoever hides what displeased them would take the worse version's failures away."""
    [reply] = replies(store, {"version": "v1", "routed": 0.5})
    store.rate("ann", reply.id, Rating(thumb=-1))
    store.hide(reply.conversation)
    assert [outcome.value for outcome in Outcomes(store).since(0)] == [0.0]


@pytest.mark.parametrize("chosen_by, counts", [("random", True), ("asked", True), ("active", False)])
def test_duels_whose_replies_were_picked_by_reward_compare_no_versions(store, chosen_by, counts):
    fight(store, "left", None, chosen_by=chosen_by)
    outcomes = Outcomes(store)
    assert len(outcomes.since(0)) == 2 * counts and len(outcomes.results()) == counts
    assert [standing.n for standing in outcomes.standings()] == [1, 1] * counts
    assert outcomes.left_side() == LeftSide(1, 0)  # the sides were drawn all the same
    assert len(collect(store).pairs) == 1  # and the reward model learns from it


def test_a_challenger_that_the_reward_model_overrates_is_not_retired_for_it(store):
    """Of two equal versions one has rewards that are too high. It loses two of three duels on pairs of equal reward."""
    drawn, picked = ab_selection.wins(gap=0.0, duels=300, rng=np.random.default_rng(0))
    assert 0.45 < drawn.mean() < 0.55 and picked.mean() < 0.4
    with store.together():
        for chosen_by, won in (("random", drawn), ("active", picked)):
            for place, challenger_wins in enumerate(won):
                on_right = place % 2 == 0
                names = ("ppo", "v1") if on_right else ("v1", "ppo")
                left, right = replies(store, *({"version": name} for name in names), kind="duel")
                duel = store.open_duel(f"user {place % 7}", left.parent, left.id, right.id, chosen_by)
                store.vote(duel.user, duel.id, "right" if challenger_wins == on_right else "left")
    outcomes = Outcomes(store)
    found = verdict(outcomes.since(0), "ppo", "v1")
    assert (found.decision, found.n_live, found.n_challenger) == ("continue", 300, 300)
    assert all(standing.low < 0 < standing.high for standing in outcomes.standings())


def test_the_left_side_is_that_of_fair_votes(store):
    """… whatever versions met, but not of an import, a script, a vote that was given in no time or with the names."""
    fight(store, "left", None)
    fight(store, "left", None, version="ppo")
    fight(store, "right", None, chosen_by="active")
    fight(store, "tie", None)
    fight(store, "left", None, user=IMPORTED)
    fight(store, "left", 1)
    store.vote("ann", fight(store, "right", None).id, "left")
    for _ in range(RUN):
        fight(store, "left", None, user="bob")
    assert Outcomes(store).left_side() == LeftSide(2, 1)


def test_what_another_server_writes_is_seen(store, tmp_path):
    outcomes = Outcomes(store)
    assert outcomes.number() == outcomes.number()
    with FeedbackStore(tmp_path / "feedback.sqlite") as other:
        duel = fight(other, "left", None)
        assert outcomes.results() == [("ppo", "v1", 1.0)]
        before = outcomes.number()
        other.log("blocked", reason="words")
        assert outcomes.number() == before
        other.unvote("ann", duel.id)
    assert outcomes.results() == [] and outcomes.left_side() == LeftSide(0, 0) and outcomes.number() != before


def test_routing_asks_for_thumbs_alone(store, monkeypatch):
    [reply] = replies(store, {"version": "v1", "routed": 0.5})
    store.rate("ann", reply.id, Rating(thumb=1))
    fight(store, "left", None)
    monkeypatch.setattr(store, "duels", None)  # whoever reads them fails
    assert [(one.version, one.value, one.duel) for one in Outcomes(store).thumbs(0)] == [("v1", 1.0, False)]
