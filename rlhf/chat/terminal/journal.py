"""What is said in a terminal, kept in the feedback store, so that judgements have something to point to.

A conversation in the store begins with the first message. One that was loaded from a file is copied into it then, its
replies without a version: nobody's statistics count them again. Where the store cannot take a message, the chat goes
on; `trouble` says why, and what was not kept cannot be judged.
"""

import getpass
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlhf.chat.feedback import FeedbackStore, Rating, StoredMessage, new_id
from rlhf.chat.guardrails import Block
from rlhf.chat.records import Reply, ReplySettings
from rlhf.chat.terminal.transcript import Exchange
from rlhf.errors import UserError

LONGEST_TITLE = 60


@dataclass
class Kept:
    """An exchange, and the ids of its two messages in the store; None where it is not there."""

    exchange: Exchange
    question: str | None = None
    reply: str | None = None


class Journal:
    """A terminal's conversations in the store.

    Args:
        store: what keeps them.
        user: whose they are.
    """

    def __init__(self, store: FeedbackStore, user: str) -> None:
        self.store, self.user = store, user
        self.trouble: UserError | None = None
        """Why the last message was not kept."""
        self._conversation: str | None = None

    def begin(self) -> None:
        """What is said next belongs to a new conversation."""
        self._conversation = None

    def asked(self, before: Sequence[Kept], text: str) -> str | None:
        """Keep a message; its id. What the model is shown of the conversation goes first, where it is not kept."""
        try:
            with self.store.together():
                parent = self._last(before, text)
                return self._add(parent, "user", text).id
        except UserError as error:
            self._failed(error)
            return None

    def replied(self, question: str | None, exchange: Exchange, reply: Reply | None, how: dict[str, Any]) -> str | None:
        """Keep a reply (None: it failed, and this much was said before); its id."""
        if question is None:
            return None
        figures = {} if reply is None else {
            name: getattr(reply, name)
            for name in ("prompt_tokens", "completion_tokens", "seconds", "first_token_seconds")
        }  # fmt: skip
        try:
            message = self._add(
                question, "assistant", exchange.reply, version=exchange.version, settings=how,
                finish_reason=exchange.finish_reason, blocked=exchange.blocked, **figures,
            )  # fmt: skip
        except UserError as error:
            self._failed(error)
            return None
        self.trouble = None
        return message.id

    def judge(self, reply: str, thumb: int) -> None:
        """Note a thumb, up (1) or down (-1). Raises `UserError` where it cannot be kept."""
        self.store.rate(self.user, reply, Rating(thumb=1 if thumb > 0 else -1))

    def blocked(self, side: str, block: Block, **about: Any) -> None:
        """Note that a guardrail has stopped a message or a reply."""
        self._log("blocked", side=side, reason=block.reason, **about)

    def failed(self, error: BaseException, **about: Any) -> None:
        """Note that a reply could not be finished."""
        cause = error.__cause__ or error
        self._log("error", error=f"{type(cause).__name__}: {cause}"[:500], finish_reason="error", **about)

    def _last(self, before: Sequence[Kept], text: str) -> str | None:
        """The message that the next one follows; the conversation is copied into the store where it is not there."""
        shown = [kept for kept in before if kept.exchange.shown]
        if self._conversation is None or any(kept.reply is None for kept in shown):
            opening = shown[0].exchange.said if shown else text
            title = " ".join(opening.split())
            title = title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 1] + "…"
            self._conversation = self.store.new_conversation(self.user, title).id
            last = None
            for kept in shown:
                kept.question = self._add(last, "user", kept.exchange.said).id
                last = kept.reply = self._add(kept.question, "assistant", kept.exchange.reply,
                                              finish_reason=kept.exchange.finish_reason).id  # fmt: skip
        return shown[-1].reply if shown else None

    def _add(self, parent: str | None, role: Any, content: str, **rest: Any) -> StoredMessage:
        assert self._conversation is not None
        return self.store.add_message(StoredMessage(new_id(), self._conversation, parent, role, content, **rest))

    def _failed(self, error: UserError) -> None:
        self.trouble = error
        self._conversation = None

    def _log(self, kind: str, **data: Any) -> None:
        try:
            self.store.log(kind, user=self.user, **data)
        except UserError as error:
            self.trouble = error


def settings_used(settings: ReplySettings, reply: Reply | None, system: str) -> dict[str, Any]:
    """How a reply was sampled, as the store keeps it."""
    used = asdict(settings) | {"stop": list(settings.stop)}
    used |= {"seed": reply.seed} if reply else {}
    used |= {"system": system} if system else {}
    return used | ({"dropped_turns": reply.dropped_turns} if reply and reply.dropped_turns else {})


def user_name() -> str:
    """The machine's user, as the store names them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return "terminal"
