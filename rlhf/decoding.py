"""Sampling replies token by token, with what PPO wants to know about each token noted on the way.

    sampling = Sampling(max_new_tokens=64, stop_ids=(eos,), pad_token_id=pad)
    decoded = decode(model, prompts, mask, sampling, luck=torch.rand(len(prompts), 64))

One trunk pass a token on a cache that is allocated once; a reply that has ended leaves the batch. It stands in for
transformers' `generate`, which gives back neither values nor log-probabilities without the logits of every step, and
goes on with all replies until the last has ended. B prompts of P tokens, R reply tokens, V vocabulary entries.

Random numbers come in from outside, one a token: a reply then depends on its own row of them alone, and not on which
others share its batch, in what order, or on which process.
"""

from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf.kv_cache import CachedRows
from rlhf.logprobs import causal_lm, scale_logits

LEAVE = 8
"""Ended replies are taken out of the batch when they are at least one in so many: taking them out copies the cache."""


class Sampling(NamedTuple):
    """How to sample, from the whole distribution."""

    max_new_tokens: int
    stop_ids: tuple[int, ...]
    """Tokens that end a reply; they are its last token."""
    pad_token_id: int
    """Never sampled; stands behind the end."""
    temperature: float = 1.0
    """0: always the likeliest token."""


class Decoded(NamedTuple):
    """Replies and what was found while they were sampled; padding is on the right."""

    tokens: Tensor
    """(B, R): R is the length of the longest reply."""
    mask: Tensor
    """(B, R) boolean, true on real tokens, the stop included."""
    ended: Tensor
    """(B,) boolean: a stop token was sampled."""
    logprobs: Tensor
    """(B, R), fp32, at the sampling temperature (at 1 if that is 0); 0 on padding."""
    values: Tensor
    """(B, R), fp32: the value head's output before each token; 0 on padding, or without a head."""


@torch.no_grad()
def decode(
    model: PreTrainedModel | PeftModel,
    prompts: Tensor,
    attention_mask: Tensor,
    sampling: Sampling,
    luck: Tensor,
    value_head: nn.Linear | None = None,
) -> Decoded:
    """One reply to each prompt; active adapters count, the model's own generation settings do not.

    Args:
        model: a causal language model, in eval mode.
        prompts: (B, P) token ids, padded left.
        attention_mask: (B, P), 1 on real tokens.
        sampling: length, temperature, where to stop.
        luck: (B, max_new_tokens), uniform in [0, 1): decides each token.
        value_head: D → 1, on the trunk's last hidden state.
    """
    return _Decoder(model, attention_mask, sampling, luck, value_head).run(prompts)


def draw(probs: Tensor, luck: Tensor) -> Tensor:
    """The token (N, 1) on which each number of `luck` (N,) falls when the probabilities (N, V) are laid end to end."""
    reached = probs.cumsum(-1, dtype=torch.float64)  # in fp32, the sum of a large vocabulary would lose its tail
    return torch.searchsorted(reached, luck.double().unsqueeze(1) * reached[:, -1:], right=True)


class _Decoder:
    """The state of one `decode`. `rows` says which of the B replies the batch still holds."""

    def __init__(
        self, model: Any, attention_mask: Tensor, sampling: Sampling, luck: Tensor, value_head: nn.Linear | None
    ) -> None:
        causal = causal_lm(model)
        self.head, self.value_head = causal.get_output_embeddings(), value_head
        self.sampling, self.luck = sampling, luck.to(attention_mask.device)
        batch, limit = len(attention_mask), sampling.max_new_tokens
        self.cached = CachedRows(model, attention_mask, limit)
        self.rows = torch.arange(batch, device=attention_mask.device)
        self.stops = torch.tensor(sampling.stop_ids, device=attention_mask.device)
        self.tokens = attention_mask.new_full((batch, limit), sampling.pad_token_id)
        self.mask = torch.zeros_like(self.tokens, dtype=torch.bool)
        self.ended = torch.zeros(batch, dtype=torch.bool, device=attention_mask.device)
        self.logprobs, self.values = torch.zeros(2, batch, limit, device=attention_mask.device)

    def run(self, prompts: Tensor) -> Decoded:
        hidden = self.cached.read(prompts)
        for step in range(self.sampling.max_new_tokens):
            token = self.sample(hidden, step)
            if step + 1 == self.sampling.max_new_tokens or bool(self.ended.all()):
                break
            kept = self.leave_the_ended_behind()
            hidden = self.cached.read(token if kept is None else token[kept])
        length = step + 1
        return Decoded(
            self.tokens[:, :length], self.mask[:, :length], self.ended, self.logprobs[:, :length],
            self.values[:, :length],
        )  # fmt: skip

    def sample(self, hidden: Tensor, step: int) -> Tensor:
        """The next token (rows, 1), noted with its log-probability and value for the replies that go on."""
        temperature, pad = self.sampling.temperature, self.sampling.pad_token_id
        log_probs = scale_logits(self.head(hidden), temperature or 1.0, pad).log_softmax(-1)
        if temperature:
            token = draw(log_probs.exp(), self.luck[self.rows, step])
        else:
            token = log_probs.argmax(-1, keepdim=True)
        goes_on = ~self.ended[self.rows]
        rows = self.rows[goes_on]
        self.tokens[rows, step] = token[goes_on, 0]
        self.mask[rows, step] = True
        self.logprobs[rows, step] = log_probs.gather(-1, token)[goes_on, 0]
        if self.value_head is not None:
            values = self.value_head(hidden.to(self.value_head.weight.dtype)).float()
            self.values[rows, step] = values[goes_on, 0]
        self.ended[rows] = torch.isin(token[goes_on, 0], self.stops)
        return token

    def leave_the_ended_behind(self) -> Tensor | None:
        """Take ended replies out of the batch if there are enough of them; returns which rows of it stay."""
        ended = self.ended[self.rows]
        if int(ended.sum()) * LEAVE < len(ended):
            return None
        kept = (~ended).nonzero().flatten()
        self.rows = self.rows[kept]
        self.cached.keep(kept)
        return kept
