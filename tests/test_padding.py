"""Widths of batches."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import pad

from rlhf.padding import PASS, WIDTH, even_slices, left_aligned, left_margin, pad_left, pad_right

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def test_a_width_can_be_rounded_up():
    ids, mask = pad_right([[5, 6, 7, 8, 9], [4]], 0, multiple=4)
    assert ids.tolist() == [[5, 6, 7, 8, 9, 0, 0, 0], [4, 0, 0, 0, 0, 0, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]


@given(LENGTHS, st.integers(0, 30))
def test_a_left_margin_makes_the_least_width_of_eights_and_keeps_every_token(lengths, more):
    ids, mask = pad_left([[7] * length for length in lengths], 0)
    ids, mask = pad(ids, (more, 0)), pad(mask, (more, 0))
    margin = left_margin(mask)
    assert 0 <= ids.shape[1] + margin - max(lengths) < WIDTH and (ids.shape[1] + margin) % WIDTH == 0
    assert pad(mask, (margin, 0)).sum(1).tolist() == lengths
    assert torch.equal(pad(ids, (margin, 0)).bool(), pad(mask, (margin, 0)).bool())


def test_long_rows_stand_apart_where_that_saves_more_than_a_pass_costs():
    short, long = torch.tensor([8, 8, 8]), torch.tensor([8, 8, 8 + 2 * PASS["cpu"]])
    assert even_slices(short, 4, CPU) == [3]
    assert even_slices(long, 4, CPU) == [2, 1]
    assert even_slices(torch.full((7,), 8), 3, CPU) in ([1, 3, 3], [3, 1, 3], [3, 3, 1])
    assert even_slices(short[:0], 3, CPU) == []


def cost(lengths, cuts):
    slices = [slice(*cut) for cut in pairwise(cuts)]
    widths = [max(lengths[s]) for s in slices]
    return sum(PASS["cpu"] + (s.stop - s.start) * (w + -w % WIDTH) for s, w in zip(slices, widths, strict=True))


@given(st.lists(st.integers(1, 600), min_size=1, max_size=7), st.integers(1, 7))
def test_no_other_slices_cost_less(rows, most):
    sizes = even_slices(torch.tensor(rows), most, CPU)
    assert sum(sizes) == len(rows) and 1 <= min(sizes) and max(sizes) <= most
    inner = range(1, len(rows))
    every = [[0, *(c for c in inner if choice >> c & 1), len(rows)] for choice in range(0, 2 ** len(rows), 2)]
    allowed = [cuts for cuts in every if all(b - a <= most for a, b in pairwise(cuts))]
    found = [0, *(sum(sizes[:n]) for n in range(1, len(sizes) + 1))]
    assert cost(rows, found) == min(cost(rows, cuts) for cuts in allowed)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40), st.integers(0, 9)), min_size=1, max_size=5))
def test_aligned_rows_keep_every_token_in_order_and_no_padding_on_the_left(rows):
    width = max(map(sum, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for row, (left, real, _) in enumerate(rows):
        ids[row, left : left + real] = torch.arange(1, real + 1)
    mask = (ids > 0).long()
    aligned, seen = left_aligned(mask, ids, mask)
    longest = max(real for _, real, _ in rows)
    assert aligned.shape == seen.shape == (len(rows), min(width, longest + -longest % WIDTH))
    for row, (_, real, _) in enumerate(rows):
        assert aligned[row, :real].tolist() == list(range(1, real + 1)) and not aligned[row, real:].any()
    assert torch.equal(seen, (aligned > 0).long())
