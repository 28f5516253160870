"""A frozen linear layer in 8 bits that keeps nothing of its input.

bitsandbytes holds on to each layer's input for a gradient of the weights, which frozen weights never get; and it does
so past gradient checkpointing, which frees only what autograd itself has saved. `fuse_kernels` exchanges the layers.
"""

from typing import Any

import torch
from bitsandbytes.nn import Linear8bitLt
from torch import Tensor


class Frozen8bitLinear(Linear8bitLt):
    """bitsandbytes' LLM.int8 layer (Dettmers et al. 2022, arXiv 2208.07339) whose weights are not trained."""

    def forward(self, x: Tensor) -> Tensor:
        """x (…, K) → (…, N), as in bitsandbytes."""
        if self.state.has_fp16_weights or not (torch.is_grad_enabled() and x.requires_grad):
            return super().forward(x)
        return _Frozen8bit.apply(x, self)


class _Frozen8bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Frozen8bitLinear) -> Tensor:  # type: ignore[override]
        ctx.state, ctx.dtype = layer.state, x.dtype
        return Linear8bitLt.forward(layer, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        scale = ctx.state.SCB.unsqueeze(1) / 127  # (N, 1): weights are int8 shares of each row's largest
        weight = ctx.state.CB.to(ctx.dtype, copy=True).mul_(scale)
        return grad.to(ctx.dtype) @ weight, None
