"""Who answers in a conversation: chosen once, by routing, and then the same for all of it.

chosen = choosing.choose(talk)        # Chosen(version, probability of that choice, whether it was uniform)
"""

import threading
from collections import OrderedDict

from rlhf.chat.ab_test import Router
from rlhf.chat.answering import Chosen
from rlhf.chat.keeping import Keeper
from rlhf.chat.outcomes import Outcomes
from rlhf.chat.serving import Serving

REMEMBERED = 10_000
"""Conversations whose choice is in memory; of others it is read from their replies."""


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

    def choose(self, conversation: str) -> Chosen:
        """The version of a conversation. Where it has been retired, the one in its place, which nobody routed."""
        with self._lock:
            before = self.keeper.conversation(conversation).version
            if before is None:
                return self._assign(conversation, self._route())
            now = self.serving.stands_for(before)
            if now != before:
                return self._assign(conversation, Chosen(now))
            return self._chosen.get(conversation) or self._recalled(conversation, before)

    def fresh(self) -> Chosen:
        """The version of a request that belongs to no conversation of ours."""
        with self._lock:
            return self._route()

    def _route(self) -> Chosen:
        arms = self.serving.arms
        if len(arms) == 1:
            return Chosen(arms[0])
        given = self.router.assign(arms, self.outcomes.since(self.serving.since))
        return Chosen(given.version, given.probability, given.uniform)

    def _assign(self, conversation: str, chosen: Chosen) -> Chosen:
        self.keeper.assign(conversation, chosen.version)
        self._chosen[conversation] = chosen
        while len(self._chosen) > REMEMBERED:
            self._chosen.popitem(last=False)
        return chosen

    def _recalled(self, conversation: str, version: str) -> Chosen:
        """As a reply of this conversation has it."""
        for message in reversed(self.keeper.messages(conversation)):
            if message.version == version:
                return Chosen(version, message.routed, message.uniform)
        return Chosen(version)
