"""What a full disk holds back: kept in memory, written in order once there is room, forgotten in time."""

import fcntl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from rlhf.chat.feedback import FeedbackStore, NotFound, StoreBusy, StoredMessage, StoreFull, new_id
from rlhf.chat.serving import keeping
from rlhf.chat.serving.keeping import Keeper
from tests.chat.world import full_disk


@pytest.fixture
def keeper(tmp_path):
    with FeedbackStore(tmp_path / "feedback.sqlite") as store:
        yield Keeper(store)


def message(conversation, parent, content="Hello"):
    return StoredMessage(new_id(), conversation, parent, "user" if parent is None else "assistant", content)


def test_with_room_it_is_the_store(keeper):
    talk = keeper.new_conversation("ann")
    asked, kept = keeper.add(message(talk.id, None))
    assert kept and keeper.unkept == 0 and keeper.is_kept(asked.id)
    assert keeper.path(asked.id) == keeper.store.path(asked.id) == keeper.messages(talk.id) == [asked]
    with pytest.raises(NotFound):
        keeper.message("nothing")
    with pytest.raises(NotFound):
        keeper.conversation("nothing")


def test_what_had_no_room_is_written_in_order_later(keeper):
    talk = keeper.new_conversation("ann")
    first, _ = keeper.add(message(talk.id, None))
    with full_disk():
        second, kept = keeper.add(message(talk.id, first.id))
        third, also = keeper.add(message(talk.id, second.id))
        assert not kept and not also and keeper.unkept == 2 and not keeper.is_kept(third.id)
        assert keeper.path(third.id) == [first, second, third] == keeper.messages(talk.id)
        with pytest.raises(StoreFull):
            keeper.need_kept(second.id)
        keeper.assign(talk.id, "ppo")  # noted nowhere, and no harm done
    keeper.need_kept(third.id)
    assert keeper.unkept == 0 and keeper.store.path(third.id) == [first, second, third]


def test_a_conversation_made_on_a_full_disk_is_written_when_there_is_room(keeper):
    with full_disk():
        talk = keeper.new_conversation("ann")
        asked, kept = keeper.add(message(talk.id, None))
        reply, also = keeper.add(message(talk.id, asked.id))
        assert not kept and not also and keeper.path(reply.id) == [asked, reply]
        keeper.assign(talk.id, "ppo")
        keeper.name(talk.id, "Hello")
        assert keeper.conversation(talk.id).version == "ppo" and keeper.is_in_memory(talk.id)
        assert [found.title for found in keeper.conversations("ann")] == ["Hello"] and keeper.conversations("bob") == []
        hidden = keeper.new_conversation("ann")
        keeper.hide(hidden.id)
    keeper.need_kept(reply.id)
    assert keeper.store.path(reply.id) == [asked, reply] == keeper.messages(talk.id) and keeper.unkept == 0
    assert keeper.store.conversation(talk.id) == replace(talk, title="Hello", version="ppo", updated=reply.created)
    assert keeper.store.conversation(hidden.id).hidden and [one.id for one in keeper.conversations("ann")] == [talk.id]


@contextmanager
def another_process_writes(keeper):
    with open(f"{keeper.store.file}-lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        yield


def test_while_the_store_makes_one_chat_wait_the_others_are_not_held_up(keeper, monkeypatch):
    talks, add, both = [keeper.new_conversation(name) for name in "ab"], keeper.store.add_message, threading.Barrier(2)

    def together(given, key=None):
        both.wait(30)  # breaks where the second one has to wait for the first
        return add(given, key=key)

    monkeypatch.setattr(keeper.store, "add_message", together)
    with ThreadPoolExecutor(2) as threads:
        assert all(kept for _, kept in threads.map(keeper.add, [message(talk.id, None) for talk in talks]))


def test_a_full_disk_and_a_busy_store_are_told_apart(keeper, monkeypatch):
    monkeypatch.setattr("rlhf.chat.store.database.WAIT_S", 0.05)
    talk = keeper.new_conversation("ann")
    with another_process_writes(keeper):
        asked, _ = keeper.add(message(talk.id, None))
        assert keeper.obstacle == "the feedback store is busy"
        with pytest.raises(StoreBusy, match="cannot be judged: the feedback store is busy"):
            keeper.need_kept(asked.id)
    with full_disk():
        with pytest.raises(StoreFull, match="cannot be judged: the disk is full"):
            keeper.need_kept(asked.id)
        keeper.add(message(talk.id, asked.id))
        assert keeper.obstacle == "the disk is full"
    keeper.need_kept(asked.id)


def test_a_busy_store_loses_nothing(keeper, monkeypatch):
    monkeypatch.setattr("rlhf.chat.store.database.WAIT_S", 0.05)
    talk = keeper.new_conversation("ann")
    with another_process_writes(keeper):
        asked, kept = keeper.add(message(talk.id, None))
        new = keeper.new_conversation("ann")
        turns, also = keeper.add_history("api", [message("", None)])
        keeper.assign(talk.id, "ppo")
        assert not kept and not also and keeper.messages(talk.id) == [asked] and keeper.is_in_memory(new.id)
    keeper.need_kept(asked.id)
    assert keeper.store.path(asked.id) == [asked] and keeper.store.path(turns[0].id) == turns
    assert {one.id for one in keeper.store.conversations("ann")} == {talk.id, new.id}


def test_a_program_s_conversation_on_a_full_disk(keeper):
    turns = [StoredMessage(new_id(), "", None, "user", "Hi"), StoredMessage(new_id(), "", None, "assistant", "Yes?")]
    with full_disk():
        stored, kept = keeper.add_history("api", turns)
    assert not kept and keeper.path(stored[1].id) == stored and stored[1].parent == stored[0].id
    again, kept = keeper.add_history("api", turns)
    assert kept and keeper.store.path(again[1].id) == again


def test_not_more_than_so_many_are_held(keeper, monkeypatch):
    monkeypatch.setattr(keeping, "MOST_UNKEPT", 3)
    with full_disk():
        talk = keeper.new_conversation("ann")
        for _ in range(9):
            keeper.add(message(talk.id, None))
        assert keeper.unkept == 3
        for _ in range(9):
            keeper.new_conversation("ann")
        assert len(keeper.conversations("ann")) == 3
