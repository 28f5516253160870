"""What people's judgements say of the versions, read from the store: what routing learns from, and the test compares.

    outcomes = Outcomes(store)
    outcomes.since(time)                  # one outcome a judged, routed reply; two a duel between versions
    outcomes.results()                    # all duels between versions that count: what the standing is made of

A thumb on a reply whose version routing had chosen is an outcome, 1 or 0; thumbs of one conversation form one group,
since they are not independent. A duel between two versions is one outcome for each, in one group: 1 and 0, or a half
each. What nobody judged is no outcome; nor is "both bad", which says nothing of who is better; nor what may not train
because of what it is (`rlhf.chat.store.judgements`): spam, votes that were not blind, blocked turns, cut-off replies;
nor what was imported, whose versions were chosen elsewhere. A conversation that its owner has hidden goes on counting:
what people hide may depend on who answered.
"""

import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from rlhf.chat.ab_test import Outcome
from rlhf.chat.feedback import Duel, FeedbackStore, StoredMessage
from rlhf.chat.store.judgements import IMPORTED, one_sided, unfair, unfit

FRESH_SECONDS = 5.0
"""How old what is given may be: other servers may write to the same store."""
SCORES = {"left": 1.0, "tie": 0.5, "right": 0.0}
"""Choice → what the left side gets."""


class Result(NamedTuple):
    """How a duel between two versions ended."""

    left: str
    right: str
    score: float
    """What the left one got: 1, 1/2 or 0."""


class Outcomes:
    """The outcomes of a store; they are read anew where they may have changed.

    Args:
        store: what people judged.
    """

    def __init__(self, store: FeedbackStore) -> None:
        self.store = store
        self._results: dict[Duel, Result | None] = {}
        self._begun: dict[str, float | None] = {}
        self._kept: tuple[float, float, list[Outcome]] | None = None
        self._lock = threading.Lock()

    def since(self, begin: float) -> list[Outcome]:
        """Outcomes of the conversations and duels that began since a time, in Unix seconds; the oldest first."""
        with self._lock:
            now = time.monotonic()
            if self._kept is None or self._kept[0] != begin or now - self._kept[1] > FRESH_SECONDS:
                found = sorted([*self._thumbs(begin), *self._sides(begin)], key=lambda outcome: outcome.time)
                self._kept = (begin, now, found)
            return self._kept[2]

    def results(self) -> list[Result]:
        """Of all duels between two versions that count, the oldest first."""
        with self._lock:
            return [result for _, result in self._duels()]

    def changed(self) -> None:
        """Something was judged, or taken back."""
        with self._lock:
            self._kept = None

    def _thumbs(self, begin: float) -> Iterator[Outcome]:
        for judged in self.store.rated(begin):
            message, thumb = judged.message, judged.rating.thumb
            if thumb is None or message.routed is None or message.version is None:
                continue
            begun = self._beginning(message)
            if begun is not None and begun >= begin:
                talk, value = message.conversation, 1.0 if thumb > 0 else 0.0
                yield Outcome(message.version, value, message.uniform, judged.time, group=talk, begun=begun)

    def _beginning(self, reply: StoredMessage) -> float | None:
        """When its conversation began; None for a reply whose judgement does not count. Neither ever changes."""
        if reply.id not in self._begun:
            *turns, judged = self.store.path(reply.id)
            counts = unfit(turns, judged) is None
            self._begun[reply.id] = self.store.conversation(reply.conversation).created if counts else None
        return self._begun[reply.id]

    def _sides(self, begin: float) -> Iterator[Outcome]:
        for duel, (left, right, score) in self._duels():
            if duel.created >= begin:
                at, begun = duel.voted or duel.created, duel.created
                for version, value in ((left, score), (right, 1 - score)):
                    yield Outcome(version, value, uniform=True, time=at, group=duel.id, begun=begun, duel=True)

    def _duels(self) -> Iterator[tuple[Duel, Result]]:
        votes = [duel for duel in self.store.duels(voted=True) if duel.user != IMPORTED]
        runs = one_sided(votes)
        for duel in votes:
            if duel not in self._results:
                self._results[duel] = _result(self.store, duel)
            result = self._results[duel]
            if result is not None and duel.id not in runs:
                yield duel, result


def _result(store: FeedbackStore, duel: Duel) -> Result | None:
    """None where it says nothing of versions. For one and the same vote it stays what it is."""
    left, right = store.message(duel.left), store.message(duel.right)
    score = SCORES.get(duel.choice or "")
    if score is None or left.version is None or right.version is None or left.version == right.version:
        return None
    if unfit(store.path(duel.prompt_message), left, right) or unfair(duel, left, right):
        return None
    return Result(left.version, right.version, score)
