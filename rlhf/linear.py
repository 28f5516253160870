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
TILE = 256
"""Smaller matrices go there where the rows of x are a multiple of this, and so come in few shapes."""
ENOUGH = 2 * TILE
"""From so many rows on they are filled up to such a multiple with zeros: less than a third of the work is in vain."""


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


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x·Wᵀ + b for x (…, K), W (N, K), b (N,): `torch.nn.functional.linear`, by the faster library."""
    if not _is_for_onednn(x, weight):
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled() or not (x.requires_grad or weight.requires_grad):
        return _cut(_product(_tiled(x.flatten(0, -2), weight), weight, bias), x.shape)
    return _OneDNNLinear.apply(x, weight, bias)


def _is_for_onednn(x: Tensor, weight: Tensor) -> bool:
    fp32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return fp32 and x.device.type == "cpu" and x.numel() > 0 and prefers_onednn()


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None = None, tokens: int | None = None) -> Tensor:
    """(M, K) and (N, K) → (M, N); `tokens` is the size that changes from batch to batch, M unless given."""
    few_shapes = weight.numel() >= LARGE or (len(rows) if tokens is None else tokens) % TILE == 0
    if few_shapes and _is_for_onednn(rows, weight):
        return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return F.linear(rows, weight, bias)


def _tiled(rows: Tensor, weight: Tensor) -> Tensor:
    """Rows (M, K), with zeros below where that makes their product with `weight` one for oneDNN."""
    fills = weight.numel() < LARGE and len(rows) >= ENOUGH and _is_for_onednn(rows, weight)
    return F.pad(rows, (0, 0, 0, -len(rows) % TILE)) if fills else rows


def _cut(rows: Tensor, shape: torch.Size) -> Tensor:
    """Rows (M, N), without those that were filled up, as (…, N) for the x of this shape (…, K)."""
    return rows[: shape[:-1].numel()].unflatten(0, shape[:-1])


class FastLinear(nn.Linear):
    """A linear layer on `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        rows = _tiled(x.flatten(0, -2), weight)
        ctx.save_for_backward(rows if weight.requires_grad else None, weight)
        return _cut(_product(rows, weight, bias), x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        rows = _tiled(grad.flatten(0, -2), weight)
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            _cut(_product(rows, weight.t()), grad.shape) if to_x else None,
            _product(rows.t(), x.t(), tokens=len(rows)) if to_weight else None,
            rows.sum(0) if to_bias else None,
        )


class _LoraLinear(torch.autograd.Function):
    """x·Wᵀ + b + scale · (x·Aᵀ)·Bᵀ with W frozen, added up in place; peft makes three more arrays of that size."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        rows = _tiled(x.flatten(0, -2), weight)
        inner = _product(rows, a)
        ctx.save_for_backward(rows, inner, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return _cut(_product(rows, weight, bias).addmm_(inner, b.t(), alpha=scale), x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, inner, weight, a, b = ctx.saved_tensors
        rows = _tiled(grad.flatten(0, -2), weight)
        to_inner = _product(rows, b.t()) * ctx.scale
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = _cut(_product(rows, weight.t()).addmm_(to_inner, a), ctx.shape)
        trained = ctx.needs_input_grad[3]
        to_a = _product(to_inner.t(), x.t(), tokens=len(rows)) if trained else None
        to_b = _product(inner.t(), rows.t(), tokens=len(rows)).t() * ctx.scale if trained else None
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
