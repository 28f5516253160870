"""Linear layers, plain and with a LoRA adapter, with fewer passes over memory and, on a CPU, the faster library.

On a CPU PyTorch multiplies fp32 matrices with Intel's MKL, which does not use all of another maker's processor: on an
AMD EPYC with AVX-512, oneDNN, which PyTorch ships as well, is two to three times faster (`python -m benchmarks.machine`
measures both). The choice depends on the processor alone, so that a resumed run computes what the broken one did.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F

LARGE = 1 << 18
"""Weights of a matrix from which on oneDNN is worth its kernels: it compiles one for each new shape, of 1.4 MB."""
TILE = 8 * 32
"""Smaller matrices go there, too, where the rows of x are a multiple of this: sequences whose lengths are multiples of
eight (see `padding.WIDTH`), 32 of them or more, come in few shapes."""


@cache
def prefers_onednn() -> bool:
    """Whether fp32 products on this processor go through oneDNN: it is x86, and not Intel's."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
    return "AuthenticAMD" in info


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, tokens: int | None = None) -> Tensor:
    """x·Wᵀ + b for x (…, K), W (N, K), b (N,): `torch.nn.functional.linear`, by the faster library.

    `tokens` is the size that changes from batch to batch: the rows of x, unless given.
    """
    tokens = x.numel() // max(1, x.shape[-1]) if tokens is None else tokens
    few_shapes = tokens > 0 and (weight.numel() >= LARGE or tokens % TILE == 0)
    fp32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if not (few_shapes and fp32 and x.device.type == "cpu" and prefers_onednn()):
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled() or not (x.requires_grad or weight.requires_grad):
        return _product(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])
    return _OneDNNLinear.apply(x, weight, bias)


class FastLinear(nn.Linear):
    """A linear layer on `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x if weight.requires_grad else None, weight)
        return _product(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            _product(rows, weight.t(), None).unflatten(0, grad.shape[:-1]) if to_x else None,
            _product(rows.t(), x.flatten(0, -2).t(), None) if to_weight else None,
            rows.sum(0) if to_bias else None,
        )


class _LoraLinear(torch.autograd.Function):
    """x·Wᵀ + b + scale · (x·Aᵀ)·Bᵀ with W frozen, added up in place; peft makes three more arrays of that size."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        rows = x.flatten(0, -2)
        inner = linear(rows, a)
        ctx.save_for_backward(rows, inner, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return linear(rows, weight, bias).addmm_(inner, b.t(), alpha=scale).unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, inner, weight, a, b = ctx.saved_tensors
        rows = grad.flatten(0, -2)
        to_inner = linear(rows, b.t()) * ctx.scale
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = linear(rows, weight.t()).addmm_(to_inner, a).view(ctx.shape)
        trained = ctx.needs_input_grad[3]
        to_a = linear(to_inner.t(), x.t(), tokens=len(rows)) if trained else None
        to_b = linear(inner.t(), rows.t(), tokens=len(rows)).t() * ctx.scale if trained else None
        return to_x, None, None, to_a, to_b, None


class FusedLoraLinear(LoraLinear):
    """peft's LoRA layer, in one step where one adapter without dropout stands on a frozen layer of its own type."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        base = self.base_layer
        name: Any = self.active_adapters[0] if len(self.active_adapters) == 1 else None
        simple = (
            name in self.lora_A and isinstance(base, nn.Linear) and not base.weight.requires_grad
            and not (self.disable_adapters or self.merged or args or kwargs or self.use_dora.get(name))
            and (getattr(self.lora_dropout[name], "p", 0) == 0 or not self.training) and self.lora_B[name].bias is None
            and x.dtype == base.weight.dtype == self.lora_A[name].weight.dtype and x.numel() > 0
            and not torch.is_autocast_enabled(x.device.type)
        )  # fmt: skip
        if not simple:
            return super().forward(x, *args, **kwargs)
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        return _LoraLinear.apply(x, base.weight, base.bias, a, b, self.scaling[name])


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(M, K) and (N, K) → (M, N)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
