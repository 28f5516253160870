"""Requests sent again: done once, whoever is first; what failed or was given up is begun anew."""

import threading

import pytest

from rlhf.chat.feedback import FILE, FeedbackStore, KeyReused
from rlhf.chat.serving.once import REMEMBERED, Once

SAY, OTHER = ("say", "Hello"), ("say", "Something else")


class Made:
    """Stands for a turn: welcomes readers, or not."""

    def __init__(self, welcome: bool = True) -> None:
        self.welcome, self.readers = welcome, 1

    def join(self) -> bool:
        self.readers += self.welcome
        return self.welcome


@pytest.fixture
def store(tmp_path):
    with FeedbackStore(tmp_path / FILE) as store:
        yield store


@pytest.fixture
def once(store):
    return Once(store)


def test_once_by_user_and_key(once):
    first = once.of("ann", "k", SAY, lambda _: Made())
    assert [once.of("ann", "k", SAY, lambda _: Made()) for _ in range(2)] == [first, first] and first.readers == 3
    assert once.of("bob", "k", SAY, lambda _: Made()) is not first
    assert once.of("ann", None, SAY, lambda _: Made()) is not once.of("ann", None, SAY, lambda _: Made())
    with pytest.raises(KeyReused):
        once.of("ann", "k", OTHER, lambda _: Made())


def test_what_failed_or_was_given_up_is_begun_anew(once):
    with pytest.raises(ZeroDivisionError):
        once.of("ann", "k", SAY, lambda _: 1 // 0)
    first = once.of("ann", "k", SAY, lambda _: Made())
    first.welcome = False
    second = once.of("ann", "k", SAY, lambda _: Made())
    assert second is not first and once.of("ann", "k", SAY, lambda _: Made()) is second


def test_two_at_a_time_do_it_once(once):
    begun, go, calls, found = threading.Event(), threading.Event(), [], []

    def make(_):
        calls.append(1)
        begun.set()
        assert go.wait(60)
        return Made()

    threads = [threading.Thread(target=lambda: found.append(once.of("ann", "k", SAY, make))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    go.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len(set(found)) == 1 and found[0].readers == 4


def test_the_oldest_are_forgotten_and_no_text_is_kept(once):
    text = "long" * 1000
    for number in range(REMEMBERED + 1):
        once.of("ann", str(number), ("say", text), lambda _: Made())
    assert len(once._entries) == REMEMBERED and all(len(entry.request) == 64 for entry in once._entries.values())


def test_what_was_noted_is_found_by_another_server(store):
    def make(key):
        store.note("ann", *key, "the reply")
        return Made()

    again = {}
    Once(store).of("ann", "k", SAY, make)
    found = Once(store).of("ann", "k", SAY, make, lambda id: again.setdefault(id, Made()))
    assert again == {"the reply": found}
    with pytest.raises(KeyReused):
        Once(store).of("ann", "k", OTHER, make, lambda id: Made())
    assert Once(store).of("bob", "k", OTHER, make, lambda id: again[id]) is not found
