"""8-bit layers, weight-only: against matrices worked out by hand, in any batch, with LoRA, and in a model."""

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

import rlhf.int8
from rlhf.int8 import FEW_ROWS, WeightOnlyInt8, has_packed_kernel, int8_linear, weight_only


def quantised(outputs=48, inputs=64, bias=True):
    """An 8-bit layer, and the weights that it holds as fp32."""
    torch.manual_seed(0)
    layer = bnb.nn.Linear8bitLt(inputs, outputs, bias=bias, has_fp16_weights=False)
    weight = torch.randn(outputs, inputs)
    weight[3] = 0
    layer.weight = bnb.nn.Int8Params(weight, has_fp16_weights=False, requires_grad=False)
    layer = layer.to("cpu")
    dequantised = layer.weight.CB.float() * layer.weight.SCB[:, None] / 127
    torch.testing.assert_close(dequantised, weight, atol=0.02, rtol=0)  # the rounding to 8 bits
    weight_only(layer)
    assert type(layer) is WeightOnlyInt8
    return layer.requires_grad_(False), dequantised


def test_by_hand():
    weight, scale = torch.tensor([[127, -127], [0, 64]], dtype=torch.int8), torch.tensor([0.5, 0.25])
    x = torch.tensor([[1.0, 2.0], [3.0, 0.5]])
    found = int8_linear(x, weight, scale, torch.tensor([1.0, -1.0]))
    assert found.tolist() == [[0.5 * (127 - 254) + 1, 0.25 * 128 - 1], [0.5 * (381 - 63.5) + 1, 0.25 * 32 - 1]]


@pytest.mark.parametrize("rows", [1, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_dequantised_weights_to_the_rounding_of_bf16(rows, training):
    layer, dequantised = quantised()
    layer.train(training)
    x = torch.randn(2, rows, 64)[:1]
    exact = x.bfloat16().float() @ dequantised.t() + layer.bias.float()
    torch.testing.assert_close(layer(x.bfloat16()).float(), exact, atol=1e-3, rtol=2**-7)
    torch.testing.assert_close(layer(x), x @ dequantised.t() + layer.bias.float(), atol=1e-4, rtol=1e-5)


def test_sampling_and_training_compute_the_same_in_any_batch():
    layer, _ = quantised()
    x = torch.randn(40, 64).bfloat16()
    x[7, 5] = 30.0  # what LLM.int8 takes for an outlier, and then treats the column apart in all rows
    with torch.no_grad():
        sampled = torch.cat([layer.eval()(row) for row in x.split(1)])
    trained = layer.train()(x.requires_grad_(True))
    torch.testing.assert_close(trained, sampled, atol=1e-2, rtol=2**-7)
    original = quantised()[0]
    original.__class__ = bnb.nn.Linear8bitLt
    with torch.no_grad():
        theirs = torch.cat([original.eval()(row) for row in x.split(1)])
    assert (trained - theirs).abs().max() > 5 * (trained - sampled).abs().max()  # why it is not used


def test_the_gradient_is_that_of_the_dequantised_weights():
    layer, dequantised = quantised()
    x = torch.randn(5, 64, requires_grad=True)
    weights = torch.randn(5, 48)
    (layer(x) * weights).sum().backward()
    torch.testing.assert_close(x.grad, weights @ dequantised, atol=1e-4, rtol=1e-4)


def test_rows_of_zeros_give_the_bias():
    layer, _ = quantised()
    for rows in (2, FEW_ROWS + 1):
        assert (layer(torch.randn(rows, 64).bfloat16())[:, 3] == layer.bias[3].bfloat16()).all()
        assert layer(torch.randn(rows, 64).bfloat16()).isfinite().all()
    assert layer(torch.zeros(0, 64)).shape == (0, 48)


def test_without_the_packed_kernel_the_result_is_the_same(monkeypatch):
    assert has_packed_kernel("CPU") and not has_packed_kernel("Vulkan")
    layer, _ = quantised()
    x = torch.randn(FEW_ROWS, 64).bfloat16()
    calls = []
    packed = torch._weight_int8pack_mm
    monkeypatch.setattr(torch, "_weight_int8pack_mm", lambda *args: calls.append(1) or packed(*args))
    with_it = layer(x)
    assert calls == [1]
    monkeypatch.delattr(torch, "_weight_int8pack_mm")
    assert not has_packed_kernel("CPU")
    torch.testing.assert_close(layer(x), with_it, atol=1e-2, rtol=2**-7)


def test_autocast_and_half_precision():
    layer, dequantised = quantised()
    x = torch.randn(4, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    large = torch.full((1, 64), 50.0, dtype=torch.float16)  # 64 · 50 · 127 is beyond fp16
    exact = large.float() @ dequantised.t() + layer.bias.float()
    torch.testing.assert_close(layer(large).float(), exact, atol=4.0, rtol=0.02)


def test_lora_on_top_counts():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = quantised()[0]

        def forward(self, x):
            return self.inner(x)

    torch.manual_seed(1)
    model = get_peft_model(Model(), LoraConfig(r=4, lora_alpha=8, target_modules=["inner"]))
    lora = model.base_model.model.inner
    nn.init.normal_(lora.lora_B["default"].weight)
    _, dequantised = quantised()
    x = torch.randn(3, 64)
    update = 2 * lora.lora_B["default"].weight @ lora.lora_A["default"].weight
    bias = lora.base_layer.bias.float()
    torch.testing.assert_close(model(x), x @ (dequantised + update).t() + bias, atol=1e-3, rtol=1e-3)
    model(x).sum().backward()
    assert lora.lora_A["default"].weight.grad.abs().sum() > 0


def test_other_layers_are_left_alone():
    plain = nn.Linear(2, 2)
    weight_only(plain)
    assert type(plain) is nn.Linear
    assert rlhf.int8.weight_only(nn.ReLU()) is None
