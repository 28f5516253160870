"""Widths of batches."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import pad

from rlhf.padding import WIDTH, left_margin, pad_left, pad_right

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
