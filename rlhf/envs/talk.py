"""One conversation: its tokens, how much of the reply there is, what may follow, and whose turn comes next."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rlhf.chat.terminal.screen import printable
from rlhf.envs.world import World, asked
from rlhf.records import Conversation, Message, Prompt
from rlhf.tokenizer import decode_reply, encode_prompt


@dataclass
class Talk:
    """A conversation that begins with a prompt; it is the assistant's turn until it is over.

    Args:
        world: its limits and its user.
        number: of the prompt in `world.prompts`.
    """

    world: World
    number: int
    messages: Conversation = field(init=False)
    """What has been said before the reply that is being written."""
    ids: list[int] = field(init=False)
    """All of it in token ids, that reply included: what the model would read."""
    reply: list[int] = field(init=False, default_factory=list)
    replies: int = field(init=False, default=0)
    """That are whole."""
    terminated: bool = field(init=False, default=False)
    """Nobody has anything more to say."""
    truncated: bool = field(init=False, default=False)
    """Something would have followed, but the context has no room for it."""

    def __post_init__(self) -> None:
        self.messages = self.prompt.prompt
        self.ids = list(self.world.encoded[self.number])
        self._room = self.world.max_reply_tokens

    @property
    def prompt(self) -> Prompt:
        return self.world.prompts[self.number]

    @property
    def over(self) -> bool:
        return self.terminated or self.truncated

    @property
    def room(self) -> int:
        """Tokens that the reply may still have."""
        return self._room - len(self.reply)

    def mask(self) -> NDArray[np.bool_]:
        """(V,): true for the tokens that may follow, also at the reply's last place, where all but the end of sequence
        cut it. Where the conversation is over, the end of sequence alone: a mask must allow something.
        """
        if self.over:
            return only(self.world.tokenizer.eos_token_id, self.world.vocabulary)
        return self.world.sayable.copy()

    def say(self, tokens: list[int], whole: bool = False) -> "Spoken | None":
        """Add tokens to the reply until it ends; what was said, if it did.

        It ends with an end of sequence, and without one (it is cut) where it has no room for more, or at a special
        token, which is not written. Tokens behind its end are not looked at.

        Args:
            tokens: at least one.
            whole: it is cut after them, if it has not ended.
        """
        for number, token in enumerate(tokens, start=1):
            forbidden = not self.world.sayable[token]
            if not forbidden:
                self.ids.append(token)
                self.reply.append(token)
            ended = token == self.world.tokenizer.eos_token_id
            if forbidden or ended or self.room == 0 or (whole and number == len(tokens)):
                return self._spoken(ended)
        return None

    def text(self) -> str:
        """A line or more a turn, each behind its role; the last one may be a reply in the making."""
        lines = [f"{turn.role}: {printable(turn.content)}" for turn in self.messages]
        if not self.over:
            lines.append(f"assistant: {printable(decode_reply(self.world.tokenizer, self.reply))}…")
        return "\n".join(lines)

    def _spoken(self, ended: bool) -> "Spoken":
        """The reply is whole: the user's turn, and with it the next reply, or the end."""
        text = decode_reply(self.world.tokenizer, self.reply)
        said = Spoken(
            asked(self.prompt, self.messages), self.ids[: len(self.ids) - len(self.reply)], self.reply, text, ended
        )
        self.messages, self.reply = (*self.messages, Message("assistant", text)), []
        self.replies += 1
        further = self.world.next_turn(self.messages, self.replies)
        if further is None:
            self.terminated = True
        else:
            self._go_on((*self.messages, Message("user", further)))
        return said

    def _go_on(self, messages: Conversation) -> None:
        ids = encode_prompt(self.world.tokenizer, messages)
        self._room = min(self.world.max_reply_tokens, self.world.context - len(ids))
        if self._room < 1:
            self.truncated = True
        else:
            self.messages, self.ids = messages, ids


@dataclass(frozen=True)
class Spoken:
    """A whole reply."""

    prompt: Prompt
    """With the conversation before the reply."""
    prompt_ids: list[int]
    reply_ids: list[int]
    text: str
    ended: bool
    """With an end of sequence; else it was cut."""


def only(token: int, vocabulary: int) -> NDArray[np.bool_]:
    mask = np.zeros(vocabulary, dtype=bool)
    mask[token] = True
    return mask
