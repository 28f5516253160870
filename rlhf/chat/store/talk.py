"""The part of the feedback store that holds what was said: conversations, each a tree of messages."""

import json
import sqlite3
import time
from dataclasses import asdict, fields

from rlhf.chat.store.ledger import Ledger, insert, one
from rlhf.chat.store.records import Kind, NotFound, StoredConversation, StoredMessage, new_id

_MESSAGE = [part.name for part in fields(StoredMessage)]


class Talk(Ledger):
    """Conversations and messages."""

    def new_conversation(
        self, user: str, title: str = "", kind: Kind = "chat", key: str | None = None
    ) -> StoredConversation:
        """An empty conversation."""

        def act(c: sqlite3.Connection) -> StoredConversation:
            now = time.time()
            made = StoredConversation(new_id(), user, title, kind, now, now)
            insert(c, "conversations", asdict(made))
            return made

        return self._once(user, key, ["new_conversation", title, kind], act, lambda kept: StoredConversation(**kept))

    def add_conversation(self, made: StoredConversation) -> None:
        """Store one that was held elsewhere, as it is; does nothing where it is there already."""
        with self._db.writing() as c:
            insert(c, "conversations", asdict(made), "ON CONFLICT (id) DO NOTHING")

    def conversations(self, user: str, kind: Kind = "chat") -> list[StoredConversation]:
        """A user's conversations, the one used last first; hidden ones are left out."""
        with self._db.reading() as c:
            rows = c.execute(
                "SELECT * FROM conversations WHERE user = ? AND kind = ? AND NOT hidden "
                "ORDER BY updated DESC, rowid DESC",
                (user, kind),
            )
            return [conversation_of(row) for row in rows]

    def conversation(self, id: str) -> StoredConversation:
        with self._db.reading() as c:
            return conversation_of(one(c, "conversation", id, "SELECT * FROM conversations WHERE id = ?"))

    def rename(self, id: str, title: str) -> None:
        self._update("conversation", id, "UPDATE conversations SET title = ? WHERE id = ?", title)

    def hide(self, id: str) -> None:
        """Leave a conversation out of the list, and what was judged in it out of training; it stays in the file."""
        self._update("conversation", id, "UPDATE conversations SET hidden = ? WHERE id = ?", 1)

    def assign(self, id: str, version: str) -> None:
        """Note the version that answers in a conversation from now on."""
        self._update("conversation", id, "UPDATE conversations SET version = ? WHERE id = ?", version)

    def add_message(self, message: StoredMessage, key: str | None = None) -> StoredMessage:
        """Store a turn. With a key that its conversation's user has used, the turn of then, under its own id.

        Raises:
            ValueError: the id is taken, or the parent is not in the conversation.
        """
        owner = self.conversation(message.conversation).user

        def act(c: sqlite3.Connection) -> StoredMessage:
            parent = None
            if message.parent is not None:
                parent = c.execute("SELECT conversation FROM messages WHERE id = ?", (message.parent,)).fetchone()
                if parent is None or parent["conversation"] != message.conversation:
                    raise ValueError(f"the parent {message.parent} is not in conversation {message.conversation}")
            if c.execute("SELECT 1 FROM messages WHERE id = ?", (message.id,)).fetchone():
                raise ValueError(f"there is a message {message.id}")
            insert(c, "messages", asdict(message) | {"settings": json.dumps(message.settings)})
            c.execute("UPDATE conversations SET updated = max(updated, ?) WHERE id = ?",
                      (message.created, message.conversation))  # fmt: skip
            return message

        # What the caller draws anew at each attempt (id, time) is no part of the request.
        request = ["add_message", message.conversation, message.parent, message.role, message.content]
        return self._once(owner, key, request, act, lambda kept: StoredMessage(**kept))

    def messages(self, conversation: str) -> list[StoredMessage]:
        """The whole tree, oldest first."""
        with self._db.reading() as c:
            one(c, "conversation", conversation, "SELECT id FROM conversations WHERE id = ?")
            rows = c.execute("SELECT * FROM messages WHERE conversation = ? ORDER BY number", (conversation,))
            return [message_of(row) for row in rows]

    def message(self, id: str) -> StoredMessage:
        with self._db.reading() as c:
            return message_of(one(c, "message", id, "SELECT * FROM messages WHERE id = ?"))

    def path(self, message_id: str) -> list[StoredMessage]:
        """The turns from the first one to this one."""
        with self._db.reading() as c:
            rows = c.execute(
                """WITH RECURSIVE up (id, depth) AS (
                    SELECT id, 0 FROM messages WHERE id = ?
                    UNION ALL SELECT m.parent, depth + 1 FROM up JOIN messages m ON m.id = up.id
                    WHERE m.parent IS NOT NULL
                ) SELECT m.* FROM up JOIN messages m ON m.id = up.id ORDER BY depth DESC""",
                (message_id,),
            ).fetchall()
        if not rows:
            raise NotFound("message", message_id)
        return [message_of(row) for row in rows]

    def replies(self, since: float = 0, limit: int | None = None) -> list[StoredMessage]:
        """Replies since a time, oldest first; of more than `limit`, the latest."""
        with self._db.reading() as c:
            rows = c.execute(
                "SELECT * FROM messages WHERE role = 'assistant' AND created >= ? "
                "ORDER BY created DESC, number DESC LIMIT ?",
                (since, -1 if limit is None else limit),
            )
            return [message_of(row) for row in rows][::-1]

    def set_reward(self, message_id: str, reward: float) -> None:
        self._update("message", message_id, "UPDATE messages SET reward = ? WHERE id = ?", reward)


def conversation_of(row: sqlite3.Row) -> StoredConversation:
    """A row of `conversations`."""
    return StoredConversation(**{**row, "hidden": bool(row["hidden"])})


def message_of(row: sqlite3.Row) -> StoredMessage:
    """A row of `messages`, whatever else was selected with it."""
    kept = {name: row[name] for name in _MESSAGE}
    flags = {name: bool(kept[name]) for name in ("blocked", "uniform")}
    return StoredMessage(**kept | flags | {"settings": json.loads(kept["settings"])})
