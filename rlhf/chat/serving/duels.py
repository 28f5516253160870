"""Duels: two answers to one prompt, side by side, without names; judged, they become a pair for the reward model.

    turn = duels.begin("ann", offer, settings, attempt)      # both answers are under way, and differ already
    turn.left, turn.right                           # two Turns
    turn.done()                                     # stored, and open for a vote

Half of the duels set a challenger against the live version, where there is a challenger; the others are two samples of
the live version. Sides and seeds are drawn at random, and nobody is told the seeds: who knew them could have each
version say the same again, and see whose answer is whose. Two equal answers are never shown: what both say alike is
held back until they differ, and where they never do, both are drawn again, and then another prompt is taken.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from rlhf.chat.feedback import Duel, StoredMessage, new_id
from rlhf.chat.guardrails import Block
from rlhf.chat.records import ReplySettings
from rlhf.chat.serving.answering import Answering, Asked, Chosen, as_conversation, in_tree
from rlhf.chat.serving.attempt import Attempt, NoDuel
from rlhf.chat.serving.once import Key
from rlhf.chat.serving.turns import Ending, Turn
from rlhf.chat.store.records import ChosenBy
from rlhf.errors import UserError
from rlhf.records import Conversation

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
DRAWS = 3
"""Pairs drawn on one prompt, at most, to get two that differ."""
SEEDS = 1 << 31


class Refused(UserError):
    """A text of the user's own, a prompt to duel on or a correction, that a guardrail blocks."""

    def __init__(self, block: Block) -> None:
        super().__init__(block.reply)
        self.reason = block.reason


@dataclass(frozen=True)
class Arm:
    """What one side shows: a version, and the seed of its reply."""

    version: str
    seed: int


@dataclass(frozen=True)
class Offer:
    """A prompt to duel on."""

    prompt: str
    conversation: Conversation
    chosen_by: ChosenBy
    arms: tuple[Arm, Arm] | None = None
    """Left and right, where the pair that the reward model is unsure of is known already."""


class DuelTurn:
    """Two replies on their way. What they answer, and they, are stored when both are whole.

    Args:
        offer: what is asked.
        store: stores all of it and opens the duel.
        key: of the request that asked for it.
    """

    def __init__(self, offer: Offer, store: Callable[["DuelTurn"], Duel], key: Key | None = None) -> None:
        self.id = new_id()
        """The duel's, too."""
        self.offer, self.prompt, self.chosen_by, self.key = offer, offer.prompt, offer.chosen_by, key
        self.left: Turn
        self.right: Turn
        self.replies: dict[str, StoredMessage] = {}
        self.duel: Duel | None = None
        self._store, self._accepted = store, False
        self._lock = threading.RLock()

    def collect(self, turn: Turn, reply: StoredMessage, ending: Ending) -> StoredMessage:
        """One of them has ended: the `Finish` of both turns."""
        with self._lock:
            self.replies[turn.id] = reply
            self._open()
        return reply

    def accept(self) -> None:
        """They differ, and are shown: from now on they count."""
        with self._lock:
            self._accepted = True
            self._open()

    def done(self) -> Duel:
        """Wait for both; the duel, open for a vote.

        Raises:
            GenerationFailed: one of them could not be finished.
            NoDuel: one of them was stopped.
            StoreFull: there was no room for it.
        """
        self.left.done()
        self.right.done()
        if self.duel is None:
            raise NoDuel("One of the two answers was stopped before its end.", remedy="ask for another duel")
        return self.duel

    def cancel(self) -> bool:
        """Stop both; False where both have finished."""
        return any([self.left.cancel(), self.right.cancel()])

    def join(self) -> bool:
        """Another reader comes; False where they had better ask anew: there will be no duel."""
        if self.duel is None and self.left.ended.is_set() and self.right.ended.is_set():
            return False
        if not self.left.join():
            return False
        if not self.right.join():
            self.left.close()
            return False
        return True

    def close(self) -> None:
        """A reader has left; the last one stops both."""
        self.left.close()
        self.right.close()

    def _open(self) -> None:
        whole = [reply for reply in self.replies.values() if reply.finish_reason in ("stop", "length")]
        if self._accepted and len(whole) == len(SIDES):
            self.duel = self._store(self)


class Duels:
    """Begins duels.

    Args:
        answering: makes the replies.
        arms: the versions that answer, the live one first.
        rng: draws versions, seeds and sides.
    """

    def __init__(self, answering: Answering, arms: Callable[[], tuple[str, ...]], rng: random.Random) -> None:
        self.answering, self.arms, self.rng = answering, arms, rng

    def draw(self) -> tuple[Arm, Arm]:
        """Who meets whom, left and right."""
        live, *challengers = self.arms()
        other = self.rng.choice(challengers) if challengers and self.rng.random() < 0.5 else live
        first, second = self.rng.sample(range(SEEDS), 2)
        pair = [Arm(live, first), Arm(other, second)]
        self.rng.shuffle(pair)
        return pair[0], pair[1]

    def begin(
        self, user: str, offer: Offer, settings: ReplySettings, attempt: Attempt, key: Key | None = None
    ) -> DuelTurn | None:
        """Start two replies, and wait until they differ; None where they never do.

        Raises:
            Left, NoDuel: nobody waits any more, or the time is up.
            GenerationFailed, or as `Engine.submit`.
        """
        for number in range(DRAWS):
            attempt.check()
            arms = offer.arms if number == 0 and offer.arms else self.draw()
            turn = self._start(DuelTurn(offer, self._keep, key), user, arms, settings)
            try:
                with attempt.watching(turn):
                    differ = _differ(turn.left, turn.right)
                attempt.check()
                if differ:
                    turn.accept()
                    return turn
            except BaseException:
                turn.close()
                raise
        return None

    def given(self, id: str) -> DuelTurn:
        """A duel that is stored, with both replies finished."""
        store = self.answering.keeper.store
        duel = store.duel(id)
        history = store.path(duel.prompt_message)
        asked = history[-1]
        turn = DuelTurn(Offer(asked.content, as_conversation(history), duel.chosen_by), self._keep)
        turn.id, turn.duel = duel.id, duel
        turn.left, turn.right = (
            Turn.finished(duel.user, asked, store.message(reply)) for reply in (duel.left, duel.right)
        )
        return turn

    def _start(self, duel: DuelTurn, user: str, arms: tuple[Arm, Arm], settings: ReplySettings) -> DuelTurn:
        history, asked = in_tree(duel.offer.conversation), list[Asked]()
        try:
            for arm in arms:
                asked.append(self.answering.ask(history, Chosen(arm.version), replace(settings, seed=arm.seed)))
        except BaseException:
            for one in asked:
                one.generation.cancel()
            raise
        duel.left, duel.right = (self.answering.follow(user, history[-1], one, duel.collect) for one in asked)
        return duel

    def _keep(self, turn: DuelTurn) -> Duel:
        """Store prompt, replies and duel in one step."""
        store, user = self.answering.keeper.store, turn.left.user
        replies = [turn.replies[side.id] for side in (turn.left, turn.right)]
        with store.together():
            conversation = store.new_conversation(user, kind="duel").id
            history = [replace(message, conversation=conversation) for message in in_tree(turn.offer.conversation)]
            for message in history:
                store.add_message(message)
            asked = history[-1].id
            for reply in replies:
                store.add_message(replace(reply, conversation=conversation, parent=asked))
            left, right = (reply.id for reply in replies)
            duel = store.open_duel(user, asked, left, right, turn.chosen_by, id=turn.id)
            if turn.key:
                store.note(user, *turn.key, duel.id)
        for side, reply in zip((turn.left, turn.right), replies, strict=True):
            self.answering.score(side.prompt, reply)
        return duel


def _differ(left: Turn, right: Turn) -> bool:
    """Read both, token by token in turn, until one shows what the other does not; False where they end equal."""
    while True:
        a, b = left.shown, right.shown
        if not (a.startswith(b) or b.startswith(a)):
            return True
        longer, shorter = (left, right) if len(a) > len(b) else (right, left)
        if shorter.ended.is_set() and (longer.ended.is_set() or a != b):
            break
        waiting = shorter if not shorter.ended.is_set() else longer
        waiting.read(waiting.pieces)
    for turn in (left, right):
        if turn.error:
            raise turn.error
    return a != b and not any(turn.message and turn.message.blocked for turn in (left, right))
