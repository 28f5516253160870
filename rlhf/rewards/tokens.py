"""Between tokens and text: what PPO samples, as reward functions take it, and the learned reward model as one of them.

score = TokenRewards(rewards, rows, tokenizer)
score(prompts_ids, replies_ids, [0, 3, 1]).total
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rlhf.errors import UserError
from rlhf.records import Conversation, Prompt
from rlhf.rewards.core import Columns, ReadFunction, Rewards, Scores
from rlhf.tokenizer import decode_reply

COLUMNS = ("id", "category", "source", "suite", "reference", "origin")
"""The fields of a prompt's record that reward functions get as columns."""

LEARNED = "reward_model"
"""The column of what the learned reward model gives, where it is one of the rewards."""

GIVEN = ("prompts", "completions", "messages", "prompt_ids", "completion_ids", *COLUMNS)
"""All that PPO always gives a reward function."""


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
        read: the learned reward model, if it is one of the rewards. It reads token ids: nothing is decoded and encoded
            again; and once, however many rewards ask for what it gives.
    """

    def __init__(
        self,
        rewards: Rewards,
        rows: Sequence[Prompt],
        tokenizer: PreTrainedTokenizerFast,
        read: ReadFunction | None = None,
    ) -> None:
        self.rewards, self.rows, self.tokenizer, self.read = rewards, rows, tokenizer, read

    @property
    def names(self) -> list[str]:
        """As of `Rewards`."""
        return self.rewards.names

    def __call__(self, prompts: list[list[int]], replies: list[list[int]], rows: list[int]) -> Scores:
        """Scores of N replies, without padding; `rows` says which of the prompts each one answers."""
        columns = as_columns([self.rows[row] for row in rows], prompts, replies, self.tokenizer)
        columns, features = with_learned(columns, self.read)
        return self.rewards(**columns)._replace(features=features)


def with_learned(columns: Columns, read: ReadFunction | None) -> tuple[Columns, Tensor | None]:
    """Columns with what the learned reward model gives, if there is one, and its features of the replies' tokens."""
    if read is None:
        return columns, None
    scores, features = read(columns["prompt_ids"], columns["completion_ids"])
    return columns | {LEARNED: scores.tolist()}, features


def learned(prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
    """The learned reward model as a reward function. Raises `UserError` where nothing has read the replies."""
    if LEARNED not in columns:
        raise UserError("The reward model is no text reward: it is made by phase reward, and read by phase ppo.")
    return columns[LEARNED]
