"""Between tokens and text: what PPO samples, as reward functions take it, and the learned reward model as one of them.

score = TokenRewards(rewards, rows, tokenizer)
score(prompts_ids, replies_ids, [0, 3, 1]).total
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rlhf.records import Conversation, Prompt
from rlhf.rewards.core import Columns, Rewards, Scores
from rlhf.tokenizer import decode_reply

COLUMNS = ("id", "category", "source", "suite", "reference", "origin")
"""The fields of a prompt's record that reward functions get as columns."""

GIVEN = ("prompts", "completions", "messages", "prompt_ids", "completion_ids", *COLUMNS)
"""All that PPO gives a reward function."""


def as_text(conversation: Conversation) -> str:
    """A conversation of one message as it stands; any other turn by turn, each behind its role."""
    if len(conversation) == 1:
        return conversation[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in conversation)


def as_columns(
    rows: Sequence[Prompt], prompt_ids: list[list[int]], reply_ids: list[list[int]], tokenizer: PreTrainedTokenizerFast
) -> Columns:
    """The arguments of reward functions, `GIVEN`, for a reply (in token ids) to each of N prompts."""
    return {
        "prompts": [as_text(row.prompt) for row in rows],
        "completions": [decode_reply(tokenizer, ids) for ids in reply_ids],
        "messages": [[{"role": turn.role, "content": turn.content} for turn in row.prompt] for row in rows],
        "prompt_ids": prompt_ids,
        "completion_ids": reply_ids,
        **{name: [getattr(row, name) for row in rows] for name in COLUMNS},
    }


class TokenRewards:
    """Rewards of replies in token ids.

    Args:
        rewards: functions of text.
        rows: all prompts that may be asked, training's and held-out ones.
        tokenizer: of the policy.
    """

    def __init__(self, rewards: Rewards, rows: Sequence[Prompt], tokenizer: PreTrainedTokenizerFast) -> None:
        self.rewards, self.rows, self.tokenizer = rewards, rows, tokenizer

    @property
    def names(self) -> list[str]:
        """As of `Rewards`."""
        return self.rewards.names

    def __call__(self, prompts: list[list[int]], replies: list[list[int]], rows: list[int]) -> Scores:
        """Scores of N replies, without padding; `rows` says which of the prompts each one answers."""
        asked = [self.rows[row] for row in rows]
        return self.rewards(**as_columns(asked, prompts, replies, self.tokenizer))


class Learned:
    """The learned reward model as a reward function. It reads token ids: nothing is decoded and encoded again.

    Args:
        score: sequences of token ids, prompt and reply together → rewards (N,).
    """

    def __init__(self, score: Callable[[list[list[int]]], Tensor]) -> None:
        self.score = score

    def __call__(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
        pairs = zip(columns["prompt_ids"], columns["completion_ids"], strict=True)
        return self.score([prompt + reply for prompt, reply in pairs]).tolist()
