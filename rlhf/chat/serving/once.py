"""Requests that a client sends again, because the answer got lost on the way: the first one's reply is given again.

once.of("ann", key, request, make)             # joins what `make` gave for this key, if somebody still reads it

A turn whose readers have all left was stopped for want of readers, and one that failed says nothing: both are begun
anew. What came of a key whose turn is forgotten here, or was made before the server started, stands in the store.
"""

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from rlhf.chat.feedback import FeedbackStore, KeyReused

log = logging.getLogger(__name__)

REMEMBERED = 500
"""Turns, each with its whole prompt; the oldest are forgotten first, and looked up in the store."""


class Shared(Protocol):
    """What may have several readers."""

    def join(self) -> bool: ...


T = TypeVar("T", bound=Shared)


class Key(NamedTuple):
    """A client's key, and a digest of the request that it names."""

    name: str
    request: str


@dataclass
class _Entry:
    request: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    turn: Shared | None = None


class Once:
    """What came of the last requests, by user and key.

    Args:
        store: knows the earlier ones.
    """

    def __init__(self, store: FeedbackStore) -> None:
        self.store = store
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def of(
        self,
        user: str,
        key: str | None,
        request: tuple[object, ...],
        make: Callable[[Key | None], T],
        again: Callable[[str], T] | None = None,
    ) -> T:
        """The turn that this user's key has, joined, or a new one.

        Args:
            make: begins it; when it has come to its end, `FeedbackStore.note` is told what came of the key.
            again: makes the turn of that note; None: `make` finds out by itself.

        Raises:
            KeyReused: the key came with another request.
        """
        if key is None:
            return make(None)
        asked = Key(key, hashlib.sha256(repr(request).encode()).hexdigest())
        with self._lock:
            entry = self._entries.setdefault((user, key), _Entry(asked.request))
            self._entries.move_to_end((user, key))
            while len(self._entries) > REMEMBERED:
                self._entries.popitem(last=False)
        if entry.request != asked.request:
            raise KeyReused(key)
        with entry.lock:
            turn: T | None = entry.turn  # type: ignore[assignment]  # equal requests give turns of one kind
            if turn is None or not turn.join():
                noted = self.store.noted(user, *asked) if again else None
                turn = again(noted) if again and noted else make(asked)
                entry.turn = turn
            return turn
