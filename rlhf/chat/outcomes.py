"""What people's judgements say of the versions, read from the store: what routing learns from, and the test compares.

    outcomes = Outcomes(store)
    outcomes.since(time)                  # one outcome a judged, routed reply; two a duel between versions

A thumb on a reply whose version routing had chosen is an outcome, 1 or 0; thumbs of one conversation form one group,
since they are not independent. A duel between two versions is one outcome for each, in one group: 1 and 0, or a half
each. What nobody judged is no outcome; nor is "both bad", which says nothing of who is better; nor a blocked reply.
"""

import threading
import time
from collections.abc import Iterator

from rlhf.chat.ab_test import Outcome
from rlhf.chat.feedback import Duel, FeedbackStore

FRESH_SECONDS = 5.0
"""How old what is given may be: other servers may write to the same store."""
SCORES = {"left": 1.0, "tie": 0.5, "right": 0.0}
"""Choice → what the left side gets."""


class Outcomes:
    """The outcomes of a store; they are read anew where they may have changed.

    Args:
        store: what people judged.
    """

    def __init__(self, store: FeedbackStore) -> None:
        self.store = store
        self._versions: dict[str, str | None] = {}
        self._kept: tuple[float, float, list[Outcome]] | None = None
        self._lock = threading.Lock()

    def since(self, begin: float) -> list[Outcome]:
        """Outcomes of judgements given since a time, in Unix seconds; oldest first."""
        with self._lock:
            now = time.monotonic()
            if self._kept is None or self._kept[0] != begin or now - self._kept[1] > FRESH_SECONDS:
                found = sorted([*self._thumbs(begin), *self._duels(begin)], key=lambda outcome: outcome.time)
                self._kept = (begin, now, found)
            return self._kept[2]

    def changed(self) -> None:
        """Something was judged, or taken back."""
        with self._lock:
            self._kept = None

    def _thumbs(self, begin: float) -> Iterator[Outcome]:
        for judged in self.store.rated(begin):
            message, thumb = judged.message, judged.rating.thumb
            if thumb is None or message.routed is None or message.version is None or message.blocked:
                continue
            value = 1.0 if thumb > 0 else 0.0
            yield Outcome(message.version, value, message.uniform, judged.time, group=message.conversation)

    def _duels(self, begin: float) -> Iterator[Outcome]:
        for duel in self.store.duels(voted=True, since=begin):
            left, right = self._version(duel.left), self._version(duel.right)
            score = SCORES.get(duel.choice or "")
            if score is None or left is None or right is None or left == right:
                continue
            yield from self._sides(duel, left, right, score)

    @staticmethod
    def _sides(duel: Duel, left: str, right: str, score: float) -> Iterator[Outcome]:
        assert duel.voted is not None
        for version, value in ((left, score), (right, 1 - score)):
            yield Outcome(version, value, uniform=True, time=duel.voted, group=duel.id)

    def _version(self, message: str) -> str | None:
        """Who wrote a reply; None for one that was blocked."""
        if message not in self._versions:
            found = self.store.message(message)
            self._versions[message] = None if found.blocked else found.version
        return self._versions[message]
