"""Log-probabilities of replies, whole and in chunks, and their gradients."""

import pytest
import torch
from torch import nn

import rlhf.logprobs
from rlhf.logprobs import Distribution, masked_logprobs, reply_logprobs, spread, token_logprobs

ASKED = [[30, 31, 32], [40], [50, 51, 52, 53, 54]]
REPLIED = [[60, 61], [62, 63, 64, 65], [66]]


def naive(model, prompt, reply, pad, temperature):
    """One token at a time, without any padding."""
    total, ids = 0.0, list(prompt)
    for token in reply:
        logits = model(torch.tensor([ids])).logits[0, -1].float() / temperature
        logits[pad] = -torch.inf
        total += (logits[token] - logits.logsumexp(0)).item()
        ids.append(token)
    return total


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_reply_logprobs_equal_a_plain_loop(lively, tokenizer, batch_size, temperature):
    pad = tokenizer.pad_token_id
    with torch.no_grad():
        expected = [naive(lively, p, r, pad, temperature) for p, r in zip(ASKED, REPLIED, strict=True)]
    found = reply_logprobs(lively, ASKED, REPLIED, pad, temperature=temperature, batch_size=batch_size)
    assert found == pytest.approx(expected, abs=1e-3)
    assert len(set(expected)) == 3


def test_an_empty_reply_has_log_probability_0(lively, tokenizer):
    found = reply_logprobs(lively, [[30], [31]], [[], [40]], tokenizer.pad_token_id)
    assert found[0] == 0 and found[1] < 0
    assert reply_logprobs(lively, [[30]], [[]], tokenizer.pad_token_id) == [0]


def test_a_local_attention_window_is_respected(lively, tokenizer):
    """The window of the fixture's second layer is 8 tokens: sequences beyond it, padded."""
    prompts, replies = [list(range(30, 60)), [30, 31]], [list(range(60, 72)), [60]]
    with torch.no_grad():
        expected = [naive(lively, p, r, tokenizer.pad_token_id, 1.0) for p, r in zip(prompts, replies, strict=True)]
    assert reply_logprobs(lively, prompts, replies, tokenizer.pad_token_id) == pytest.approx(expected, abs=1e-3)


# --- the vocabulary projection ----------------------------------------------------------------------------------------

PAD = 5


def plain(head, hidden, tokens, temperature):
    logits = head(hidden) / temperature
    logits = logits.masked_fill(torch.arange(logits.shape[-1]) == PAD, -torch.inf)
    log_probs = logits.log_softmax(-1)
    entropy = -(log_probs.exp() * log_probs.masked_fill(log_probs == -torch.inf, 0)).sum(-1)
    return log_probs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1), entropy


class Wrapped(nn.Linear):
    """A head that is not a plain linear layer, as one with an adapter is."""


@pytest.mark.parametrize("kind", [nn.Linear, Wrapped])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_chunks_equal_the_whole_in_value_and_gradient(monkeypatch, kind, bias, chunk):
    monkeypatch.setattr(rlhf.logprobs, "CHUNK_LOGITS", chunk)
    torch.manual_seed(0)
    head = kind(6, 11, bias=bias)
    hidden, tokens = torch.randn(7, 6, requires_grad=True), torch.tensor([0, 1, 2, 3, 4, 6, 10])
    weights = torch.randn(7)
    found = []
    for compute in (
        lambda: plain(head, hidden, tokens, 0.7),
        lambda: token_logprobs(head, hidden, tokens, 0.7, PAD, entropy=True),
    ):
        logprobs, entropy = compute()
        gradients = torch.autograd.grad((logprobs * weights).sum(), [hidden, *head.parameters()])
        found.append((logprobs, entropy, *gradients))
    for expected, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    assert not found[1][1].requires_grad


def test_log_probabilities_by_hand():
    head = nn.Linear(1, 3, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.0], [1.0], [9.0]]))  # the last one is the pad
    logprobs, entropy = token_logprobs(head, torch.tensor([[2.0]]), torch.tensor([1]), 0.5, 2, entropy=True)
    p = 1 / (1 + torch.tensor(-4.0).exp())  # logits 0 and 4
    assert logprobs.item() == pytest.approx(p.log().item())
    assert entropy.item() == pytest.approx((-p * p.log() - (1 - p) * (1 - p).log()).item(), abs=1e-6)


def test_no_tokens_are_no_error():
    assert token_logprobs(
        nn.Linear(3, 4), torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 1.0, 0
    ).logprobs.shape == (0,)


def test_spread_puts_values_where_the_mask_is_true():
    mask = torch.tensor([[True, False], [True, True]])
    assert spread(torch.tensor([1.0, 2.0, 3.0]), mask).tolist() == [[1, 0], [2, 3]]


def test_only_real_reply_tokens_meet_the_vocabulary(lively, tokenizer, monkeypatch):
    seen = []
    projection = rlhf.logprobs.linear
    monkeypatch.setattr(rlhf.logprobs, "linear", lambda x, *rest: seen.append(len(x)) or projection(x, *rest))
    sequences = torch.tensor(
        [[30, 31, 32, 40, 41, 42], [33, 34, 35, 43, tokenizer.pad_token_id, tokenizer.pad_token_id]]
    )
    mask = torch.tensor([[True, True, True], [True, False, False]])
    with torch.no_grad():
        found = masked_logprobs(
            lively, sequences, (sequences != tokenizer.pad_token_id).long(), mask, 1.0, tokenizer.pad_token_id
        )
    assert seen == [4]
    assert (found.logprobs != 0).tolist() == mask.tolist()


@pytest.mark.parametrize("offset", [0.0, -300.0, 1e4])
def test_a_distribution_is_exact_wherever_its_logits_lie(offset):
    logits = torch.randn(4, 50257, generator=torch.Generator().manual_seed(0))
    logits[1, 7] = 40.0  # nearly certain
    logits[2, 9] = torch.finfo(torch.float32).min / 2  # as the pad
    logits = logits.double() + offset
    expected, tokens = logits.float().double().log_softmax(-1), torch.tensor([5, 7, 9, 1])
    found = Distribution.of(logits.float())
    torch.testing.assert_close(
        found.logprobs(tokens), expected.gather(-1, tokens[:, None]).squeeze(-1).float(), atol=1e-5, rtol=1e-5
    )
    entropy = -(expected.exp() * expected).sum(-1).float()
    torch.testing.assert_close(found.entropy(), entropy, atol=1e-5, rtol=1e-5)
