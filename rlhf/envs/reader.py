"""The last hidden state of many conversations that grow, each token read once.

    reader = Reader(model, pad_token_id, slots=8, context=256)
    states = reader(conversations)          # (8, D): one pass for all that grew by a token, one for all that are new

It compares what it is given with what it has read. Conversations that grew by one token are read on from the cache,
together; those that are new or were written anew leave it and are read from their beginning, together; those that
are as they were are not read.
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
        model: a causal language model; it is put into eval mode, and its weights must not change any more.
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
            self._keep(grown)
        if grown and self._cached is not None:
            last = torch.tensor([[conversations[slot][-1]] for slot in grown], device=self.device)
            self._note(grown, self._cached.read(last))
        if fresh:
            self._begin(fresh, [list(conversations[slot]) for slot in fresh])
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

    def _begin(self, slots: list[int], conversations: list[list[int]]) -> None:
        ids, mask = pad_left(conversations, self.pad_token_id)
        lengths = [len(self._read[slot]) + 1 for slot in self._rows] + [len(ids) for ids in conversations]
        room = self.context - min(lengths)  # until the shortest is full, no row reads more
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
