"""Replies that are decoded together though they began, and end, at different times.

    batch = RunningBatch(pad_token_id, stop_ids)
    batch.add(model, rows)          # reads their prompts
    batch.step(model)               # one token for every row; `row.tokens` grows
    batch.drop_finished()

Each reply has its own temperature, top-p and luck, so it does not depend on its company (but for rounding).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlhf.decoding import draw
from rlhf.kv_cache import CachedRows
from rlhf.logprobs import causal_lm
from rlhf.padding import pad_left
from rlhf.randomness import generator


@dataclass(eq=False)
class Row:
    """A reply in the making."""

    prompt: list[int]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    tokens: list[int] = field(default_factory=list)
    """What has been sampled, the stop token included."""
    ended: bool = False
    """A stop token was sampled."""
    dropped: bool = False
    """Nobody wants more of it."""
    luck: Tensor = field(init=False)
    """(max_tokens,), uniform in [0, 1): decides each token."""

    def __post_init__(self) -> None:
        self.luck = torch.rand(self.max_tokens, generator=generator(self.seed, "reply"))

    @property
    def finished(self) -> bool:
        """No token will follow."""
        return self.ended or self.dropped or len(self.tokens) >= self.max_tokens

    @property
    def left(self) -> int:
        """Tokens that may still follow."""
        return self.max_tokens - len(self.tokens)


class RunningBatch:
    """The replies of one version.

    Args:
        pad_token_id: never sampled.
        stop_ids: tokens that end a reply.
    """

    def __init__(self, pad_token_id: int, stop_ids: tuple[int, ...]) -> None:
        self.pad_token_id, self.stop_ids = pad_token_id, frozenset(stop_ids)
        self.rows: list[Row] = []
        self._cached: CachedRows | None = None

    @torch.no_grad()
    def add(self, model: Any, rows: list[Row]) -> None:
        """Read what new rows have so far, sample a token for each, and let them join.

        If this raises, all rows have to begin again: `clear`, and add them with the tokens that they have.
        """
        ids, mask = pad_left([row.prompt + row.tokens for row in rows], self.pad_token_id)
        device = next(model.parameters()).device
        room = max(row.left for row in (*self.rows, *rows))
        cached = CachedRows(model, mask.to(device), room)
        hidden = cached.read(ids.to(device))
        if self._cached is None:
            self._cached = cached
        else:
            self._cached.join(cached, room)
        self.rows = [*self.rows, *rows]
        self._sample(model, hidden, rows)

    @torch.no_grad()
    def step(self, model: Any) -> None:
        """One more token for every row."""
        assert self._cached is not None
        last = torch.tensor([row.tokens[-1:] for row in self.rows], device=self._cached.seen.device)
        self._sample(model, self._cached.read(last), self.rows)

    def drop_finished(self) -> list[Row]:
        """Take finished rows out of the batch; returns them."""
        gone = [row for row in self.rows if row.finished]
        if not gone:
            return gone
        kept = [place for place, row in enumerate(self.rows) if not row.finished]
        self.rows = [self.rows[place] for place in kept]
        if not kept:
            self._cached = None
        elif self._cached is not None:
            self._cached.keep(torch.tensor(kept, device=self._cached.seen.device))
        return gone

    def clear(self) -> list[Row]:
        """Take all rows out; returns them."""
        rows, self.rows, self._cached = self.rows, [], None
        return rows

    def _sample(self, model: Any, hidden: Tensor, rows: list[Row]) -> None:
        logits = causal_lm(model).get_output_embeddings()(hidden).float()
        logits[:, self.pad_token_id] = torch.finfo(torch.float32).min / 2
        if not bool(logits.isfinite().all()):  # a token beyond the vocabulary would follow, which stops a GPU for good
            raise FloatingPointError("the model's weights give no numbers")
        tokens = choose(
            logits,
            torch.tensor([row.temperature for row in rows], device=logits.device),
            torch.tensor([row.top_p for row in rows], device=logits.device),
            torch.stack([row.luck[len(row.tokens)] for row in rows]).to(logits.device),
        )
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.tokens.append(token)
            row.ended = token in self.stop_ids


def choose(logits: Tensor, temperature: Tensor, top_p: Tensor, luck: Tensor) -> Tensor:
    """The token (B,) that each row's luck falls on, at its temperature, among its nucleus (Holtzman et al. 2020).

    Args:
        logits: (B, V), fp32.
        temperature: (B,); 0 takes the likeliest token.
        top_p: (B,); the nucleus is the smallest set of likeliest tokens that together have this probability.
        luck: (B,), uniform in [0, 1).
    """
    greedy = logits.argmax(-1)
    if not bool(temperature.any()):
        return greedy
    probs = (logits / temperature.clamp(min=1e-4).unsqueeze(1)).softmax(-1)
    if bool((top_p < 1).any()):
        ordered, order = probs.sort(-1, descending=True)
        before = ordered.cumsum(-1, dtype=torch.float64) - ordered  # probability of the likelier tokens
        outside = (before >= top_p.unsqueeze(1)) & (top_p < 1).unsqueeze(1)
        outside[:, 0] = False
        probs = probs.scatter(-1, order, ordered.masked_fill(outside, 0.0))
    sampled = draw(probs, luck).squeeze(1)
    return torch.where(temperature > 0, sampled, greedy)
