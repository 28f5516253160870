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
PASS = {"cpu": 256, "cuda": 1024}
"""What a pass through a network costs on a device whatever its size, in tokens more of one that is there already: 64 to
256 measured alike for a model of a million weights on two cores; for GPUs, which wait for Python, an estimate."""


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


def even_slices(lengths: Tensor, most: int, device: torch.device) -> list[int]:
    """Sizes of slices of rows, in their order, that take the least time, each padded to its own width.

    A slice costs its padded tokens, and `PASS` on top: long rows stand apart from short ones where that saves more
    than it costs. Dynamic programming over the place where the last slice begins; at most N · `most` steps.

    Args:
        lengths: (N,) tokens; rows next to each other are best of like length.
        most: rows in a slice.
        device: of the network.
    """
    of, once = lengths.tolist(), PASS.get(device.type, PASS["cuda"])
    cost, begin = [0.0], [0]
    for end in range(1, len(of) + 1):
        widest = 0
        cheapest, at = float("inf"), end
        for start in range(end - 1, max(end - most, 0) - 1, -1):
            widest = max(widest, of[start])
            found = cost[start] + once + (end - start) * (widest + -widest % WIDTH)
            if found <= cheapest:
                cheapest, at = found, start
        cost.append(cheapest)
        begin.append(at)
    sizes, end = [], len(of)
    while end:
        sizes.append(end - begin[end])
        end = begin[end]
    return sizes[::-1]


def left_aligned(attention_mask: Tensor, *columns: Tensor) -> list[Tensor]:
    """Each of some tensors (B, T) with the real tokens of every row first, cut to the longest row.

    Prompts are padded on the left and replies on the right, so that all replies begin in one column; for a network that
    is twice the padding. The width is rounded up to a multiple of `WIDTH`, as far as T allows.

    Args:
        attention_mask: (B, T), 1 on real tokens; real tokens keep their order.
        columns: to be aligned.
    """
    longest = int(attention_mask.sum(1).amax())
    first = attention_mask.argsort(dim=1, descending=True, stable=True)[:, : longest + -longest % WIDTH]
    return [column.gather(1, first) for column in columns]


def prompt_collator(pad_token_id: int) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
    """A collator for rows {"input_ids": [...]}: input_ids and attention_mask (B, P), padded on the left.

    A number `row` that all rows have is kept, as (B,).
    """

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        ids, mask = pad_left([row["input_ids"] for row in rows], pad_token_id)
        numbers = [row["row"] for row in rows if "row" in row]
        return {"input_ids": ids, "attention_mask": mask} | ({"row": torch.tensor(numbers)} if numbers else {})

    return collate
