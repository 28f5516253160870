"""Who answers in a conversation, also where that cannot be written down, and while another one is."""

import fcntl
import threading

import pytest

from rlhf.chat.serving.choosing import LOCKS
from tests.chat.world import add_challenger, chat_config, full_disk, service_on


@pytest.fixture
def service(folder, tokenizer):
    """With a challenger that gets half of the conversations."""
    add_challenger(folder, tokenizer)
    with service_on(folder, chat_config()) as service:
        yield service


def test_on_a_full_disk_a_conversation_keeps_its_version(service):
    talks = [service.create("ann").id for _ in range(3)]
    with full_disk():
        first = [service.choosing.choose(talk) for talk in talks]
        for _ in range(20):
            assert [service.choosing.choose(talk) for talk in talks] == first
        assert service.store.conversation(talks[0]).version is None
    assert [service.choosing.choose(talk) for talk in talks] == first
    assert [service.store.conversation(talk).version for talk in talks] == [chosen.version for chosen in first]


def test_a_write_holds_up_no_other_conversation(service):
    known = service.create("ann").id
    others = iter(lambda: service.create("bob").id, None)
    new = next(talk for talk in others if hash(talk) % LOCKS != hash(known) % LOCKS)  # of another lock
    chosen = service.choosing.choose(known)
    with open(f"{service.store.file}-lock") as other:  # another process writes
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = threading.Thread(target=service.choosing.choose, args=(new,))
        waiting.start()
        writer = service.store._db._writer
        while writer.acquire(blocking=False):  # until it has begun to write
            writer.release()
            waiting.join(0.01)
        assert service.choosing.choose(known) == chosen and service.choosing.fresh()
        assert waiting.is_alive()
    waiting.join(60)
    assert service.store.conversation(new).version is not None
