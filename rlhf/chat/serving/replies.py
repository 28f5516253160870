"""How replies begin: whose conversation it is, what a guardrail lets through, and who answers.

turn = replies.say("ann", talk.id, None, "Hello", settings, key)
turn = replies.regenerate("ann", message.id, settings)
turn = replies.complete("ann", messages, "ppo", settings)        # a conversation that a program holds itself
turn = replies.given(turn.reply_id)                              # as it came out: for a request that is sent again
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from rlhf.chat.engine import QueueFull
from rlhf.chat.feedback import NotFound, StoredConversation, StoredMessage, new_id
from rlhf.chat.guardrails import Block
from rlhf.chat.inference.fleet import UnknownVersion
from rlhf.chat.records import ReplySettings
from rlhf.chat.serving.answering import Answering, Asked, Chosen, in_tree
from rlhf.chat.serving.choosing import Choosing
from rlhf.chat.serving.keeping import CANNOT_NOW
from rlhf.chat.serving.once import Key
from rlhf.chat.serving.tally import Tally
from rlhf.chat.serving.turns import Ending, Turn
from rlhf.errors import UserError
from rlhf.records import Conversation

TITLE = 60
"""Characters of the first message that become a conversation's title."""
LIVE = "(live)"
"""In place of a version's name, which it cannot be: whichever is live when the engine is asked."""
WHOLE = ("stop", "length")
"""How a reply ends that nobody cut off."""


class TooFast(QueueFull):
    """This user sends more than one person may. `retry_after`: seconds after which to try again."""

    def __init__(self, block: Block) -> None:
        Exception.__init__(self, block.reply)
        self.waiting, self.retry_after = 0, block.retry_after or 1.0


class Replies:
    """Begins replies.

    Args:
        answering: makes and stores them.
        choosing: says who answers.
    """

    def __init__(self, answering: Answering, choosing: Choosing) -> None:
        self.answering, self.choosing = answering, choosing
        self.keeper = answering.keeper
        self._too_fast = Tally(self._note_too_fast)

    def owned(self, user: str, conversation: str) -> StoredConversation:
        """A conversation of this user's. Raises `NotFound`, also for somebody else's."""
        found = self.keeper.conversation(conversation)
        if found.user != user or found.hidden:
            raise NotFound("conversation", conversation)
        return found

    def owned_message(self, user: str, id: str) -> StoredMessage:
        """A message in a conversation of this user's. Raises `NotFound`."""
        found = self.keeper.message(id)
        if self.keeper.conversation(found.conversation).user != user:
            raise NotFound("message", id)
        return found

    def checked(self, user: str, text: str) -> Block | None:
        """What keeps a text from the model. Raises `TooFast`."""
        block = self.answering.guardrails.check_input(user, text)
        if block and block.reason == "rate":
            self._too_fast.add("" if block.everybody else user)
            raise TooFast(block)
        return block

    def close(self) -> None:
        """Write down what is only counted so far."""
        self._too_fast.flush()

    def _note_too_fast(self, user: str, count: int) -> None:
        self.answering.log("blocked", side="input", reason="rate", user=user or None, count=count)

    def say(
        self, user: str, conversation: str, parent: str | None, content: str, settings: ReplySettings, key: str | None
    ) -> Turn:
        """Raises as `ChatService.say`."""
        talk = self.owned(user, conversation)
        if not content.strip():
            raise UserError("The message is empty.", expected="some text")
        before = self._before(talk, parent)
        block = self.checked(user, content)
        message = StoredMessage(new_id(), talk.id, parent, "user", content, blocked=block is not None)
        if block:
            stored, kept = self._added(talk, message, key)
            return self._said(user, stored, kept) or self.answering.refuse(user, stored, block, kept)
        asked = self._asked([*before, message], self.choosing.choose(talk.id), settings)
        try:
            stored, kept = self._added(talk, message, key)
        except BaseException:
            asked.generation.cancel()
            raise
        if stored.id != message.id and (said := self._said(user, stored, kept)):
            asked.generation.cancel()  # sent again, to a server that was started anew in between
            return said
        return self._followed(user, stored, kept, asked)

    def regenerate(self, user: str, message_id: str, settings: ReplySettings, key: Key | None = None) -> Turn:
        """Raises as `ChatService.say`."""
        message = self.owned_message(user, message_id)
        if message.role == "assistant" and message.parent is not None:
            message = self.keeper.message(message.parent)
        if message.role != "user":
            raise UserError("There is nothing to answer.", expected="a message of yours, or a reply to one")
        self.owned(user, message.conversation)
        block = self.checked(user, message.content)
        kept = self.keeper.is_kept(message.id)
        if block:
            return self.answering.refuse(user, message, block, kept)
        chosen = self.choosing.choose(message.conversation)
        return self._followed(user, message, kept, self._asked(self.keeper.path(message.id), chosen, settings), key)

    def complete(
        self,
        user: str,
        messages: Conversation,
        version: str | None,
        settings: ReplySettings,
        key: Key | None = None,
    ) -> Turn:
        """Raises as `ChatService.say`."""
        if not messages or messages[-1].role != "user":
            raise UserError("There is nothing to reply to.", expected="messages of which the last is a user's")
        history, block = self._screened(in_tree(messages), self.checked(user, messages[-1].content))
        if block:
            stored, kept = self.keeper.add_history(user, history)
            return self.answering.refuse(user, stored[-1], block, kept)
        if version is None:
            asked = self._asked(history, self.choosing.fresh(), settings)
        elif version == LIVE:
            asked = self._asked(history, Chosen(self.choosing.serving.live), settings)
        else:
            asked = self.answering.ask(history, Chosen(version), settings)
        try:
            stored, kept = self.keeper.add_history(user, history)
        except BaseException:
            asked.generation.cancel()
            raise
        return self._followed(user, stored[-1], kept, asked, key)

    def _screened(
        self, history: Sequence[StoredMessage], last: Block | None
    ) -> tuple[list[StoredMessage], Block | None]:
        """A history that a program sent, with what is unsafe in it marked, and why it is not answered, if it is not.

        An earlier turn of the user's that would not have been answered is kept from the model, as in a conversation
        of ours; a system turn or the last one forbids a reply.
        """
        check = self.answering.guardrails.check_message
        blocks = [check(message.content) if message.role != "assistant" else None for message in history[:-1]]
        blocks.append(last)
        marked = [replace(one, blocked=block is not None) for one, block in zip(history, blocks, strict=True)]
        system = (block for one, block in zip(history, blocks, strict=True) if one.role == "system" and block)
        return marked, last or next(system, None)

    def given(self, reply: str) -> Turn:
        """A reply that is stored, as a finished turn."""
        message = self.keeper.message(reply)
        asked = self.keeper.message(message.parent or "")
        return Turn.finished(self.keeper.conversation(message.conversation).user, asked, message)

    def _before(self, talk: StoredConversation, parent: str | None) -> list[StoredMessage]:
        """What was said up to a new turn."""
        if parent is None:
            return []
        path = self.keeper.path(parent)
        if path[-1].conversation != talk.id:
            raise NotFound("message", parent)
        if path[-1].role == "user":
            raise UserError(
                "This message has no reply yet.",
                expected="a reply as the parent",
                remedy="have it answered first, or say it in other words: to the same parent as it has",
            )
        return path

    def _added(self, talk: StoredConversation, message: StoredMessage, key: str | None) -> tuple[StoredMessage, bool]:
        """Store a turn; the first one names its conversation."""
        stored, kept = self.keeper.add(message, key)
        if not talk.title and kept:
            with suppress(*CANNOT_NOW):  # the turn is kept, which is what counts
                self.keeper.name(talk.id, title_of(message.content))
        return stored, kept

    def _asked(self, history: Sequence[StoredMessage], chosen: Chosen, settings: ReplySettings) -> Asked:
        """Ask who was chosen; where that version has gone in the meantime, the live one."""
        try:
            return self.answering.ask(history, chosen, settings)
        except UnknownVersion:
            return self.answering.ask(history, Chosen(self.choosing.serving.live), settings)

    def _followed(self, user: str, message: StoredMessage, kept: bool, asked: Asked, key: Key | None = None) -> Turn:
        def finish(turn: Turn, reply: StoredMessage, ending: Ending) -> StoredMessage:
            stored = self.answering.keep(turn, reply, ending)
            if key and turn.kept and stored.finish_reason in WHOLE:
                with suppress(*CANNOT_NOW):  # the reply is kept, which is what counts
                    self.keeper.store.note(user, *key, stored.id)
            return stored

        return self.answering.marked(self.answering.follow(user, message, asked, finish), kept)

    def _said(self, user: str, message: StoredMessage, kept: bool) -> Turn | None:
        """The first reply that a turn has, as a finished turn; None where all that it has was cut off."""
        tree = self.keeper.messages(message.conversation)
        replies = [one for one in tree if one.parent == message.id and one.finish_reason in WHOLE]
        return self.answering.marked(Turn.finished(user, message, replies[0]), kept) if replies else None


def title_of(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= TITLE else f"{line[: TITLE - 1].rstrip()}…"
