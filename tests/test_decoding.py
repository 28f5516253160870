"""Sampling token by token: against transformers' own `generate`, against a forward pass, and in any company."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rlhf.decoding
from rlhf.decoding import Sampling, decode, draw
from rlhf.logprobs import masked_logprobs
from rlhf.padding import pad_left
from tests.architectures import tiny_model

PROMPTS = [[30], [30, 31, 32, 33, 34], [40, 41, 42], list(range(30, 50))]
LIMIT = 20


@pytest.fixture(params=["gpt-neo", "gpt2", "llama", "mistral", "qwen3"])
def network(request, lively, tokenizer):
    """A lively random model of each architecture; the window of GPT-Neo's second layer, and of Mistral, is 8 tokens."""
    return lively if request.param == "gpt-neo" else tiny_model(request.param, tokenizer)


@pytest.fixture
def sampling(tokenizer):
    return Sampling(LIMIT, (tokenizer.eos_token_id,), tokenizer.pad_token_id)


def run(model, sampling, prompts=PROMPTS, luck=None, **more):
    ids, mask = pad_left(prompts, sampling.pad_token_id)
    luck = torch.rand(len(prompts), LIMIT, generator=torch.Generator().manual_seed(1)) if luck is None else luck
    return decode(model, ids, mask, sampling, luck, **more)


def test_greedy_equals_generate(network, sampling):
    decoded = run(network, sampling._replace(temperature=0))
    for prompt, tokens, mask in zip(PROMPTS, decoded.tokens, decoded.mask, strict=True):
        expected = network.generate(
            input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=LIMIT, do_sample=False, pad_token_id=sampling.pad_token_id,
            eos_token_id=sampling.stop_ids[0], suppress_tokens=[sampling.pad_token_id],
        )[0, len(prompt) :]  # fmt: skip
        assert tokens[mask].tolist() == expected.tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_and_values_equal_a_forward_pass(network, sampling, temperature):
    torch.manual_seed(0)
    head = torch.nn.Linear(32, 1)
    decoded = run(network, sampling._replace(temperature=temperature), value_head=head)
    ids, mask = pad_left(PROMPTS, sampling.pad_token_id)
    sequences = torch.cat([ids, decoded.tokens], dim=1)
    attention = torch.cat([mask, decoded.mask.long()], dim=1)
    with torch.no_grad():
        expected = masked_logprobs(network, sequences, attention, decoded.mask, temperature, sampling.pad_token_id)
        hidden = rlhf.logprobs.reply_hidden(network, sequences, attention, decoded.mask)
    torch.testing.assert_close(decoded.logprobs, expected.logprobs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decoded.values[decoded.mask], head(hidden).squeeze(-1), atol=1e-5, rtol=1e-5)
    assert not decoded.values[~decoded.mask].any()


@pytest.mark.parametrize("leave", [1, 8, 10**6])
def test_a_reply_depends_on_its_own_prompt_and_luck_only(network, sampling, monkeypatch, leave):
    monkeypatch.setattr(rlhf.decoding, "LEAVE", leave)
    prompts = PROMPTS * 4
    stops = (*sampling.stop_ids, *range(60, 100))  # so that replies end at different times
    sampling = sampling._replace(stop_ids=stops)
    luck = torch.rand(len(prompts), LIMIT, generator=torch.Generator().manual_seed(2))
    together = run(network, sampling, prompts, luck)
    assert len(set(together.mask.sum(1).tolist())) > 3
    for row, prompt in enumerate(prompts):
        alone = run(network, sampling, [prompt], luck[row : row + 1])
        assert together.tokens[row][together.mask[row]].tolist() == alone.tokens[0][alone.mask[0]].tolist()
        assert together.ended[row] == alone.ended[0]
        torch.testing.assert_close(
            together.logprobs[row][together.mask[row]], alone.logprobs[0][alone.mask[0]], atol=1e-5, rtol=1e-5
        )


def test_replies_stop_at_the_first_stop_token_and_pads_follow(lively, sampling):
    sampling = sampling._replace(stop_ids=tuple(range(40, 120)))
    decoded = run(lively, sampling, PROMPTS * 4)
    assert decoded.ended.any()
    for tokens, mask, ended in zip(decoded.tokens, decoded.mask, decoded.ended, strict=True):
        reply = tokens[mask].tolist()
        assert mask.tolist() == sorted(mask.tolist(), reverse=True)
        assert (tokens[~mask] == sampling.pad_token_id).all()
        assert all(token not in sampling.stop_ids for token in reply[:-1])
        assert ended == (reply[-1] in sampling.stop_ids)
        assert ended or len(reply) == LIMIT


def test_ended_replies_cost_nothing(lively, sampling):
    widths = []
    lively.transformer.register_forward_hook(
        lambda module, args, kwargs, output: widths.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    run(lively, sampling._replace(stop_ids=tuple(range(40, 120))), PROMPTS * 4)
    assert widths[0] == 16 and widths[-1] < 8


def test_draw_by_hand():
    probs = torch.tensor([[0.25, 0.0, 0.5, 0.25]]).expand(5, 4)
    luck = torch.tensor([0.0, 0.2, 0.25, 0.74, 0.999])
    assert draw(probs, luck).flatten().tolist() == [0, 0, 2, 2, 3]


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=9), st.floats(0, 1, exclude_max=True, width=32))
def test_draw_never_takes_what_has_no_probability(weights, luck):
    probs = torch.tensor([weights])
    if probs.sum() == 0:
        return
    assert probs[0, draw(probs, torch.tensor([luck])).item()] > 0


def test_draws_are_as_frequent_as_they_are_likely():
    probs = torch.tensor([[0.1, 0.6, 0.3]]).expand(20_000, 3)
    found = draw(probs, torch.rand(20_000, generator=torch.Generator().manual_seed(0))).flatten().bincount() / 20_000
    torch.testing.assert_close(found, probs[0], atol=0.015, rtol=0)
