"""What conversations are made of: who asks what, who reads it, what a reply is worth, how long it may be."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from rlhf.errors import UserError
from rlhf.records import Conversation, Prompt
from rlhf.rewards.core import ReadFunction, Rewards
from rlhf.rewards.tokens import as_columns, with_learned

FurtherTurns = Sequence[str] | Callable[[Conversation], str | None]
"""What the user says after the first reply, the second …: texts, the same in every conversation, or a function of the
conversation so far, which ends with a reply; it returns None to end it."""


@dataclass(frozen=True, repr=False)
class World:
    """Everything that the environments share. Make one with `rlhf.env.make_world`, and give it to as many as you like.

    Raises:
        UserError: no prompts, limits out of range, or a prompt that does not fit into the context beside a reply.
    """

    tokenizer: PreTrainedTokenizerFast
    prompts: Sequence[Prompt]
    encoded: Sequence[list[int]]
    """The token ids of each prompt, up to where the reply begins."""
    rewards: Rewards
    """What a reply is worth."""
    context: int
    """Tokens of a conversation at most, the reply included."""
    max_reply_tokens: int = 32
    """Tokens of one reply at most, its end of sequence included."""
    model: Any = None
    """The language model: writes replies, reads conversations for `observation="features"`, and is not trained."""
    user: FurtherTurns = ()
    max_turns: int = 8
    """Replies of a conversation at most."""
    missing_eos_penalty: float = 0.0
    """Taken off the reward of a reply that did not end with the end of sequence."""
    read: ReadFunction | None = None
    """The learned reward model, if it is one of the rewards."""

    def __post_init__(self) -> None:
        if not self.prompts:
            raise UserError("There are no prompts to begin a conversation with.", remedy="give at least one")
        for name in ("max_reply_tokens", "max_turns", "context"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is out of range.", expected="at least 1", found=str(getattr(self, name)))
        if not 0 <= self.missing_eos_penalty < math.inf:
            raise UserError("missing_eos_penalty is out of range.", expected="a finite number, at least 0",
                            found=str(self.missing_eos_penalty))  # fmt: skip
        for prompt, ids in zip(self.prompts, self.encoded, strict=True):
            if len(ids) + self.max_reply_tokens > self.context:
                raise UserError(
                    f"The prompt {prompt.id} is too long for the context.",
                    expected=f"prompt and reply together at most {self.context} tokens",
                    found=f"{len(ids)} tokens, and {self.max_reply_tokens} for the reply",
                    remedy="leave it out, lower max_reply_tokens, or raise context as far as the model allows",
                )

    def __repr__(self) -> str:
        """In a few words: Gymnasium puts it into its messages."""
        return f"<World of {len(self.prompts)} prompts, rewarded for {', '.join(self.rewards.names)}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> "World":
        """Itself: nothing in it changes, and Gymnasium copies what an environment was made with."""
        return self

    @cached_property
    def vocabulary(self) -> int:
        """V: entries of the tokenizer, special tokens included."""
        return len(self.tokenizer)

    @cached_property
    def sayable(self) -> NDArray[np.bool_]:
        """(V,): true for the tokens that a reply may have, which are all but special ones, and the end of sequence."""
        allowed = np.ones(self.vocabulary, dtype=bool)
        special = {*self.tokenizer.all_special_ids, *(
            number for number, token in self.tokenizer.added_tokens_decoder.items() if token.special)}  # fmt: skip
        allowed[sorted(special)] = False
        allowed[self.tokenizer.eos_token_id] = True
        return allowed

    def next_turn(self, messages: Conversation, replies: int) -> str | None:
        """What the user says after so many replies; None where the conversation is over."""
        if replies >= self.max_turns:
            return None
        if callable(self.user):
            return self.user(messages)
        return self.user[replies - 1] if replies <= len(self.user) else None

    def score(
        self, prompts: Sequence[Prompt], prompt_ids: list[list[int]], replies: list[list[int]]
    ) -> tuple[list[float], list[dict[str, float]]]:
        """The rewards of N replies and, of each, what each reward function gave by itself, without
        its weight, if it applies.

        Raises:
            UserError: a reward function failed, or its reward is no finite number.
        """
        columns = as_columns(prompts, prompt_ids, replies, self.tokenizer)
        scores = self.rewards(**with_learned(columns, self.read)[0])
        for prompt, total, text in zip(prompts, scores.total.tolist(), columns["completions"], strict=True):
            if not np.isfinite(total):
                raise UserError("The reward of a reply is no finite number.", expected="a finite number",
                                found=f"{total} for the reply {text!r} to prompt {prompt.id}",
                                remedy="mend the reward function")  # fmt: skip
        parts = [
            {name: value for name, value in zip(self.rewards.names, row, strict=True) if not np.isnan(value)}
            for row in scores.parts.tolist()
        ]
        return scores.total.tolist(), parts


def asked(prompt: Prompt, messages: Conversation) -> Prompt:
    """A prompt with what has been said since, as reward functions see it; all else stays the opening's."""
    return replace(prompt, prompt=messages)
