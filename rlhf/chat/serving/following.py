"""Judgements in memory that follow the store: after the first look, only what its log names is read again.

    votes = Followed(store, ("vote", "unvote"), every, one)
    votes.look()                # Look(number, standing): the same number as long as nothing was judged
    double = Kept()
    double.of(number, lambda: 2 * number)       # made once a number

Each judgement, and each that is taken back, writes a line to the store's log in the transaction that changes it,
whichever process does so. A look at a store in which nothing was judged costs one query, however much it holds. What
stands is held in memory: about a kilobyte a judgement.
"""

import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from rlhf.chat.feedback import Event, FeedbackStore

Given = TypeVar("Given")
Made = TypeVar("Made")


class Look(NamedTuple, Generic[Given]):
    """What stood at one moment."""

    number: int
    """Another one whenever something was judged or taken back since the last look."""
    standing: Sequence[Given]
    """The judgement given last at the end."""


class Followed(Generic[Given]):
    """See the module; for any thread.

    Args:
        store: where people judge.
        kinds: of the lines in its log that tell of a judgement.
        every: reads all judgements, with their keys, oldest first.
        one: reads the judgement that a line is about, with its key; None where it has been taken back.
    """

    def __init__(
        self,
        store: FeedbackStore,
        kinds: Collection[str],
        every: Callable[[], Iterable[tuple[Hashable, Given]]],
        one: Callable[[Event], tuple[Hashable, Given | None]],
    ) -> None:
        self._store, self._kinds, self._every, self._one = store, kinds, every, one
        self._standing: dict[Hashable, Given] = {}
        self._seen: int | None = None
        self._look: Look[Given] = Look(0, [])
        self._lock = threading.Lock()

    def look(self) -> Look[Given]:
        """What stands now. Raises as the store; the next look then reads what this one could not."""
        with self._lock, self._store.snapshot():
            last = self._store.last_event()
            if last != self._seen:
                changed = self._read()
                self._seen = last
                if changed:
                    self._look = Look(self._look.number + 1, list(self._standing.values()))
            return self._look

    def _read(self) -> bool:
        """Read what is new; False where nothing is."""
        if self._seen is None:
            self._standing = dict(self._every())
            return True
        lines = self._store.events_after(self._seen, self._kinds)
        for line in lines:
            key, given = self._one(line)
            self._standing.pop(key, None)  # so that it comes to the end
            if given is not None:
                self._standing[key] = given
        return bool(lines)


class Kept(Generic[Made]):
    """The last thing that was made, and of what; for any thread: at worst it is made twice."""

    def __init__(self) -> None:
        self._last: tuple[Hashable, Made] | None = None

    def of(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What was made for this key; made now where the last one was another."""
        last = self._last
        if last is None or last[0] != key:
            last = self._last = key, make()
        return last[1]
