"""Requests that a client sends again, because the answer got lost on the way: the first one's result is given again."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rlhf.chat.feedback import KeyReused

T = TypeVar("T")

REMEMBERED = 2000
"""Results; the oldest are forgotten first. What was stored is found by its key in the store, too."""


@dataclass
class _Entry:
    request: Hashable
    lock: threading.Lock = field(default_factory=threading.Lock)
    result: Any = None


class Once:
    """What came of the last requests, by user and key."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, user: str, key: str | None, request: Hashable, make: Callable[[], T]) -> T:
        """The result of `make`, or what it was when this user last sent this key. What fails may be tried again.

        Raises:
            KeyReused: the key came with another request.
        """
        if key is None:
            return make()
        with self._lock:
            entry = self._entries.setdefault((user, key), _Entry(request))
            self._entries.move_to_end((user, key))
            while len(self._entries) > REMEMBERED:
                self._entries.popitem(last=False)
        if entry.request != request:
            raise KeyReused(key)
        with entry.lock:
            if entry.result is None:
                entry.result = make()
            result: T = entry.result
            return result
