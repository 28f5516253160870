"""Tiny random language models of several architectures, lively enough not to say the same to every prompt."""

from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

WINDOW = 8
"""Reach of Mistral's attention, in tokens."""


def tiny_model(name: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """A "llama" (rotary positions, grouped keys), "qwen3" (normed queries, tied embeddings), "mistral" (sliding window)
    or "gpt2" (layers that are no `nn.Linear`), 32 wide."""
    tokens = {
        "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }  # fmt: skip
    llama_like: dict[str, Any] = tokens | {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "initializer_range": 0.4,
    }  # fmt: skip
    torch.manual_seed(0)
    if name == "llama":
        return LlamaForCausalLM(LlamaConfig(**llama_like)).eval()
    if name == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**llama_like, tie_word_embeddings=True)).eval()
    if name == "mistral":
        return MistralForCausalLM(MistralConfig(**llama_like, sliding_window=WINDOW)).eval()
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.4}
    quiet = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**tokens, **shape, **quiet)).eval()
