"""The store, and what it could not take: on a full disk, or while another process writes, the chat goes on from memory.

    message, kept = keeper.add(message)      # kept False: said, but on no disk
    keeper.path(message.id)                  # finds both kinds

What could not be written, messages and conversations, is tried again before each later write, in order, without much
waiting (`BRIEF_S`). What is still unwritten when the server ends is lost, and whoever wrote it was told so. A judgement
is never taken on trust: rating what is not kept fails. While the store makes one chat wait, the others are not held up.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from rlhf.chat.feedback import (
    FeedbackStore,
    NotFound,
    StoreBusy,
    StoredConversation,
    StoredMessage,
    StoreFull,
    new_id,
)
from rlhf.chat.store.records import Kind
from rlhf.errors import UserError

log = logging.getLogger(__name__)

CANNOT_NOW = (StoreFull, StoreBusy)
"""What passes: later the same can be written."""
MOST_UNKEPT = 2000
"""Messages held in memory; beyond them the oldest are forgotten."""
BRIEF_S = 0.25
"""How long what had no room waits for other writes, in seconds: everybody else waits meanwhile."""
LONGEST_S = 1.0
"""How long all that is tried again may take together, in seconds; the rest waits for the next write."""


class Keeper:
    """Conversations and messages, on the disk where there is room.

    Args:
        store: what writes them.
    """

    def __init__(self, store: FeedbackStore) -> None:
        self.store = store
        self._messages: dict[str, StoredMessage] = {}
        self._conversations: dict[str, StoredConversation] = {}
        self._lock = threading.RLock()
        """Of what is in memory. Nobody waits for the store under it, but briefly to write what is behind."""
        self._busy = False

    @property
    def obstacle(self) -> str:
        """What kept the last thing from the disk that could not be written, in words."""
        return "the feedback store is busy" if self._busy else "the disk is full"

    @property
    def unkept(self) -> int:
        """Messages that are in memory only."""
        return len(self._messages)

    def new_conversation(
        self, user: str, title: str = "", kind: Kind = "chat", key: str | None = None
    ) -> StoredConversation:
        """A conversation; where there is no room, one in memory until there is."""
        try:
            return self.store.new_conversation(user, title, kind, key=key)
        except CANNOT_NOW as error:
            self._warn(error)
        with self._lock:
            return self._in_memory(user, kind, title)

    def add_history(self, user: str, messages: Sequence[StoredMessage]) -> tuple[list[StoredMessage], bool]:
        """Store a conversation that was held elsewhere, each turn after the one before, in one step."""

        def of(conversation: str) -> list[StoredMessage]:
            parents = [None, *(message.id for message in messages)]
            return [
                replace(message, conversation=conversation, parent=parent)
                for message, parent in zip(messages, parents, strict=False)
            ]

        try:
            with self.store.together():
                stored = of(self.store.new_conversation(user, kind="api").id)
                for message in stored:
                    self.store.add_message(message)
            return stored, True
        except CANNOT_NOW as error:
            self._warn(error)
        with self._lock:
            made = self._in_memory(user, "api")
            stored = of(made.id)
            self._messages |= {message.id: message for message in stored}
        return stored, False

    def conversation(self, id: str) -> StoredConversation:
        """By its id. Raises `NotFound`."""
        return self._conversations.get(id) or self.store.conversation(id)

    def conversations(self, user: str) -> list[StoredConversation]:
        """Of a user, newest first."""
        here = [made for made in list(self._conversations.values()) if made.user == user and made.kind == "chat"]
        found = {made.id: made for made in (*here, *self.store.conversations(user)) if not made.hidden}
        return sorted(found.values(), key=lambda one: one.updated, reverse=True)

    def add(self, message: StoredMessage, key: str | None = None) -> tuple[StoredMessage, bool]:
        """Store a message; as it is stored, and whether it is. Raises `KeyReused`."""
        if self._follows_the_kept(message):
            try:
                return self.store.add_message(message, key=key), True
            except CANNOT_NOW as error:
                self._warn(error)
        with self._lock:
            self._messages[message.id] = message
            while len(self._messages) > MOST_UNKEPT:
                del self._messages[next(iter(self._messages))]
        return message, False

    def _follows_the_kept(self, message: StoredMessage) -> bool:
        """Whether what comes before a message is on the disk, or is now."""
        with self._lock:
            if self._messages or self._conversations:
                self._catch_up()
            return message.parent not in self._messages and message.conversation not in self._conversations

    def message(self, id: str) -> StoredMessage:
        """By its id. Raises `NotFound`."""
        return self._messages.get(id) or self.store.message(id)

    def is_kept(self, id: str) -> bool:
        """Whether a message is on the disk, or is now that there is room."""
        with self._lock:
            if id in self._messages:
                self._catch_up()
            return id not in self._messages

    def need_kept(self, id: str) -> None:
        """Refuse to judge what is in memory only. Raises `StoreFull`, or `StoreBusy` where others write."""
        if not self.is_kept(id):
            why = f"This reply is not kept yet, so it cannot be judged: {self.obstacle}."
            raise StoreBusy(why, remedy="try again") if self._busy else StoreFull(why, remedy="free some space")

    def is_in_memory(self, conversation: str) -> bool:
        """Whether there was no room even for the conversation."""
        return conversation in self._conversations

    def hide(self, conversation: str) -> None:
        """Take a conversation off the list."""
        with self._lock:
            if conversation in self._conversations:
                self._conversations[conversation] = replace(self._conversations[conversation], hidden=True)
                return
        self.store.hide(conversation)

    def messages(self, conversation: str) -> list[StoredMessage]:
        """The whole tree, oldest first."""
        here = [message for message in list(self._messages.values()) if message.conversation == conversation]
        stored = [] if conversation in self._conversations else self.store.messages(conversation)
        there = {message.id for message in stored}  # some of them may have been written just now
        return [*stored, *(message for message in here if message.id not in there)]

    def path(self, id: str) -> list[StoredMessage]:
        """From the root to a message. Raises `NotFound`."""
        here: list[StoredMessage] = []
        at: str | None = id
        while at is not None and (message := self._messages.get(at)):
            here.append(message)
            at = message.parent
        return [*(self.store.path(at) if at is not None else []), *reversed(here)]

    def _catch_up(self) -> None:
        """Write what had no room, as far as there is some now, for about `LONGEST_S`: others wait meanwhile."""
        until = time.monotonic() + LONGEST_S
        try:
            for talk in list(self._conversations.values()):
                if time.monotonic() > until:
                    return
                with self.store.together(BRIEF_S):
                    self.store.add_conversation(talk)
                del self._conversations[talk.id]
            for message in list(self._messages.values()):
                if time.monotonic() > until:
                    return
                try:
                    with self.store.together(BRIEF_S):
                        self.store.add_message(message)
                except (NotFound, ValueError):  # its parent was forgotten
                    log.warning("message %s cannot be stored any more: what it answers is lost", message.id)
                del self._messages[message.id]
        except CANNOT_NOW as error:
            self._busy = isinstance(error, StoreBusy)

    def _in_memory(self, user: str, kind: Kind, title: str = "") -> StoredConversation:
        now = time.time()
        made = StoredConversation(new_id(), user, title, kind, now, now)
        self._conversations[made.id] = made
        while len(self._conversations) > MOST_UNKEPT:
            del self._conversations[next(iter(self._conversations))]
        return made

    def assign(self, conversation: str, version: str) -> None:
        """Note who answers in a conversation from now on."""
        with self._lock:
            if conversation in self._conversations:
                self._conversations[conversation] = replace(self._conversations[conversation], version=version)
                return
        try:
            self.store.assign(conversation, version)
        except CANNOT_NOW as error:
            self._warn(error)

    def name(self, conversation: str, title: str) -> None:
        """Give a conversation a title."""
        with self._lock:
            if conversation in self._conversations:
                self._conversations[conversation] = replace(self._conversations[conversation], title=title)
                return
        self.store.rename(conversation, title)

    def _warn(self, error: UserError) -> None:
        self._busy = isinstance(error, StoreBusy)
        log.error("%s; the chat goes on, and what is said is not kept", str(error).splitlines()[0])
