"""Faster kernels for a model that is loaded already, equal to transformers' own to 1e-5 in fp32.

    fuse_kernels(model)

transformers computes GPT-Neo's attention step by step, in fp32 and with every score kept for the backward pass, and
its GELU as seven tensor operations, each kept as well. Other architectures bring such kernels; of them, only the linear
layers are exchanged (see `linear`, and `int8` for those in 8 bits, which are equal to bf16's rounding).
"""

from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoMLP, GPTNeoSelfAttention

from rlhf.linear import FastLinear, FusedLoraLinear

SHORT = 256
"""Keys up to which a CPU is faster step by step: its fused kernel works on blocks, and in bf16 converts each."""


class FusedSelfAttention(GPTNeoSelfAttention):
    """GPT-Neo's attention, global or windowed, by `scaled_dot_product_attention`; returns no attention weights."""

    def _attn(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Attention of the last Q of K positions.

        Args:
            query: (B, heads, Q, width). Scores are not divided by the root of the width: GPT-Neo learns without.
            key: (B, heads, K, width).
            value: (B, heads, K, width).
            attention_mask: (B, 1, Q, K), added to the scores: 0 where a key may be seen, else the least number.
        """
        queries, keys = query.shape[-2], key.shape[-2]
        mask = attention_mask
        if mask is None or (self.attention_type == "local" and keys > self.config.window_size):
            window = self._window(queries, keys)
            seen = torch.zeros(1, dtype=query.dtype, device=query.device) if mask is None else mask
            mask = seen.masked_fill(~window, torch.finfo(query.dtype).min)
        dropout = self.attn_dropout.p if self.training else 0.0
        if query.device.type == "cpu" and not dropout and (keys <= SHORT or query.dtype != torch.float32):
            if not torch.is_autocast_enabled("cpu"):  # which would convert both back again
                query, key = query.float(), key.float()  # as in transformers
            scores = query @ key.transpose(-1, -2) + mask
            return scores.softmax(-1).to(value.dtype) @ value, None
        return F.scaled_dot_product_attention(query, key, value, mask, dropout, scale=1.0), None

    def _window(self, queries: int, keys: int) -> Tensor:
        """(1, 1, Q, K), True where one of the last Q positions may see one of the K.

        Rows that joined a batch one after the other can take more columns than the model has positions, though each of
        them has fewer. What one may see depends on the distance alone.
        """
        if keys <= self.bias.shape[-1]:
            return self.bias[:, :, keys - queries : keys, :keys]
        place = torch.arange(keys, device=self.bias.device)
        distance = place[keys - queries :, None] - place
        reach = self.config.window_size if self.attention_type == "local" else keys
        return ((distance >= 0) & (distance < reach))[None, None]


def fuse_kernels(model: nn.Module) -> None:
    """Exchange linear layers, and the attention and GELU of GPT-Neo's blocks; the weights stay where they are."""
    if getattr(model, "is_loaded_in_8bit", False):
        from rlhf.int8 import weight_only  # needs bitsandbytes, which is there then

        for layer in model.modules():
            weight_only(layer)
    block: Any
    for block in model.modules():
        if type(block) is nn.Linear:
            block.__class__ = FastLinear
        elif type(block) is LoraLinear:
            block.__class__ = FusedLoraLinear
        if type(block) is GPTNeoSelfAttention:
            block.__class__ = FusedSelfAttention  # the same weights and buffers, another way through them
        elif isinstance(block, GPTNeoMLP) and type(block.act).__name__ == "NewGELUActivation":
            block.act = nn.GELU(approximate="tanh")
