"""A conversation as the token ids that a model reads, cut at its oldest turns where it does not fit."""

from bisect import bisect_left
from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from rlhf.errors import UserError
from rlhf.records import Conversation, Message
from rlhf.tokenizer import encode_prompt


class PromptTooLong(UserError):
    """The last turn alone does not fit into the model's context beside the reply."""

    def __init__(self, prompt_tokens: int, max_tokens: int, context: int) -> None:
        super().__init__(
            "The message is too long for the model.",
            expected=f"message and reply together at most {context} tokens, the model's context",
            found=f"{prompt_tokens} tokens, and {max_tokens} for the reply",
            remedy="shorten the message, or ask for a shorter reply (max_tokens)",
        )
        self.prompt_tokens, self.max_tokens, self.context = prompt_tokens, max_tokens, context


class Fitted(NamedTuple):
    """What of a conversation the model is shown."""

    ids: list[int]
    dropped_turns: int


def with_system(messages: Conversation, system: str) -> Conversation:
    """The conversation with a system turn in front, unless the text is empty or it has one already."""
    if not system or (messages and messages[0].role == "system"):
        return messages
    return (Message("system", system), *messages)


def fit_context(
    tokenizer: PreTrainedTokenizerFast, messages: Conversation, max_tokens: int, context: int | None
) -> Fitted:
    """The ids of as many of the last turns as fit, the system turn kept.

    Turns go oldest first, a question with its answer, so that what is left opens with a user's turn.

    Args:
        tokenizer: with a chat template.
        messages: the last one is to be answered.
        max_tokens: room for the reply.
        context: tokens that the model can take; None where there is no limit.

    Raises:
        PromptTooLong: system turn and last turn alone are too long.
        UserError: no messages, or an empty one.
    """
    if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
        raise UserError("There is nothing to reply to.", expected="a conversation that ends with a user's message")
    opening, turns = (messages[:1], messages[1:]) if messages[0].role == "system" else ((), messages)
    starts = [place for place, turn in enumerate(turns) if turn.role == "user"]
    starts[0] = 0

    def fitted(start: int) -> Fitted:
        return Fitted(encode_prompt(tokenizer, (*opening, *turns[start:])), start)

    def fits(start: int) -> bool:
        return context is None or len(fitted(start).ids) + max_tokens <= context

    at = 0 if fits(0) else bisect_left(starts, True, key=fits)  # what is left gets shorter from start to start
    if at < len(starts):
        return fitted(starts[at])
    raise PromptTooLong(len(fitted(starts[-1]).ids), max_tokens, context or 0)
