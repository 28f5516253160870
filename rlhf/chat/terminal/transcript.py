"""What was said in a conversation: its exchanges, and which of them the model is shown again."""

from dataclasses import dataclass

from rlhf.records import Conversation, Message


@dataclass(frozen=True)
class Exchange:
    """What a person said, and what came back."""

    said: str
    reply: str
    version: str = ""
    """Which version replied."""
    finish_reason: str = "stop"
    """As `records.FinishReason`."""
    seed: int | None = None
    blocked: bool = False
    """The reply was unsafe, and `reply` is what was said instead."""

    @property
    def shown(self) -> bool:
        """Whether the model is shown this in later ones."""
        return bool(self.reply) and not self.blocked

    @property
    def messages(self) -> Conversation:
        """The two turns."""
        return (Message("user", self.said), Message("assistant", self.reply))


@dataclass(frozen=True)
class Transcript:
    """A conversation so far."""

    system: str = ""
    """System turn before all others; empty: none."""
    exchanges: tuple[Exchange, ...] = ()

    def messages(self) -> Conversation:
        """What the model is shown of it, without the system turn."""
        return tuple(message for one in self.exchanges if one.shown for message in one.messages)
