"""Judgements as outcomes: thumbs of routed replies by conversation, duels between versions by duel, nothing else."""

import itertools

import pytest

from rlhf.chat.feedback import FeedbackStore, Rating, StoredMessage, new_id
from rlhf.chat.serving.outcomes import Outcomes
from rlhf.chat.store.judgements import IMPORTED, RUN


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
    outcomes.changed()
    assert [outcome.value for outcome in outcomes.since(0)] == [0.0]
    store.unrate("ann", reply.id)
    outcomes.changed()
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


def fight(store, choice, latency_ms, user="ann", **right):
    left, right = replies(store, {"version": "ppo"}, {"version": "v1"} | right, kind="duel")
    duel = store.open_duel(user, left.parent, left.id, right.id, "random")
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
