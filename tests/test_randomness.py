"""Random numbers that belong to a place."""

import torch

from rlhf.randomness import generator


def drawn(*place):
    return torch.rand(4, generator=generator(*place)).tolist()


def test_a_place_has_its_own_numbers_whenever_they_are_drawn():
    first = drawn(0, "rollout", 3)
    torch.rand(7)
    assert drawn(0, "rollout", 3) == first
    others = [drawn(1, "rollout", 3), drawn(0, "rollout", 4), drawn(0, "order", 3), drawn(0, "rollout", 3, 0)]
    assert first not in others and len({tuple(other) for other in others}) == 4
