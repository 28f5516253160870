"""From a user's turn to a reply under way: what the model is shown, who answers, and what is written down afterwards.

chosen = Chosen("ppo")
asked = answering.ask(history, Chosen("ppo"), settings)               # history ends with the user's turn
turn = answering.follow("ann", history[-1], asked, answering.keep)
turn = answering.refuse("ann", history[-1], block, kept)              # the safe reply instead, no model asked
"""

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rlhf.chat.engine import Engine
from rlhf.chat.feedback import NotFound, StoredMessage, new_id
from rlhf.chat.guardrails import Block, Guardrails
from rlhf.chat.inference.context import with_system
from rlhf.chat.inference.generation import Generation
from rlhf.chat.records import Reply, ReplySettings
from rlhf.chat.serving.keeping import CANNOT_NOW, Keeper
from rlhf.chat.serving.scorer import Judged, Scorer
from rlhf.chat.serving.turns import Deadlines, Ending, Turn
from rlhf.errors import UserError
from rlhf.records import Conversation, Message

log = logging.getLogger(__name__)

REMEMBERED = 1000
"""Replies of a version whose conduct is remembered."""


@dataclass(frozen=True)
class Chosen:
    """Who answers, and how that was decided."""

    version: str
    routed: float | None = None
    """Probability with which routing chose this version; None where it had no choice."""
    uniform: bool = False


class Asked(NamedTuple):
    """A reply that the engine was asked for."""

    generation: Generation
    shown: Conversation
    """What the model sees."""
    chosen: Chosen
    settings: ReplySettings


Finish = Callable[[Turn, StoredMessage, Ending], StoredMessage]
"""Is given a reply as it would be stored; gives it back as it was."""


class Answering:
    """Starts replies, and knows those that run.

    Args:
        engine: makes the text.
        keeper: stores it.
        guardrails: hold back what is unsafe.
        scorer: gives rewards in the background; None: nobody does.
        system: a turn put before every conversation; empty: none.
        timeout_s: seconds that a reply may take.
    """

    def __init__(
        self,
        engine: Engine,
        keeper: Keeper,
        guardrails: Guardrails,
        scorer: Scorer | None,
        system: str,
        timeout_s: float,
    ) -> None:
        self.engine, self.keeper, self.guardrails, self.scorer = engine, keeper, guardrails, scorer
        self.system = system
        self.running: dict[str, Turn] = {}
        self.conduct: Mapping[str, deque[bool]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        """Version → whether each of its replies ended badly (error, timeout, unsafe), oldest first."""
        self._deadlines = Deadlines(timeout_s)
        self._lock = threading.Lock()

    def ask(self, history: Sequence[StoredMessage], chosen: Chosen, settings: ReplySettings) -> Asked:
        """Have a reply made to the last turn of a history; `follow` makes a turn of it.

        Raises:
            QueueFull, PromptTooLong, UnknownVersion, UserError, EngineClosed: as `Engine.submit`; nothing was begun.
        """
        shown = with_system(as_conversation(history), self.system)
        return Asked(self.engine.submit(shown, chosen.version, settings), shown, chosen, settings)

    def follow(self, user: str, user_message: StoredMessage, asked: Asked, finish: Finish) -> Turn:
        """The turn of a reply that was asked for: it is read, stopped in time, and stored by `finish`."""

        def end(turn: Turn, ending: Ending) -> StoredMessage:
            message = self._written(turn, asked, ending)
            try:
                return finish(turn, message, ending)
            finally:  # the reply is what counts: what is said of it comes second
                with self._lock:
                    self.running.pop(turn.id, None)
                self._note(message, ending)

        turn = Turn(user, user_message, new_id(), asked.generation, self.guardrails.while_written(), end)
        turn.prompt = asked.shown
        with self._lock:
            self.running[turn.id] = turn
        self._deadlines.watch(turn)
        return turn

    def refuse(self, user: str, user_message: StoredMessage, block: Block, kept: bool) -> Turn:
        """Say politely that this is not answered; no model is asked."""
        said = StoredMessage(
            id=new_id(), conversation=user_message.conversation, parent=user_message.id, role="assistant",
            content=block.reply, finish_reason="stop", blocked=True,
        )  # fmt: skip
        said, also = self.keeper.add(said)
        self.log("blocked", side="input", reason=block.reason, user=user, message=user_message.id)
        return self.marked(Turn.finished(user, user_message, said), kept and also)

    def keep(self, turn: Turn, message: StoredMessage, ending: Ending) -> StoredMessage:
        """Store a reply: the usual `Finish`."""
        stored, kept = self.keeper.add(message)
        self.marked(turn, kept)
        self.score(turn.prompt, stored)
        return stored

    def marked(self, turn: Turn, kept: bool) -> Turn:
        """A turn, noted where it is not kept."""
        if not kept:
            turn.unkept(self.keeper.obstacle)
        return turn

    def score(self, prompt: Conversation, reply: StoredMessage) -> None:
        """Give a stored reply its reward, when there is time."""
        if self.scorer and not reply.blocked and reply.finish_reason in ("stop", "length"):
            row = Judged(prompt, reply.content, reply.finish_reason == "stop")
            self.scorer.later(row, lambda reward: self._reward(reply.id, reward))

    def log(self, kind: str, **data: Any) -> None:
        """Add a line to the event log; where that cannot be, to the program's only."""
        try:
            self.keeper.store.log(kind, **data)
        except UserError as error:
            log.warning("not in the event log: %s %s: %s", kind, data, str(error).splitlines()[0])

    def close(self) -> None:
        """Stop the replies that run; what there is of them is stored."""
        with self._lock:
            running = list(self.running.values())
        for turn in running:
            turn.abandon()
        self._deadlines.close()

    def _written(self, turn: Turn, asked: Asked, ending: Ending) -> StoredMessage:
        reply, blocked, settings, chosen = ending.reply, ending.block is not None, asked.settings, asked.chosen
        how: dict[str, Any] = {
            "temperature": settings.temperature, "top_p": settings.top_p, "max_tokens": settings.max_tokens,
            "seed": reply.seed if reply else settings.seed, "stop": list(settings.stop),
        }  # fmt: skip
        how |= {"system": self.system} if self.system else {}
        how |= {"dropped_turns": reply.dropped_turns} if reply and reply.dropped_turns else {}
        how |= {"timed_out": True} if ending.timed_out else {}
        reason = "stop" if ending.block else reply.finish_reason if reply else "error"
        return StoredMessage(
            id=turn.id, conversation=turn.conversation, parent=turn.user_message.id, role="assistant",
            content=ending.block.reply if ending.block else ending.text, version=chosen.version, settings=how,
            finish_reason=reason, created=time.time(), blocked=blocked, routed=chosen.routed, uniform=chosen.uniform,
            **_measured(reply),
        )  # fmt: skip

    def _note(self, message: StoredMessage, ending: Ending) -> None:
        """What went wrong goes into the event log, and on the version's record."""
        assert message.version is not None
        about = {"version": message.version, "message": message.id, "conversation": message.conversation}
        bad = True
        if ending.error is not None:
            cause = ending.error.__cause__ or ending.error
            log.error("a reply of %s failed", message.version, exc_info=ending.error)
            self.log("error", error=f"{type(cause).__name__}: {cause}"[:500], finish_reason="error", **about)
        elif ending.block:
            self.log("blocked", side="output", reason=ending.block.reason, **about)
        elif ending.timed_out:
            self.log("timeout", seconds=message.seconds, finish_reason=message.finish_reason, **about)
        else:
            bad = False
        if bad or message.finish_reason != "cancelled":  # stopped by its reader: says nothing of the version
            self.conduct[message.version].append(bad)

    def _reward(self, message: str, reward: float) -> None:
        try:
            self.keeper.store.set_reward(message, reward)
        except (NotFound, *CANNOT_NOW) as error:
            log.warning("a reward is not kept: %s", error)


def _measured(reply: Reply | None) -> dict[str, Any]:
    """What a reply cost."""
    if reply is None:
        return {}
    names = ("prompt_tokens", "completion_tokens", "seconds", "first_token_seconds")
    return {name: getattr(reply, name) for name in names}


def as_conversation(history: Sequence[StoredMessage]) -> Conversation:
    """What of a path the model is shown: no exchange in which a guardrail blocked what was said, on either side.

    The last turn is what is to be answered: whoever asks for a reply to it has checked it.
    """
    kept_out = {message.id for message in history[:-1] if message.role == "user" and message.blocked}
    kept_out |= {message.parent or "" for message in history if message.role == "assistant" and message.blocked}
    return tuple(
        Message(message.role, message.content)
        for message in history
        if message.id not in kept_out and message.parent not in kept_out
    )


def in_tree(conversation: Conversation) -> list[StoredMessage]:
    """A conversation as messages that follow each other, not stored yet."""
    path: list[StoredMessage] = []
    for turn in conversation:
        parent = path[-1].id if path else None
        path.append(StoredMessage(id=new_id(), conversation="", parent=parent, role=turn.role, content=turn.content))
    return path
