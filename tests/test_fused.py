"""The exchanged kernels equal transformers' own, in value and gradient."""

import copy

import pytest
import torch

import rlhf.fused
from rlhf.fused import FusedSelfAttention, fuse_kernels

IDS = torch.randint(10, 200, (3, 40), generator=torch.Generator().manual_seed(0))
MASKS = {
    "no padding": torch.ones_like(IDS),
    "left padding": (torch.arange(40) >= torch.tensor([[0], [7], [30]])).long(),
    "right padding": (torch.arange(40) < torch.tensor([[40], [7], [30]])).long(),
}


@pytest.fixture(params=["stepwise", "sdpa"])
def pair(request, lively, monkeypatch):
    """transformers' own and the exchanged; the window of the second layer is 8 tokens."""
    monkeypatch.setattr(rlhf.fused, "SHORT", 256 if request.param == "stepwise" else 0)
    fused = copy.deepcopy(lively)
    fuse_kernels(fused)
    assert sum(isinstance(module, FusedSelfAttention) for module in fused.modules()) == 2
    return lively, fused


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_outputs_and_gradients_are_equal(pair, mask):
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    found = []
    for model in pair:
        logits = model(input_ids=IDS, attention_mask=mask, position_ids=positions).logits[mask.bool()]
        gradients = torch.autograd.grad(logits.square().mean(), list(model.parameters()))
        found.append((logits, *gradients))
    for expected, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_a_cache_gives_the_same_as_the_whole(pair):
    _, fused = pair
    with torch.no_grad():
        whole = fused(IDS[:, :20]).logits[:, -1]
        cache = fused(IDS[:, :19], use_cache=True).past_key_values
        step = fused(IDS[:, 19:20], past_key_values=cache, use_cache=True).logits[:, -1]
    torch.testing.assert_close(step, whole, atol=1e-5, rtol=1e-5)


def test_weights_keep_their_names_and_places(pair):
    plain, fused = pair
    assert [n for n, _ in plain.named_parameters()] == [n for n, _ in fused.named_parameters()]
    assert fused.get_output_embeddings().weight is fused.get_input_embeddings().weight
