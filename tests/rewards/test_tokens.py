"""From sampled tokens to the arguments of reward functions, row by row."""

import pytest
import torch

from rlhf.errors import UserError
from rlhf.records import Message, Prompt, ask
from rlhf.rewards.core import Reward, Rewards
from rlhf.rewards.tokens import GIVEN, LEARNED, TokenRewards, as_columns, as_text, learned
from rlhf.tokenizer import encode_reply

ROWS = [
    Prompt("1", ask("Who?"), "qa", "lists", reference="A cat."),
    Prompt("2", (Message("system", "Be kind."), Message("user", "What?")), "", "lists", "typos", origin="1"),
]


def test_a_conversation_as_text():
    assert as_text(ROWS[0].prompt) == "Who?"
    assert as_text(ROWS[1].prompt) == "system: Be kind.\n\nuser: What?"


def test_all_columns_by_hand(tokenizer):
    replies = [encode_reply(tokenizer, "A cat."), encode_reply(tokenizer, "It is", end=False)]
    assert as_columns(ROWS, [[7], [8, 9]], replies, tokenizer) == {
        "prompts": ["Who?", "system: Be kind.\n\nuser: What?"],
        "completions": ["A cat.", "It is"],  # without the end of sequence
        "messages": [
            [{"role": "user", "content": "Who?"}],
            [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "What?"}],
        ],
        "prompt_ids": [[7], [8, 9]],
        "completion_ids": replies,
        "id": ["1", "2"],
        "category": ["qa", ""],
        "source": ["lists", "lists"],
        "suite": ["in_distribution", "typos"],
        "reference": ["A cat.", None],
        "origin": ["", "1"],
    }


def test_each_reply_meets_the_record_of_its_own_row(tokenizer):
    seen = {}

    def watch(**given):
        seen.update(given)
        return [0.0] * len(given["prompts"])

    score = TokenRewards(Rewards([Reward("watch", watch)]), ROWS, tokenizer)
    score([[8], [7], [8]], [[20], [21], [22]], [1, 0, 1])
    assert set(seen) == set(GIVEN)
    assert seen["id"] == ["2", "1", "2"] and seen["reference"] == [None, "A cat.", None]
    assert score.names == ["watch"]


def test_the_learned_reward_reads_the_very_tokens_once(tokenizer):
    asked, seen, features = [], {}, torch.rand(2, 2, 3)

    def read(prompts, replies):
        asked.append((prompts, replies))
        return torch.tensor([0.25, -2.5]), features

    def watch(**given):
        seen.update(given)
        return [0.0, 0.0]

    rewards = Rewards([Reward("model", learned), Reward("again", learned, weight=0.5), Reward("watch", watch)])
    odd = [130, 131]  # half of a character: decoded and encoded again, it would not come back
    scores = TokenRewards(rewards, ROWS, tokenizer, read)([[7], [8]], [odd, [20]], [0, 1])
    assert asked == [([[7], [8]], [odd, [20]])] and set(seen) == {*GIVEN, LEARNED}
    assert scores.total.tolist() == [0.375, -3.75] and scores.parts[:, 0].tolist() == [0.25, -2.5] == seen[LEARNED]
    assert scores.features is features


def test_nothing_is_learned_without_a_reward_model(tokenizer):
    with pytest.raises(UserError, match="is no text reward"):
        TokenRewards(Rewards([Reward("model", learned)]), ROWS, tokenizer)([[7]], [[20]], [0])
