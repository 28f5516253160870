"""Where duels begin: which prompt is offered to whom, and what becomes of it.

offer = arena.next_prompt("ann")
turn = arena.begin("ann", None, settings)          # on the prompt that was offered
turn = arena.begin("ann", "Why?", settings)        # on one of her own
"""

from collections import OrderedDict
from dataclasses import replace
from weakref import WeakValueDictionary

from rlhf.chat.deck import Deck
from rlhf.chat.duels import Duels, DuelTurn, NoDuel, Offer, Refused
from rlhf.chat.records import ReplySettings
from rlhf.chat.replies import Replies
from rlhf.errors import UserError
from rlhf.records import ask

PROMPTS = 4
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

    def begin(self, user: str, prompt: str | None, settings: ReplySettings) -> DuelTurn:
        """Raises as `ChatService.duel`."""
        for _ in range(PROMPTS):
            offer = self._offer(user, prompt)
            if not self._passes(user, offer):
                continue
            turn = self.duels.begin(user, self._as_it_is_now(offer, settings), settings)
            if turn:
                self.running[turn.id] = turn
                return turn
            if offer.chosen_by == "asked":
                break
            prompt = None
        raise NoDuel(
            "Both answers are the same every time.",
            expected="two answers that differ",
            remedy="try another prompt, or a higher temperature",
        )

    def _offer(self, user: str, prompt: str | None) -> Offer:
        """What was offered, if that is what is asked for now; else the user's own words, or a new prompt."""
        offered = self._offers.get(user)
        if offered and prompt in (None, offered.prompt):
            del self._offers[user]
            return offered
        if prompt is None:
            return self.deck.next()
        if not prompt.strip():
            raise UserError("The prompt is empty.", expected="some text, or none for a prompt of ours")
        return Offer(prompt, ask(prompt), "asked")

    def _passes(self, user: str, offer: Offer) -> bool:
        """Whether the guardrails let a prompt through; one that the user typed is refused where they do not."""
        block = self.replies.checked(user, offer.prompt)
        if block and offer.chosen_by == "asked":
            self.replies.answering.log("blocked", side="input", reason=block.reason, user=user)
            raise Refused(block)
        return block is None

    def _as_it_is_now(self, offer: Offer, settings: ReplySettings) -> Offer:
        """The pair that was scored can be shown only if it would come out the same now."""
        ahead, arms = self.deck.sampled, self.duels.arms()
        same = replace(settings, seed=None) == ahead and offer.arms and all(arm.version in arms for arm in offer.arms)
        return offer if same else replace(offer, arms=None)
