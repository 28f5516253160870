"""The last hidden state of many conversations that grow: in the common case, a token of each in one pass.

    reader = Reader(model, pad_token_id, slots=8, context=256)
    states = reader(conversations)          # (8, D)

It compares what it is given with what it has read, and makes two passes at most:

- Conversations that grew by one token are read on from the cache of keys and values, a column for all of them.
- New ones are read from their beginning, and so are those that grew by more or were written anew, as with each further
  turn of the user's. They then join the cache.
- Those that are as they were are not read. While others grow they leave the cache, whose rows all grow at once, and are
  read from their beginning when they grow themselves.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf.kv_cache import CachedRows
from rlhf.padding import pad_left


class Reader:
    """What a frozen language model has read of N conversations.

    Args:
        model: a causal language model; it is put into eval mode. Its weights are not changed here, and must not be
            changed elsewhere: the cache would be of other ones.
        pad_token_id: on the left of shorter conversations.
        slots: N.
        context: tokens of a conversation at most, and of the model's positions.
    """

    def __init__(self, model: Any, pad_token_id: int, slots: int, context: int) -> None:
        self.model, self.pad_token_id, self.context = model.eval(), pad_token_id, context
        self.device = next(model.parameters()).device
        self._read: list[list[int]] = [[] for _ in range(slots)]
        self._states: list[Tensor | None] = [None] * slots
        self._cached: CachedRows | None = None
        self._rows: list[int] = []
        """The slots whose keys and values are cached, in the order of the cache's rows."""

    @torch.no_grad()
    def __call__(self, conversations: Sequence[Sequence[int]]) -> Tensor:
        """The states (N, D) after the last token of each conversation, fp32 on the CPU.

        Args:
            conversations: N lists of token ids, none empty.
        """
        changed = [slot for slot, ids in enumerate(conversations) if self._read[slot] != list(ids)]
        grown = [slot for slot in self._rows if slot in changed and self._read[slot] == list(conversations[slot][:-1])]
        fresh = [slot for slot in changed if slot not in grown]
        if changed:
            self._keep(grown or [slot for slot in self._rows if slot not in changed])
        if grown and self._cached is not None:
            last = torch.tensor([[conversations[slot][-1]] for slot in grown], device=self.device)
            self._note(grown, self._cached.read(last))
        if fresh:
            self._begin(fresh, conversations)
        for slot in changed:
            self._read[slot] = list(conversations[slot])
        return torch.stack([state for state in self._states if state is not None])

    def _keep(self, slots: list[int]) -> None:
        """Let all other rows leave the cache, and the columns that only they needed."""
        if self._cached is None or slots == self._rows:
            return
        if slots:
            self._cached.keep(torch.tensor([self._rows.index(slot) for slot in slots], device=self.device))
            self._cached.trim()
        else:
            self._cached = None
        self._rows = slots

    def _begin(self, slots: list[int], conversations: Sequence[Sequence[int]]) -> None:
        """Read some of the conversations from their beginning; the rows of the cache are those that it goes on with."""
        ids, mask = pad_left([list(conversations[slot]) for slot in slots], self.pad_token_id)
        shortest = min(len(conversations[slot]) for slot in [*self._rows, *slots])
        room = self.context - shortest  # until the shortest is full, no row reads more
        new = CachedRows(self.model, mask.to(self.device), room)
        self._note(slots, new.read(ids.to(self.device)))
        if self._cached is None:
            self._cached = new
        else:
            self._cached.join(new, room)
        self._rows = [*self._rows, *slots]

    def _note(self, slots: list[int], states: Tensor) -> None:
        for slot, state in zip(slots, states.float().cpu(), strict=True):
            self._states[slot] = state
