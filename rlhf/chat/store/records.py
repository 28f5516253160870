"""What the feedback store keeps and gives back: frozen records, checked when they are made."""

import time
import uuid
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from rlhf.errors import UserError
from rlhf.records import Role

Kind = Literal["chat", "duel", "api"]
Choice = Literal["left", "right", "tie", "both_bad"]
ChosenBy = Literal["active", "random", "asked"]
"""How a duel's prompt was found: the reward model is least sure of it; by chance; a person typed it."""

CRITERIA = ("helpful", "relevant", "correct", "safe")
LONGEST_LATENCY_MS = 7 * 24 * 3600 * 1000


class NotFound(UserError, KeyError):
    """Nothing of this kind has this id."""

    __str__ = Exception.__str__  # KeyError's would quote the message

    def __init__(self, what: str, id: str) -> None:
        super().__init__(f"There is no {what} {id!r}.", remedy="reload: it may belong to somebody else, or never was")


class KeyReused(UserError):
    """An idempotency key came again with another request."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The idempotency key {key!r} was used for another request.",
            expected="a new key for each new request; the same one only to repeat it",
            remedy="send the request with a new key",
        )


def new_id() -> str:
    """A fresh id for a conversation, message or duel: 32 hex digits nobody can guess."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class StoredConversation:
    """A tree of messages that belongs to one user."""

    id: str
    user: str
    title: str
    kind: Kind
    created: float
    """Unix time in seconds, as all times here."""
    updated: float
    version: str | None = None
    """The version that answers here, once routing has chosen it."""
    hidden: bool = False


@dataclass(frozen=True)
class StoredMessage:
    """One turn: a node of a conversation's tree."""

    id: str
    conversation: str
    parent: str | None
    """The turn it follows; None for the first. Several children of one parent are edits or other replies."""
    role: Role
    content: str
    version: str | None = None
    """The version that wrote it, here and below for replies only."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How it was sampled, with the seed that was used."""
    finish_reason: str | None = None
    """"stop", "length", "cancelled" or "error"."""
    created: float = field(default_factory=time.time)
    blocked: bool = False
    """A guardrail stopped it, or wrote it; it never trains."""
    routed: float | None = None
    """Probability with which routing chose the version."""
    uniform: bool = False
    """Whether the choice was part of the uniform traffic."""
    reward: float | None = None
    """The reward model's score."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    first_token_seconds: float | None = None


@dataclass(frozen=True)
class Rating:
    """What one user thinks of one reply. A new one replaces the old one whole.

    Raises:
        UserError: a value that is not on its scale.
    """

    thumb: Literal[1, -1] | None = None
    helpful: int | None = None
    """1 (not at all) to 5 (very), as the next three."""
    relevant: int | None = None
    correct: int | None = None
    safe: int | None = None
    correction: str | None = None
    """What the reply should have said."""
    comment: str | None = None
    """For people to read; never exported."""

    def __post_init__(self) -> None:
        _check("thumb", self.thumb, (1, -1))
        for name in CRITERIA:
            _check(name, getattr(self, name), (1, 2, 3, 4, 5))
        for name in ("correction", "comment"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise UserError(f"Bad {name!r}.", expected="text, or null", found=repr(value)[:80])

    @property
    def empty(self) -> bool:
        """Whether it says nothing."""
        return all(getattr(self, part.name) is None for part in fields(self))


@dataclass(frozen=True)
class Duel:
    """Two replies to one prompt, shown side by side without names."""

    id: str
    user: str
    prompt_message: str
    left: str
    right: str
    chosen_by: ChosenBy
    created: float
    choice: Choice | None = None
    latency_ms: int | None = None
    """From when both replies were shown whole to the vote, in milliseconds; None where nobody looked at a screen."""
    voted: float | None = None
    votes: int = 0
    """How many were given so far, those taken back or changed too; to say the same again is no other vote."""

    @property
    def blind(self) -> bool:
        """Whether no names were known: they are told with the first vote, so that a later one says less."""
        return self.votes < 2

    @property
    def selected(self) -> bool:
        """Whether its replies were picked, for rewards that are nearly equal. That is a choice by what was said: such
        a duel teaches the reward model, but compares no versions (docs/ab-testing.md)."""
        return self.chosen_by == "active"

    @property
    def winner(self) -> str | None:
        """The preferred message, if one is."""
        return {"left": self.left, "right": self.right}.get(self.choice or "")


@dataclass(frozen=True)
class Event:
    """A line of the log, which only grows."""

    id: int
    time: float
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """A rating, with the reply that it is about."""

    user: str
    message: StoredMessage
    rating: Rating
    time: float


Stored = StoredConversation | StoredMessage | Rating | Duel
"""What a call that changes something gives back."""


def check_vote(choice: object, latency_ms: object) -> None:
    """Raise `UserError` where a vote is not one of the four, or its latency no time a person can take."""
    _check("choice", choice, get_args(Choice), optional=False)
    whole = isinstance(latency_ms, int) and not isinstance(latency_ms, bool) and 0 <= latency_ms <= LONGEST_LATENCY_MS
    if latency_ms is not None and not whole:
        raise UserError("Bad 'latency_ms'.", expected=f"whole milliseconds from 0 to {LONGEST_LATENCY_MS}, or null",
                        found=repr(latency_ms)[:80])  # fmt: skip


def _check(name: str, value: object, known: tuple[object, ...], optional: bool = True) -> None:
    right = value in known if isinstance(value, int | str) and not isinstance(value, bool) else False
    if not right and not (optional and value is None):
        words = ", ".join(map(str, known))
        raise UserError(f"Bad {name!r}.", expected=f"one of {words}{', or null' if optional else ''}",
                        found=repr(value)[:80])  # fmt: skip
