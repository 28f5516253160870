"""Rows that a network reads token by token: keys and values in one buffer, rows that leave, rows that come.

rows = CachedRows(model, attention_mask, room=48)
hidden = rows.read(prompts)                 # (B, D), the state after the last token
hidden = rows.read(tokens)                  # one more token (B, 1) of each row
rows.keep(torch.tensor([0, 2])); rows.join(others)
"""

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache, DynamicLayer, PreTrainedModel

from rlhf.logprobs import causal_lm


class _PreallocatedLayer(DynamicLayer):
    """Keys and values of one layer in a buffer of the final length, filled from the left."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        filled = self.get_seq_length()
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            batch, heads, _, width = key_states.shape
            self.buffers = [s.new_empty(batch, heads, self.capacity, width) for s in (key_states, value_states)]
        end = filled + key_states.shape[-2]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, filled:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)
        return self.keys, self.values

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the sequences."""
        self._use([buffer[rows] for buffer in self.buffers], self.get_seq_length())

    def trim(self, first: int) -> None:
        """Leave out the first columns."""
        end = self.get_seq_length() - first
        self.capacity -= first
        self._use([buffer[:, :, first:] for buffer in self.buffers], end)

    def join(self, other: "_PreallocatedLayer", first: int, end: int, room: int) -> None:
        """Take in the sequences of another layer, both ending at column `end`, less the first columns.

        Columns before a sequence's own are zero, not empty: what is masked is still multiplied by zero.
        """
        self.capacity = end - first + room
        sides = zip(self.buffers, other.buffers, strict=True)
        lengths = self.get_seq_length(), other.get_seq_length()
        self._use([_ending_at(end, first, room, pair, lengths) for pair in sides], end - first)

    def _use(self, buffers: list[Tensor], end: int) -> None:
        self.buffers = buffers
        self.keys, self.values = (buffer[:, :, :end] for buffer in buffers)


def _ending_at(end: int, first: int, room: int, parts: tuple[Tensor, Tensor], lengths: tuple[int, int]) -> Tensor:
    """Two buffers (B, heads, T, width) as one, `room` columns free on the right."""
    one = parts[0]
    joined = one.new_zeros(sum(len(part) for part in parts), one.shape[1], end - first + room, one.shape[3])
    row = 0
    for part, length in zip(parts, lengths, strict=True):
        begin = max(0, end - length - first)  # where its first column comes to stand
        joined[row : row + len(part), :, begin : end - first] = part[:, :, length - (end - first - begin) : length]
        row += len(part)
    return joined


class CachedRows:
    """What a network has read of B rows; active adapters count when it reads.

    Args:
        model: a causal language model, in eval mode.
        attention_mask: (B, P), 1 on the real tokens of what is read first, padding on the left.
        room: tokens that will be read after that, at most.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, attention_mask: Tensor, room: int) -> None:
        causal = causal_lm(model)
        self.trunk = causal.base_model
        batch, width = attention_mask.shape
        count = causal.config.get_text_config().num_hidden_layers
        self.layers = [_PreallocatedLayer(width + room) for _ in range(count)]
        self.cache = Cache(layers=list(self.layers))
        self.seen = torch.cat([attention_mask, attention_mask.new_ones(batch, room)], dim=1)
        self.position = (attention_mask.cumsum(1) - 1).clamp(min=0)

    def __len__(self) -> int:
        return len(self.seen)

    def read(self, ids: Tensor) -> Tensor:
        """The last hidden state (B, D) once the first tokens (B, P), or one more of each row (B, 1), are read."""
        end = self.cache.get_seq_length() + ids.shape[1]
        output = self.trunk(
            input_ids=ids, attention_mask=self.seen[:, :end], position_ids=self.position, past_key_values=self.cache,
            use_cache=True,
        )  # fmt: skip
        self.position = self.position[:, -1:] + 1
        return output.last_hidden_state[:, -1]

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows."""
        self.seen, self.position = self.seen[rows], self.position[rows]
        for layer in self.layers:
            layer.keep(rows)

    def trim(self) -> None:
        """Leave out the columns on the left that no row sees: they belonged to rows that have left."""
        first = int(self.seen.any(0).int().argmax())
        if first:
            self.seen = self.seen[:, first:]
            for layer in self.layers:
                layer.trim(first)

    def join(self, other: "CachedRows", room: int) -> None:
        """Take in the rows of another cache, behind those that are here; both have read something.

        All rows then end at one column. Columns that none of them sees are left out.

        Args:
            other: rows of the same network.
            room: tokens that will be read after this, at most.
        """
        lengths = self.cache.get_seq_length(), other.cache.get_seq_length()
        end = max(lengths)
        seen = [
            pad(rows.seen[:, :length], (end - length, 0)) for rows, length in zip((self, other), lengths, strict=True)
        ]
        both = torch.cat(seen)
        first = int(both.any(0).int().argmax())
        self.seen = pad(both[:, first:], (0, room), value=1)
        self.position = torch.cat([self.position, other.position])
        for layer, more in zip(self.layers, other.layers, strict=True):
            layer.join(more, first, end, room)
