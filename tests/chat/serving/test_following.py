"""Judgements in memory are those of the store, whatever was given and taken back between two looks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.chat.feedback import FeedbackStore, Rating
from rlhf.chat.serving.following import Followed, Kept
from rlhf.chat.serving.outcomes import Outcomes
from tests.chat.stored import duel, opened, talk

ACTS = ("left", "right", "tie", "unvote", "up", "down", "unrate", "log", "look")


def everything(outcomes: Outcomes) -> tuple[object, ...]:
    return outcomes.results(), outcomes.left_side(), outcomes.counts(), outcomes.thumbs(0), outcomes.since(0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 2)), max_size=25))
def test_what_was_followed_is_what_a_fresh_look_finds(tmp_path_factory, acts):
    with opened(tmp_path_factory.mktemp("store")) as store:
        duels = [duel(store, "ann", "2+2?", "4", "5", version="v1") for _ in range(3)]
        replies = [talk(store, "ann", "2+2?", "4", routed=0.5, version="v1")[1] for _ in range(3)]
        followed = Outcomes(store)
        for act, place in acts:
            if act in ("left", "right", "tie"):
                store.vote("ann", duels[place].id, act)
            elif act == "unvote":
                store.unvote("ann", duels[place].id)
            elif act in ("up", "down"):
                store.rate("ann", replies[place].id, Rating(thumb=1 if act == "up" else -1))
            elif act == "unrate":
                store.unrate("ann", replies[place].id)
            elif act == "log":
                store.log("blocked", reason="words")
            else:
                everything(followed)
        assert everything(followed) == everything(Outcomes(store))


def test_a_vote_costs_the_same_however_many_there_are(steps, tmp_path):
    """… to whoever follows them; counted in the database's own steps."""
    with opened(tmp_path) as store:
        outcomes = Outcomes(store)

        def cost_after(count: int) -> int:
            with store.together():
                for _ in range(count):
                    store.vote("ann", duel(store, "ann", "2+2?", "4", "5", version="v1").id, "left", 5000)
            open_one = duel(store, "ann", "2+2?", "4", "5", version="v1")
            outcomes.number()
            store.vote("ann", open_one.id, "right", 5000)
            before = len(steps)
            outcomes.number()
            return len(steps) - before

        few, many = cost_after(10), cost_after(1000)
        assert many == few > 0
        assert len(outcomes.results()) == 12  # ten, and each of the two; a thousand in a row are a script's


def test_a_look_that_fails_is_made_good_by_the_next(tmp_path):
    with opened(tmp_path) as store:
        votes = broken(store)
        with pytest.raises(ZeroDivisionError):
            votes.look()
        store.vote("ann", duel(store, "ann", "2+2?", "4", "5").id, "left")
        number, standing = votes.look()
        assert (number, standing) == (1, ["left"])
        assert votes.look().number == number


def broken(store: FeedbackStore) -> Followed[str]:
    """Fails the first time that it reads."""
    faults = [ZeroDivisionError()]

    def every():
        if faults:
            raise faults.pop()
        return [(duel.id, duel.choice) for duel in store.duels(voted=True)]

    return Followed(store, ("vote",), every, lambda line: (line.data["duel"], line.data["choice"]))


def test_what_is_kept_is_made_once_a_key():
    made = []
    kept: Kept[int] = Kept()
    assert [kept.of(key, lambda: made.append(1) or len(made)) for key in ("a", "a", "b", "b", "a")] == [1, 1, 2, 2, 3]
