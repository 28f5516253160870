"""Short ways to fill a feedback store."""

from pathlib import Path
from typing import Any

from rlhf.chat.feedback import FILE, Duel, FeedbackStore, StoredMessage, new_id

DONE: dict[str, Any] = {"version": "ppo", "finish_reason": "stop", "settings": {"temperature": 0.7, "seed": 1}}


def opened(folder: Path) -> FeedbackStore:
    return FeedbackStore(folder / FILE)


def turn(store: FeedbackStore, conversation: str, parent: str | None, content: str, **more: Any) -> StoredMessage:
    """The next turn: a question after nothing or a reply, a reply after a question."""
    asks = parent is None or store.message(parent).role == "assistant"
    values = {} if asks else DONE
    message = StoredMessage(new_id(), conversation, parent, "user" if asks else "assistant", content, **(values | more))
    return store.add_message(message)


def talk(store: FeedbackStore, user: str, *said: str, **last: Any) -> list[StoredMessage]:
    """A conversation of these turns, the user first; `last` are fields of the last one."""
    conversation = store.new_conversation(user, said[0])
    turns: list[StoredMessage] = []
    for number, text in enumerate(said, 1):
        more = last if number == len(said) else {}
        turns.append(turn(store, conversation.id, turns[-1].id if turns else None, text, **more))
    return turns


def duel(store: FeedbackStore, user: str, prompt: str, left: str, right: str, **fields: Any) -> Duel:
    """An open duel on a new prompt; `fields` are those of the right reply."""
    conversation = store.new_conversation(user, prompt, kind="duel")
    question = turn(store, conversation.id, None, prompt)
    replies = [
        turn(store, conversation.id, question.id, left),
        turn(store, conversation.id, question.id, right, **fields),
    ]
    return store.open_duel(user, question.id, replies[0].id, replies[1].id, "random")
