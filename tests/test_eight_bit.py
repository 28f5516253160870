"""Frozen 8-bit layers: bitsandbytes' own result and gradient, and no input kept for them."""

import copy
import gc
import weakref

import pytest
import torch

from rlhf.eight_bit import Frozen8bitLinear, Linear8bitLt
from rlhf.fused import fuse_kernels


@pytest.fixture
def layer():
    torch.manual_seed(0)
    made = Linear8bitLt(32, 48, has_fp16_weights=False, threshold=6.0).requires_grad_(False)
    made.load_state_dict(torch.nn.Linear(32, 48).state_dict())
    return made.to("cpu")


def through(layer, x):
    x = x.clone().requires_grad_(True)
    out = layer(x)
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    return out.detach(), x.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_and_gradient_are_those_of_bitsandbytes(layer, dtype):
    x = torch.randn(2, 5, 32).to(dtype)
    x[0, 0, 3] = 9  # an outlier, which LLM.int8 multiplies by itself
    ours = torch.nn.Sequential(copy.deepcopy(layer))
    fuse_kernels(ours)
    assert type(ours[0]) is Frozen8bitLinear
    for found, expected in zip(through(ours, x), through(layer, x), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("fused", "kept"), [(False, True), (True, False)])
def test_the_input_is_let_go(layer, fused, kept):
    layer.__class__ = Frozen8bitLinear if fused else Linear8bitLt
    x = torch.randn(2, 5, 32, requires_grad=True)
    between = x * 2
    there = weakref.ref(between.untyped_storage())
    out = layer(between)
    del between
    gc.collect()
    assert (there() is not None) == kept
    assert out.requires_grad
