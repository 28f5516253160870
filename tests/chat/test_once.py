"""Requests sent again: done once, whoever is first; what failed may be tried again."""

import threading

import pytest

from rlhf.chat.feedback import KeyReused
from rlhf.chat.once import REMEMBERED, Once


def test_once_by_user_and_key():
    once, calls = Once(), []
    make = lambda: calls.append(1) or len(calls)  # noqa: E731
    assert [once.of("ann", "k", "say", make) for _ in range(3)] == [1, 1, 1]
    assert once.of("bob", "k", "say", make) == 2
    assert [once.of("ann", None, "say", make) for _ in range(2)] == [3, 4]
    with pytest.raises(KeyReused):
        once.of("ann", "k", "something else", make)


def test_what_failed_may_be_tried_again():
    once = Once()
    with pytest.raises(ZeroDivisionError):
        once.of("ann", "k", "say", lambda: 1 // 0)
    assert once.of("ann", "k", "say", lambda: 7) == 7


def test_two_at_a_time_do_it_once():
    once, begun, go, calls, found = Once(), threading.Event(), threading.Event(), [], []

    def make():
        calls.append(1)
        begun.set()
        assert go.wait(60)
        return len(calls)

    threads = [threading.Thread(target=lambda: found.append(once.of("ann", "k", "say", make))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    go.set()
    for thread in threads:
        thread.join()
    assert found == [1, 1, 1, 1]


def test_the_oldest_are_forgotten():
    once = Once()
    for number in range(REMEMBERED + 1):
        once.of("ann", str(number), "say", lambda number=number: number + 1)
    assert once.of("ann", "1", "say", lambda: -1) == 2
    assert once.of("ann", "0", "say", lambda: -1) == -1
