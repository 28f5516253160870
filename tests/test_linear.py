"""Products by the faster library equal PyTorch's own."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional as F

import rlhf.linear
from rlhf.fused import fuse_kernels
from rlhf.linear import FusedLoraLinear, linear


@pytest.fixture(params=[True, False], ids=["oneDNN", "default"], autouse=True)
def library(request, monkeypatch):
    monkeypatch.setattr(rlhf.linear, "prefers_onednn", lambda: request.param)
    monkeypatch.setattr(rlhf.linear, "LARGE", 0)


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (2, 1, 3, 7), (0, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_equal(shape, bias):
    torch.manual_seed(0)
    x, weight = torch.randn(shape, requires_grad=True), torch.randn(4, 7, requires_grad=True)
    inputs = [x, weight] + ([torch.randn(4, requires_grad=True)] if bias else [])
    found = []
    for compute in (linear, F.linear):
        output = compute(*inputs)
        found.append([output, *torch.autograd.grad(output.sin().sum(), inputs)])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_frozen_weights_get_no_gradient():
    x, weight = torch.randn(3, 7, requires_grad=True), torch.randn(4, 7)
    linear(x, weight).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(3, 7), atol=1e-5, rtol=1e-5)
    assert weight.grad is None


def test_views_are_no_trouble():
    x, weight = torch.randn(7, 3).t(), torch.randn(7, 8)[:, ::2].t()
    torch.testing.assert_close(linear(x, weight), x @ weight.t(), atol=1e-5, rtol=1e-5)


def test_other_types_go_the_usual_way():
    x, weight = torch.randn(3, 7).bfloat16(), torch.randn(4, 7).bfloat16()
    assert torch.equal(linear(x, weight), F.linear(x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.randn(3, 7), torch.randn(4, 7)).dtype == torch.bfloat16


@pytest.mark.parametrize("trained", [True, False])
def test_a_fused_adapter_equals_pefts(trained):
    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["0", "1"], init_lora_weights=False)
    plain = get_peft_model(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 4, bias=False)), config)
    plain.add_adapter("other", config)
    fused = copy.deepcopy(plain)
    fuse_kernels(fused)
    assert sum(type(module) is FusedLoraLinear for module in fused.modules()) == 2
    x = torch.randn(2, 3, 7, requires_grad=True)
    for adapter in ("default", "other"):
        found = []
        for network in (plain, fused):
            network.set_adapter(adapter, inference_mode=not trained)
            output = network(x)
            inputs = [x, *(p for p in network.parameters() if p.requires_grad)]
            found.append([output, *torch.autograd.grad(output.sin().sum(), inputs)])
        assert len(found[0]) == (6 if trained else 2)
        for expected, ours in zip(*found, strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    with fused.disable_adapter(), plain.disable_adapter():
        torch.testing.assert_close(fused(x), plain(x))
