"""Log-probabilities of replies: one forward pass of the trunk, the vocabulary only where a reply token stands.

N tokens, D the trunk's width, V vocabulary entries. The vocabulary projection works on so many tokens at a time that
its logits stay small, and keeps none of them: what the backward pass needs of N·V logits is N·D numbers.
"""

from typing import Any, NamedTuple, Self

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from rlhf.linear import FastLinear, linear
from rlhf.padding import left_aligned, pad_left, pad_right

CHUNK_LOGITS = 1 << 23
"""Logits at a time: 32 MB in fp32."""


class TokenLogprobs(NamedTuple):
    """What a distribution over the vocabulary says about each of N tokens."""

    logprobs: Tensor
    """(N,), fp32."""
    entropy: Tensor
    """(N,) of the whole distribution, nats; to look at only: no gradient passes it. Zeros where not asked for."""


def reply_hidden(model: PreTrainedModel | PeftModel, sequences: Tensor, attention_mask: Tensor, mask: Tensor) -> Tensor:
    """The trunk's last hidden state (N, D) before each of the N real reply tokens, row by row.

    The network sees the rows without the padding on their left: so there are fewer columns, and position ids are 0, 1 …

    Args:
        model: a causal language model; active adapters count.
        sequences: (B, P + R) token ids, prompt padded left, reply right.
        attention_mask: (B, P + R), 1 on real tokens.
        mask: (B, R) boolean, true on N real reply tokens.
    """
    replies = pad(mask, (sequences.shape[1] - mask.shape[1], 0))
    ids, seen, replies = left_aligned(attention_mask, sequences, attention_mask, replies)
    hidden = causal_lm(model).base_model(input_ids=ids, attention_mask=seen, use_cache=False).last_hidden_state
    return hidden[:, :-1][replies[:, 1:]]


def masked_logprobs(
    model: PreTrainedModel | PeftModel,
    sequences: Tensor,
    attention_mask: Tensor,
    mask: Tensor,
    temperature: float,
    pad_token_id: int,
) -> TokenLogprobs:
    """Log-probabilities (B, R) of the reply tokens for which `mask` (B, R) is true; 0 elsewhere.

    Arguments as for `reply_hidden` and `token_logprobs`.
    """
    hidden = reply_hidden(model, sequences, attention_mask, mask)
    tokens = sequences[:, -mask.shape[1] :][mask]
    found = token_logprobs(causal_lm(model).get_output_embeddings(), hidden, tokens, temperature, pad_token_id)
    return TokenLogprobs(*(spread(part, mask) for part in found))


def spread(values: Tensor, mask: Tensor) -> Tensor:
    """Values (N,) at the N true places of `mask` (B, R), 0 at the others."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)


def causal_lm(model: PreTrainedModel | PeftModel) -> Any:
    """The language model itself, without peft's wrapper; its adapters stay in it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def token_logprobs(
    head: Any, hidden: Tensor, tokens: Tensor, temperature: float, pad_token_id: int, *, entropy: bool = False
) -> TokenLogprobs:
    """Log-probabilities of tokens, a few rows of logits at a time.

    Args:
        head: the vocabulary projection, D → V.
        hidden: (N, D), the state before each token.
        tokens: (N,).
        temperature: logits are divided by it.
        pad_token_id: never sampled, so it takes no part in the distribution.
        entropy: whether the entropies are wanted, too.
    """
    if type(head) in (nn.Linear, FastLinear):
        return TokenLogprobs(
            *_LinearTokenLogprobs.apply(hidden, head.weight, head.bias, tokens, temperature, pad_token_id, entropy)
        )
    parts = []
    for rows in _chunks(len(hidden), int(head.out_features)):  # a head with an adapter of its own
        logits = scale_logits(checkpoint(head, hidden[rows], use_reentrant=False), temperature, pad_token_id)
        picked = logits.log_softmax(-1).gather(-1, tokens[rows, None]).squeeze(-1)
        with torch.no_grad():
            parts.append((picked, Distribution.of(logits).entropy() if entropy else torch.zeros_like(picked)))
    return TokenLogprobs(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    size = max(1, CHUNK_LOGITS // vocabulary)
    return [slice(start, start + size) for start in range(0, max(rows, 1), size)]


def scale_logits(logits: Tensor, temperature: float, pad_token_id: int) -> Tensor:
    """fp32, at the temperature, the pad as unlikely as can be."""
    logits = logits.float().div_(temperature)
    logits[..., pad_token_id] = torch.finfo(torch.float32).min / 2
    return logits


class Distribution(NamedTuple):
    """Softmax of n rows of logits, from one exponential of each and one array beside them."""

    logits: Tensor
    """(n, V), less the highest of their row."""
    probs: Tensor
    """(n, V)"""
    log_likeliest: Tensor
    """(n,), the log-probability that goes with the highest logit: never that of a small number."""

    @classmethod
    def of(cls, logits: Tensor) -> Self:
        """Changes the logits in place: so no sum below is one of large numbers."""
        probs = logits.sub_(logits.amax(-1, keepdim=True)).softmax(-1)
        return cls(logits, probs, probs.amax(-1).log())

    def logprobs(self, tokens: Tensor) -> Tensor:
        """(n,) of one token a row."""
        return self.logits.gather(-1, tokens[:, None]).squeeze(-1) + self.log_likeliest

    def entropy(self) -> Tensor:
        """(n,): -Σ p log p, where log p is the logit plus the log-probability of the likeliest."""
        return -self.log_likeliest - torch.bmm(self.probs.unsqueeze(1), self.logits.unsqueeze(2)).flatten()


class _LinearTokenLogprobs(torch.autograd.Function):
    """log softmax(h·Wᵀ + b)[token] for each row, and its derivative, known before any gradient arrives.

    Since ∂/∂h log p(token) = (W[token] − p·W) / temperature does not depend on what comes behind, the forward pass
    leaves just that, (N, D), for the backward pass. A head that is trained itself computes its probabilities again.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, temperature: float, pad: int,
        entropy: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        logprobs, entropies = torch.zeros(2, len(hidden), device=hidden.device)
        slope = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None

        def read(rows: slice) -> None:  # a function, so that the arrays of a chunk are gone before the next one
            found = Distribution.of(scale_logits(linear(hidden[rows], weight, bias), temperature, pad))
            logprobs[rows] = found.logprobs(tokens[rows])
            if entropy:
                entropies[rows] = found.entropy()
            if slope is not None:
                probs = found.probs.to(weight.dtype)
                slope[rows] = (weight[tokens[rows]] - linear(probs, weight.t())) / temperature

        for rows in _chunks(len(hidden), len(weight)):
            read(rows)
        ctx.mark_non_differentiable(entropies)
        ctx.save_for_backward(slope, hidden, weight, bias, tokens)
        ctx.settings = temperature, pad
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        slope, hidden, weight, bias, tokens = ctx.saved_tensors
        temperature, pad = ctx.settings
        to_hidden = None if slope is None else grad.to(slope.dtype).unsqueeze(1) * slope
        to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        to_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None

        def add(rows: slice) -> None:
            to_logits = scale_logits(linear(hidden[rows], weight, bias), temperature, pad).softmax(-1).neg_()
            to_logits[torch.arange(len(to_logits)), tokens[rows]] += 1
            to_logits = to_logits.mul_(grad[rows, None] / temperature).to(weight.dtype)
            if to_weight is not None:
                to_weight.add_(linear(to_logits.t(), hidden[rows].t()))
            if to_bias is not None:
                to_bias.add_(to_logits.sum(0))

        if to_weight is not None or to_bias is not None:
            for rows in _chunks(len(hidden), len(weight)):
                add(rows)
        return to_hidden, to_weight, to_bias, None, None, None, None


@torch.no_grad()
def reply_logprobs(
    model: PreTrainedModel | PeftModel,
    prompts: list[list[int]],
    replies: list[list[int]],
    pad_token_id: int,
    *,
    temperature: float = 1.0,
    batch_size: int = 32,
) -> list[float]:
    """Sum of the log-probabilities of each reply after its prompt, in nats; 0 for an empty reply."""
    device = next(model.parameters()).device
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(replies[i]))
    order = [i for i in order if replies[i]]
    sums = [0.0] * len(prompts)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        prompt_ids, prompt_mask = pad_left([prompts[i] for i in rows], pad_token_id)
        reply_ids, reply_mask = pad_right([replies[i] for i in rows], pad_token_id)
        sequences = torch.cat([prompt_ids, reply_ids], dim=1).to(device)
        mask = torch.cat([prompt_mask, reply_mask], dim=1).to(device)
        found = masked_logprobs(
            model, sequences, mask, reply_mask.to(device).bool(), temperature, pad_token_id
        ).logprobs  # fmt: skip
        for i, value in zip(rows, found.sum(1).tolist(), strict=True):
            sums[i] = value
    return sums
