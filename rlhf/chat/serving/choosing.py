"""Who answers in a conversation: chosen once, by routing, and then the same for all of it.

chosen = choosing.choose(talk)        # Chosen(version, probability of that choice, whether it was uniform)
"""

import threading
from collections import OrderedDict

from rlhf.chat.ab_test import Router
from rlhf.chat.serving.answering import Chosen
from rlhf.chat.serving.keeping import Keeper
from rlhf.chat.serving.outcomes import Outcomes
from rlhf.chat.serving.versions import Serving

REMEMBERED = 10_000
"""Conversations whose choice is in memory; of others it is read from their replies."""
LOCKS = 64
"""Conversations share so many locks: while one is written, the others go on."""


class Choosing:
    """Sticky routing.

    Args:
        serving: the versions there are.
        router: chooses among them.
        keeper: knows what was chosen before.
        outcomes: what routing learns from.
    """

    def __init__(self, serving: Serving, router: Router, keeper: Keeper, outcomes: Outcomes) -> None:
        self.serving, self.router, self.keeper, self.outcomes = serving, router, keeper, outcomes
        self._chosen: OrderedDict[str, Chosen] = OrderedDict()
        self._lock = threading.Lock()
        """Of the router and of what was chosen; nothing is read or written under it."""
        self._conversations = [threading.Lock() for _ in range(LOCKS)]

    def choose(self, conversation: str) -> Chosen:
        """The version of a conversation. Where it has been retired, the one in its place, which nobody routed."""
        with self._conversations[hash(conversation) % LOCKS]:
            stored = self.keeper.conversation(conversation).version
            known = self._chosen.get(conversation)
            if stored is None:  # a new one, or the choice could not be written
                return self._assign(conversation, self._current(known) if known else self.fresh())
            if known is None or known.version != stored:
                known = self._recalled(conversation, stored)
            now = self._current(known)
            return self._assign(conversation, now) if now != known else self._remember(conversation, known)

    def fresh(self) -> Chosen:
        """The version of a request that belongs to no conversation of ours."""
        arms = self.serving.arms
        if len(arms) == 1:
            return Chosen(arms[0])
        thumbs = self.outcomes.thumbs(self.serving.since)
        with self._lock:
            given = self.router.assign(arms, thumbs)
        return Chosen(given.version, given.probability, given.uniform)

    def _current(self, chosen: Chosen) -> Chosen:
        now = self.serving.stands_for(chosen.version)
        return chosen if now == chosen.version else Chosen(now)

    def _assign(self, conversation: str, chosen: Chosen) -> Chosen:
        self.keeper.assign(conversation, chosen.version)
        return self._remember(conversation, chosen)

    def _remember(self, conversation: str, chosen: Chosen) -> Chosen:
        with self._lock:
            self._chosen[conversation] = chosen
            self._chosen.move_to_end(conversation)
            while len(self._chosen) > REMEMBERED:
                self._chosen.popitem(last=False)
        return chosen

    def _recalled(self, conversation: str, version: str) -> Chosen:
        """As a reply of this conversation has it."""
        for message in reversed(self.keeper.messages(conversation)):
            if message.version == version:
                return Chosen(version, message.routed, message.uniform)
        return Chosen(version)
