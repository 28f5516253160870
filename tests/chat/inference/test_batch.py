"""Replies decoded together: each as if it were alone. And the choice of a token, worked out by hand."""

import pytest
import torch

from rlhf.chat.inference.batch import Row, RunningBatch, choose
from rlhf.fused import fuse_kernels
from tests.architectures import tiny_model

PROMPTS = [[30], [30, 31, 32, 33, 34], [40, 41, 42], list(range(30, 50))]


@pytest.fixture(params=["gpt-neo", "llama"])
def network(request, lively, tokenizer):
    return lively if request.param == "gpt-neo" else tiny_model(request.param, tokenizer)


def rows(temperature: float = 1.0, top_p: float = 1.0) -> list[Row]:
    return [Row(prompt, 12, temperature, top_p, seed) for seed, prompt in enumerate(PROMPTS)]


def finish(batch: RunningBatch, network) -> None:
    batch.drop_finished()
    while batch.rows:
        batch.step(network)
        batch.drop_finished()


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (0.8, 0.7)])
def test_a_reply_does_not_depend_on_its_company(network, tokenizer, temperature, top_p):
    single = rows(temperature, top_p)
    for row in single:
        batch = RunningBatch(tokenizer.pad_token_id, (tokenizer.eos_token_id,))
        batch.add(network, [row])
        finish(batch, network)
    together = rows(temperature, top_p)
    batch = RunningBatch(tokenizer.pad_token_id, (tokenizer.eos_token_id,))
    batch.add(network, together[:1])
    batch.step(network)
    batch.add(network, together[1:3])
    batch.step(network)
    batch.step(network)
    batch.add(network, together[3:])
    finish(batch, network)
    assert [row.tokens for row in together] == [row.tokens for row in single]
    assert all(0 < len(row.tokens) <= 12 for row in single)


def test_a_row_that_begins_again_goes_on_where_it_was(network, tokenizer):
    whole, broken = rows()[1], rows()[1]
    batch = RunningBatch(tokenizer.pad_token_id, (tokenizer.eos_token_id,))
    batch.add(network, [whole])
    finish(batch, network)
    batch.add(network, [broken])
    batch.step(network)
    assert batch.clear() == [broken] and not batch.rows
    batch.add(network, [broken])
    finish(batch, network)
    assert broken.tokens == whole.tokens


def test_a_dropped_row_leaves_and_the_others_go_on(network, tokenizer):
    batch, (first, second, *_) = RunningBatch(tokenizer.pad_token_id, ()), rows()
    batch.add(network, [first, second])
    first.dropped = True
    assert batch.drop_finished() == [first] and batch.rows == [second]
    finish(batch, network)
    assert len(first.tokens) == 1 and len(second.tokens) == 12


def test_rows_that_join_may_reach_beyond_the_context_together(lively, tokenizer):
    """Each of the two fits into the 64 positions; beside each other they take 34 + 25 + 30 columns."""
    fuse_kernels(lively)
    pair = lambda: (Row(list(range(30, 64)), 30, 1.0, 1.0, 1), Row(list(range(64, 98)), 30, 1.0, 1.0, 2))  # noqa: E731
    single = pair()
    for row in single:
        batch = RunningBatch(tokenizer.pad_token_id, ())
        batch.add(lively, [row])
        finish(batch, lively)
    first, second = pair()
    batch = RunningBatch(tokenizer.pad_token_id, ())
    batch.add(lively, [first])
    for _ in range(24):
        batch.step(lively)
    batch.add(lively, [second])
    finish(batch, lively)
    assert [first.tokens, second.tokens] == [row.tokens for row in single]
    assert len(first.tokens) == len(second.tokens) == 30


LOGITS = torch.log(torch.tensor([0.1, 0.5, 0.15, 0.25]))


@pytest.mark.parametrize(
    ("top_p", "luck", "token"),
    [
        (1.0, 0.05, 0),  # 0 .. 0.1 .. 0.6 .. 0.75 .. 1
        (1.0, 0.3, 1),
        (1.0, 0.7, 2),
        (1.0, 0.9, 3),
        (0.75, 0.05, 1),  # the nucleus is tokens 1 and 3: 0 .. 0.5 .. 0.75, scaled
        (0.75, 0.65, 1),
        (0.75, 0.67, 3),
        (0.5, 0.99, 1),  # token 1 alone has it
        (0.01, 0.99, 1),
    ],
)
def test_the_token_that_luck_falls_on(top_p, luck, token):
    chosen = choose(LOGITS[None], torch.tensor([1.0]), torch.tensor([top_p]), torch.tensor([luck]))
    assert chosen.tolist() == [token]


def test_temperature_sharpens_and_zero_is_greedy():
    """At temperature 0.5, probabilities are squared: 0.01, 0.25, 0.0225, 0.0625 of 0.345."""
    luck = torch.tensor([0.02, 0.04, 0.75, 0.76, 0.99])
    chosen = choose(LOGITS.repeat(5, 1), torch.full((5,), 0.5), torch.ones(5), luck)
    assert chosen.tolist() == [0, 1, 1, 2, 3]
    mixed = choose(LOGITS.repeat(2, 1), torch.tensor([0.0, 1.0]), torch.ones(2), torch.tensor([0.05, 0.05]))
    assert mixed.tolist() == [1, 0]
