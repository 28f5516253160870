"""Token lists of different length → one rectangle and its mask (1 on real tokens, 0 on padding).

Widths of what goes through a network without a gradient are rounded up, which costs little: kernels are chosen, and on
a CPU compiled, for each shape anew.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

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


def even_slices(prompts: Tensor, responses: Tensor, most: int, device: torch.device) -> list[int]:
    """Sizes of slices of rows, in their order, that take the least time, each padded to its own width.

    A slice costs its padded tokens, and `PASS` on top: long rows stand apart from short ones where that saves more
    than it costs. Dynamic programming over the place where the last slice begins; at most N · `most` steps.

    Args:
        prompts: (N,) tokens; rows next to each other are best of like length.
        responses: (N,), which begin in one column.
        most: rows in a slice.
        device: of the network.
    """
    p, r, once = prompts.tolist(), responses.tolist(), PASS.get(device.type, PASS["cuda"])
    cost, begin = [0.0], [0]
    for end in range(1, len(p) + 1):
        widest_p = widest_r = 0
        cheapest, at = float("inf"), end
        for start in range(end - 1, max(end - most, 0) - 1, -1):
            widest_p, widest_r = max(widest_p, p[start]), max(widest_r, r[start])
            width = widest_p + widest_r
            found = cost[start] + once + (end - start) * (width + -width % WIDTH)
            if found <= cheapest:
                cheapest, at = found, start
        cost.append(cheapest)
        begin.append(at)
    sizes, end = [], len(p)
    while end:
        sizes.append(end - begin[end])
        end = begin[end]
    return sizes[::-1]


def trimmed(sequences: Tensor, attention_mask: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ids (B, P + R), their mask, and that of responses (B, R), without the columns that are padding in every row.

    At least one column of responses stays, and on the left as many as make the width a multiple of `WIDTH`.
    """
    length = max(1, int(mask.any(0).sum()))
    end = sequences.shape[1] - mask.shape[1] + length
    margin = (left_margin(attention_mask[:, :end]), 0)
    return pad(sequences[:, :end], margin), pad(attention_mask[:, :end], margin), mask[:, :length]


def prompt_collator(pad_token_id: int) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
    """A collator for rows {"input_ids": [...]}: input_ids and attention_mask (B, P), padded on the left.

    A number `row` that all rows have is kept, as (B,).
    """

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        ids, mask = pad_left([row["input_ids"] for row in rows], pad_token_id)
        numbers = [row["row"] for row in rows if "row" in row]
        return {"input_ids": ids, "attention_mask": mask} | ({"row": torch.tensor(numbers)} if numbers else {})

    return collate
