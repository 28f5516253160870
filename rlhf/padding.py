"""Token lists of different length → one rectangle and its mask (1 on real tokens, 0 on padding).

Widths of what goes through a network without a gradient are rounded up, which costs little: kernels are chosen, and on
a CPU compiled, for each shape anew.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WIDTH = 8
"""Sequences are padded to a multiple of so many tokens."""


def pad_left(sequences: list[list[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, both (N, T), T the longest sequence: for prompts, so that replies start in one column."""
    width = max(len(s) for s in sequences)
    ids = torch.tensor([[pad_token_id] * (width - len(s)) + s for s in sequences])
    return ids, torch.tensor([[0] * (width - len(s)) + [1] * len(s) for s in sequences])


def pad_right(sequences: list[list[int]], pad_token_id: int, multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Ids and mask, both (N, T), T the longest sequence, rounded up: for replies and whole sequences."""
    longest = max(len(s) for s in sequences)
    width = longest + -longest % multiple
    ids = torch.tensor([s + [pad_token_id] * (width - len(s)) for s in sequences])
    return ids, torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences])


def left_margin(mask: Tensor) -> int:
    """Columns to add on the left of a batch with this mask (N, T), negative where there are too many.

    Then no column on the left is padding in every row, but for those that make the width a multiple of `WIDTH`.
    """
    padding = int(mask.any(0).int().argmax())
    return -(mask.shape[1] - padding) % WIDTH - padding


def prompt_collator(pad_token_id: int) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
    """A collator for rows {"input_ids": [...]}: input_ids and attention_mask (B, P), padded on the left.

    A number `row` that all rows have is kept, as (B,).
    """

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        ids, mask = pad_left([row["input_ids"] for row in rows], pad_token_id)
        numbers = [row["row"] for row in rows if "row" in row]
        return {"input_ids": ids, "attention_mask": mask} | ({"row": torch.tensor(numbers)} if numbers else {})

    return collate
