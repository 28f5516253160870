"""Loading and saving networks: from scratch, from the hub or a folder, whole or as a LoRA adapter, in any precision.

A *result folder* is what a phase leaves: either a whole model (`config.json`) or an adapter
(`adapter_config.json`, which names its base). `load_causal_lm` and `load_merged` take both.
"""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from rlhf.config import Config, LoraSection, Precision, Shape
from rlhf.errors import UserError
from rlhf.fused import fuse_kernels
from rlhf.hub import reachable_or_cached
from rlhf.padding import WIDTH

REWARD_HEAD = "score"
CONTEXT_SETTING = "data.max_prompt_tokens + data.max_response_tokens"
"""What a tokenizer's `model_max_length` is here."""


def resolve_device(wanted: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda". Raises `UserError` where a GPU is asked for and there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "model.device is cuda, but this machine shows no GPU.",
            expected="a CUDA GPU with a driver that torch can use",
            found=f"torch {torch.__version__}, no CUDA device",
            remedy="--set model.device=cpu, or auto",
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def from_scratch(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> GPTNeoForCausalLM:
    """A randomly initialised GPT-Neo of a shape, for the vocabulary and special tokens of a tokenizer."""
    config = config_of(shape, len(tokenizer))
    config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    model = GPTNeoForCausalLM(config)
    check_context(model, tokenizer.model_max_length, CONTEXT_SETTING)
    return model


def config_of(shape: Shape, vocabulary: int) -> GPTNeoConfig:
    """transformers' configuration of a shape: global and local attention layers alternate, global first."""
    if shape.hidden_size % shape.num_heads:
        raise UserError(
            "model.shape does not fit together.",
            expected="hidden_size a multiple of num_heads",
            found=f"{shape.hidden_size} and {shape.num_heads}",
        )
    kinds = ["global" if layer % 2 == 0 else "local" for layer in range(shape.num_layers)]
    return GPTNeoConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden_size,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        attention_types=[[[kind], 1] for kind in kinds],
        window_size=shape.window_size,
        max_position_embeddings=shape.max_position_embeddings,
        bos_token_id=None,  # GPT-2's are beyond a smaller vocabulary
        eos_token_id=None,
        resid_dropout=0.0,
        embed_dropout=0.0,
        attention_dropout=0.0,
    )


def check_context(model: PreTrainedModel, tokens: int, setting: str) -> None:
    """Refuse sequences of more tokens than a model has positions for; `setting` says where the number comes from.

    Raises:
        UserError: naming the setting and both numbers.
    """
    positions = getattr(model.config, "max_position_embeddings", None)  # models with relative positions have no limit
    most = positions and positions - positions % WIDTH  # widths are rounded up
    if most and tokens > most:
        raise UserError(
            "The sequences do not fit into the model's context.",
            expected=f"{setting} at most {most}",
            found=str(tokens),
            remedy=f"lower {setting.replace(' + ', ' or ')}, or take a model with a longer context",
        )


def is_adapter(folder: str | Path) -> bool:
    """Whether a result folder holds a LoRA adapter rather than a whole model."""
    return (Path(folder) / "adapter_config.json").is_file()


def base_of(folder: str | Path) -> str:
    """The base model of an adapter folder; of anything else, itself."""
    return LoraConfig.from_pretrained(str(folder)).base_model_name_or_path if is_adapter(folder) else str(folder)


def load_base(
    name: str, tokenizer: PreTrainedTokenizerFast, precision: Precision, device: torch.device, *, reward: bool = False
) -> PreTrainedModel:
    """A whole model by hub name or folder, its embeddings grown to the tokenizer, on `device`.

    Args:
        name: hub name or folder. A folder never asks the hub.
        tokenizer: fixes the vocabulary size, the pad and the end-of-sequence token.
        precision: of the weights; "8bit" and "4bit" need bitsandbytes.
        reward: put a scalar reward head on the trunk (AutoModelForSequenceClassification) instead of the vocabulary.

    Raises:
        UserError: no such model, hub unreachable, or bitsandbytes missing.
    """
    origin = str(Path(name).resolve()) if Path(name).exists() else name
    name = reachable_or_cached(name, kind="model")
    kind: Any = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    extra: dict[str, Any] = {"num_labels": 1} if reward else {}
    if precision in ("8bit", "4bit"):
        extra |= {"quantization_config": _quantization(precision), "device_map": {"": device}}
    try:
        model = kind.from_pretrained(name, dtype=_dtype(precision), **extra)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"Could not load a model from {name!r}.",
            expected="a hub name, or a folder with config.json and model.safetensors",
            found=str(error).splitlines()[0],
        ) from error
    check_context(model, tokenizer.model_max_length, CONTEXT_SETTING)
    model.name_or_path = origin  # what an adapter names as its base
    if precision == "4bit" and device.type == "cpu":
        _keep_differentiable(model)
    if model.get_input_embeddings().num_embeddings < len(tokenizer):
        model.resize_token_embeddings(len(tokenizer))
    _set_special_tokens(model, tokenizer)
    return model if precision in ("8bit", "4bit") else model.to(device)


def load_causal_lm(
    folder: str, tokenizer: PreTrainedTokenizerFast, precision: Precision, device: torch.device
) -> PreTrainedModel | PeftModel:
    """A policy for generation from a hub name or result folder, adapter or whole, frozen and in eval mode."""
    model: Any = load_base(base_of(folder), tokenizer, precision, device)
    if is_adapter(folder):
        model = PeftModel.from_pretrained(model, folder)
    fuse_kernels(model)
    return model.eval().requires_grad_(False)


def load_merged(folder: str, tokenizer: PreTrainedTokenizerFast, *, reward: bool = False) -> Any:
    """A result folder as one whole fp32 model on the CPU: adapters merged into their base."""
    model: Any = load_base(base_of(folder), tokenizer, "fp32", torch.device("cpu"), reward=reward)
    if is_adapter(folder):
        adapter = LoraConfig.from_pretrained(folder)
        adapter.task_type = None  # that of a language model fits the trunk of a reward model too
        model = PeftModel.from_pretrained(model, folder, config=adapter).merge_and_unload()
    return model.requires_grad_(True)  # peft has frozen the base


def lora_config(section: LoraSection, *, reward: bool = False) -> LoraConfig:
    """peft's configuration for a language-model or reward adapter."""
    return LoraConfig(
        task_type=TaskType.SEQ_CLS if reward else TaskType.CAUSAL_LM,
        r=section.r,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules=section.target_modules,
        modules_to_save=[REWARD_HEAD] if reward else None,
    )


def trainable_model(
    start: str,
    config: Config,
    phase: str,
    tokenizer: PreTrainedTokenizerFast,
    device: torch.device,
    *,
    kept_head: bool = False,
) -> PreTrainedModel | PeftModel:
    """The network that phase "sft" or "reward" trains, starting from `start` (hub name or result folder).

    With LoRA in this phase the base stays frozen and a new adapter is trained, which begins as a copy of the
    start's adapter if it has one. Without, every weight is trained (an adapter is merged first). A reward model gets
    a fresh head; with `kept_head` that of the start, which is a reward model then.
    """
    reward, precision = phase == "reward", config.model.precision
    if phase not in config.lora.phases:
        model: Any = load_merged(start, tokenizer, reward=reward)
        model = model.to(device=device, dtype=_dtype(precision))
        if reward and not kept_head:
            init_reward_head(model)
        fuse_kernels(model)
        return model
    base = load_base(base_of(start), tokenizer, precision, device, reward=reward)
    model = get_peft_model(base, lora_config(config.lora, reward=reward))
    if is_adapter(start):
        _copy_adapter(start, model)
    if reward and not kept_head:
        init_reward_head(model)
    fuse_kernels(model)
    return model


def _copy_adapter(start: str, model: PeftModel) -> None:
    """Give a new adapter the weights of the one in folder `start`; what that one lacks, a head, stays as it is."""
    theirs, ours = LoraConfig.from_pretrained(start), model.peft_config["default"]
    for key in ("r", "lora_alpha", "target_modules"):
        if getattr(theirs, key) != getattr(ours, key):
            raise UserError(
                f"The adapter in {start} has another shape than the one to train.",
                expected=f"{key} {getattr(ours, key)}, from section lora",
                found=f"{key} {getattr(theirs, key)}",
                remedy="restore section lora, or train again what this phase starts from",
            )
    weights = get_peft_model_state_dict(model, save_embedding_layers=False) | load_peft_weights(start, device="cpu")
    set_peft_model_state_dict(model, weights)


def init_reward_head(model: torch.nn.Module) -> None:
    """Draw the reward head from N(0, 1/sqrt(d+1)), d the width of the trunk.

    As in "The N Implementation Details of RLHF with PPO" (Huang et al. 2023), after Ziegler et al. 2019.
    """
    for name, weight in model.named_parameters():
        if f"{REWARD_HEAD}." in name and name.endswith("weight"):
            torch.nn.init.normal_(weight, std=(weight.shape[1] + 1) ** -0.5)


def _dtype(precision: Precision) -> torch.dtype:
    return torch.float32 if precision == "fp32" else torch.bfloat16


def _quantization(precision: Precision) -> Any:
    try:
        import bitsandbytes  # noqa: F401
        from transformers import BitsAndBytesConfig
    except ImportError:
        raise UserError(
            f"model.precision is {precision}, which needs the package bitsandbytes.",
            remedy="pip install bitsandbytes, or --set model.precision=bf16",
        ) from None
    if precision == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["lm_head", REWARD_HEAD])
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["lm_head", REWARD_HEAD],
    )


def _keep_differentiable(model: PreTrainedModel) -> None:
    """Keep 4-bit layers from repacking their weights at the first forward in eval mode, which bitsandbytes does on
    processors with AVX512-BF16: no gradient passes a repacked layer, and PPO samples before it trains."""
    layer: Any
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def _set_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    if model.can_generate():
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.bos_token_id = tokenizer.bos_token_id
