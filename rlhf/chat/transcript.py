"""What was said in a conversation: its turns, and which of them the model is shown again."""

from dataclasses import dataclass

from rlhf.records import Conversation, Message


@dataclass(frozen=True)
class Turn:
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
        """Whether the model is shown this turn in later ones."""
        return bool(self.reply) and not self.blocked


@dataclass(frozen=True)
class Transcript:
    """A conversation so far."""

    system: str = ""
    """System turn before all others; empty: none."""
    turns: tuple[Turn, ...] = ()

    def messages(self) -> Conversation:
        """What the model is shown of the turns so far, without the system turn."""
        shown = [turn for turn in self.turns if turn.shown]
        return tuple(
            message for turn in shown for message in (Message("user", turn.said), Message("assistant", turn.reply))
        )
