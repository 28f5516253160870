"""8-bit linear layers computed weight-only: y = (x·Cᵀ) ⊙ s + b, with C the stored int8 weights, s one scale a row.

    weight_only(layer)                # a bitsandbytes layer; its weights stay where they are

bitsandbytes' own way, LLM.int8 (Dettmers et al. 2022, arXiv 2208.07339), rounds the activations to 8 bits as well. It
is several times slower on few rows, and what it computes depends on the other rows of the batch (which columns hold an
outlier) and, on a CPU, on whether the layer is in training: sampling and training would not know one policy. Here int8
weights become bf16 exactly, so the only rounding is that of bf16 itself, the same in sampling and in training.
`python -m benchmarks.int8_decode` measures both.
"""

from typing import Any

import bitsandbytes as bnb
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW_ROWS = 16
"""Rows up to which a CPU is faster on the int8 weights than on a copy in the activations' type."""


class WeightOnlyInt8(bnb.nn.Linear8bitLt):
    """A frozen 8-bit layer on `int8_linear`."""

    def forward(self, x: Tensor) -> Tensor:
        if getattr(self.weight, "CB", None) is not None:
            self.init_8bit_state()  # as in the layer itself: the weights' statistics move to its state
        weight, largest = self.state.CB, self.state.SCB
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        if weight is None or largest is None or x.dtype == torch.float16:  # in which sums of int8 products overflow
            return super().forward(x)
        return int8_linear(x, weight, largest / 127, self.bias)


def weight_only(layer: nn.Module) -> None:
    """Let an 8-bit layer of bitsandbytes compute weight-only; does nothing to any other."""
    if type(layer) is bnb.nn.Linear8bitLt:
        layer.__class__ = WeightOnlyInt8


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """(x·Cᵀ) ⊙ s + b for x (…, K), int8 C (N, K), fp32 s (N,), b (N,); differentiable in x, as exact as its type."""
    y = _Int8Linear.apply(x.flatten(0, -2), weight, scale).unflatten(0, x.shape[:-1])
    return y if bias is None else y + bias.to(y.dtype)


class _Int8Linear(torch.autograd.Function):
    """Keeps nothing but the int8 weights for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(weight, scale)
        return (_product(x, weight) * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        weight, scale = ctx.saved_tensors
        return (grad * scale).to(grad.dtype) @ weight.to(grad.dtype), None, None


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """x·Cᵀ, (M, K) and int8 (N, K) → (M, N)."""
    if 0 < len(x) <= FEW_ROWS and x.device.type == "cpu" and x.dtype == torch.bfloat16 and has_packed_kernel("CPU"):
        return torch._weight_int8pack_mm(x, weight, torch.ones(len(weight), dtype=x.dtype))
    return F.linear(x, weight.to(x.dtype))


def has_packed_kernel(device: str) -> bool:
    """Whether this PyTorch multiplies with int8 weights without a copy of them, on "CPU" or "CUDA"."""
    name = "aten::_weight_int8pack_mm"
    return hasattr(torch, "_weight_int8pack_mm") and torch._C._dispatch_has_kernel_for_dispatch_key(name, device)
