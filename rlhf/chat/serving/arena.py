"""Where duels begin: which prompt is offered to whom, and what becomes of it.

offer = arena.next_prompt("ann")
turn = arena.begin("ann", None, settings, attempt)          # on the prompt that was offered
turn = arena.begin("ann", "Why?", settings, attempt)        # on one of her own
"""

from collections import OrderedDict
from dataclasses import replace
from weakref import WeakValueDictionary

from rlhf.chat.engine import QueueFull
from rlhf.chat.records import ReplySettings
from rlhf.chat.serving.attempt import Attempt, Left, NoDuel
from rlhf.chat.serving.deck import Deck
from rlhf.chat.serving.duels import Duels, DuelTurn, Offer, Refused
from rlhf.chat.serving.once import Key
from rlhf.chat.serving.replies import Replies
from rlhf.errors import UserError
from rlhf.records import ask

PROMPTS = 2
"""Prompts tried for one duel, at most."""
REMEMBERED = 1000
"""Users whose next prompt is fixed."""


class Arena:
    """Begins duels for people.

    Args:
        duels: makes the pairs.
        deck: finds prompts.
        replies: checks what people type.
    """

    def __init__(self, duels: Duels, deck: Deck, replies: Replies) -> None:
        self.duels, self.deck, self.replies = duels, deck, replies
        self.running: WeakValueDictionary[str, DuelTurn] = WeakValueDictionary()
        self._offers: OrderedDict[str, Offer] = OrderedDict()

    def next_prompt(self, user: str, other: bool = False) -> Offer:
        """The prompt of a user's next duel; the same until that duel begins. Raises `UserError` without prompts.

        Args:
            other: in place of the one that was offered.
        """
        kept = None if other else self._offers.get(user)
        offer = kept or self.deck.next()
        self._offers[user] = offer
        while len(self._offers) > REMEMBERED:
            self._offers.popitem(last=False)
        return offer

    def begin(
        self, user: str, prompt: str | None, settings: ReplySettings, attempt: Attempt, key: Key | None = None
    ) -> DuelTurn:
        """Of the settings, the length and the stop texts count. Raises as `ChatService.duel`."""
        offer = self._offer(user, prompt)
        try:
            turn = self._begin(user, offer, self._sampled(settings), attempt, key)
        except (QueueFull, Left):
            if offer.chosen_by != "asked":
                self._offers.setdefault(user, offer)
            raise
        self.running[turn.id] = turn
        return turn

    def _begin(self, user: str, offer: Offer, settings: ReplySettings, attempt: Attempt, key: Key | None) -> DuelTurn:
        """On the prompt offered or, where the answers are equal every time and it is not the user's own, on others."""
        self._check(user, offer)
        for number in range(PROMPTS):
            offer = self.deck.next() if number else offer
            turn = self.duels.begin(user, self._as_it_is_now(offer, settings), settings, attempt, key)
            if turn:
                return turn
            if offer.chosen_by == "asked":
                break
        raise NoDuel(
            "Both answers are the same every time.", expected="two answers that differ", remedy="try another prompt"
        )

    def _offer(self, user: str, prompt: str | None) -> Offer:
        """What was offered, if that is what is asked for now; else the user's own words, or a new prompt."""
        offered = self._offers.get(user)
        if offered and prompt in (None, offered.prompt):
            self._offers.pop(user, None)
            return offered
        if prompt is None:
            return self.deck.next()
        if not prompt.strip():
            raise UserError("The prompt is empty.", expected="some text, or none for a prompt of ours")
        return Offer(prompt, ask(prompt), "asked")

    def _check(self, user: str, offer: Offer) -> None:
        """Refuse what a guardrail blocks. Raises `Refused`, `TooFast`."""
        block = self.replies.checked(user, offer.prompt)
        if block:
            self.replies.answering.log("blocked", side="input", reason=block.reason, user=user)
            raise Refused(block)

    def _sampled(self, settings: ReplySettings) -> ReplySettings:
        """Sampled as we choose: who chose the seed, or greedy replies, could find out which version says what."""
        return replace(self.deck.sampled, max_tokens=settings.max_tokens, stop=settings.stop)

    def _as_it_is_now(self, offer: Offer, settings: ReplySettings) -> Offer:
        """The pair that was scored can be shown only if it would come out the same now."""
        arms = self.duels.arms()
        same = settings == self.deck.sampled and offer.arms and all(arm.version in arms for arm in offer.arms)
        return offer if same else replace(offer, arms=None)
