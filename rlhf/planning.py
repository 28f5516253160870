"""From a configuration to the predicted peaks of a phase's steps, and the memory to fit them into.

    plan = plan_phase(run, "ppo", ppo_arguments(run, "ppo"))
    plan.peak <= capacity(run)

`rlhf.memory` has the arithmetic, `rlhf.fitting` what follows from it. A model's shape comes from its configuration
file; its weights are not read.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import psutil
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from rlhf import memory
from rlhf.hub import reachable_or_cached
from rlhf.memory import Held, How, Logits, Network, Parts
from rlhf.models import config_of
from rlhf.rewards.specs import uses_model
from rlhf.run import Run

GIB = 2**30


@dataclass(frozen=True)
class PhasePlan:
    """The predicted steps of a phase."""

    phase: str
    device: str
    steps: dict[str, Parts]
    """Step → part → bytes."""
    rows: int
    """The micro-batch: sequences, or pairs, trained on at a time."""
    accumulation: int
    """Micro-batches an optimizer's batch, or in PPO an update."""
    rollout_rows: int | None = None
    """Sequences sampled at a time; of PPO only."""

    @property
    def peaks(self) -> dict[str, float]:
        """Step → bytes at its peak, all told."""
        return {step: memory.total(parts, self.device) for step, parts in self.steps.items()}

    @property
    def peak(self) -> float:
        """Of the step that takes most."""
        return max(self.peaks.values())


# --- what there is ----------------------------------------------------------------------------------------------------


def capacity(run: Run) -> float:
    """Bytes to fit into: `plan.memory_gb`, else all of the GPU, else free main memory and what this process has."""
    if run.config.plan.memory_gb:
        return run.config.plan.memory_gb * GIB
    if run.device.type == "cuda":
        return float(torch.cuda.get_device_properties(run.device).total_memory)
    return float(psutil.virtual_memory().available + psutil.Process().memory_info().rss)


def network(run: Run) -> Network:
    """The shape of the run's model, its embeddings grown to the tokenizer."""
    base, model = run.folder / "base", run.config.model
    if model.shape and not base.is_dir():
        trained = (model.tokenizer or "train") == "train"
        return network_of(config_of(model.shape, model.vocab_size if trained else len(run.tokenizer())))
    name = str(base) if model.shape else reachable_or_cached(str(model.name), "model")
    config = AutoConfig.from_pretrained(name)
    grown = config.vocab_size if model.shape else config.vocab_size + 1  # a pad token, which most tokenizers lack
    return network_of(config, grown)


def network_of(config: PreTrainedConfig, vocabulary: int | None = None) -> Network:
    """Counts a model that is built without memory for its weights."""
    values = config.to_dict() | {"vocab_size": vocabulary or config.vocab_size}
    return _count(type(config), json.dumps(values))  # type: ignore[arg-type]  # a class can be hashed


@lru_cache(maxsize=8)
def _count(kind: type[PreTrainedConfig], values: str) -> Network:
    config: Any = kind.from_dict(json.loads(values))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    blocks = next(child for child in model.base_model.modules() if isinstance(child, nn.ModuleList))
    linear = {
        name.rpartition(".")[2]: (layer.in_features, layer.out_features)
        for name, layer in blocks[0].named_modules()
        if isinstance(layer, nn.Linear)
    }
    in_blocks = len(blocks) * sum(k * n for k, n in linear.values())
    return Network(
        width=config.hidden_size,
        inner=max((n for _, n in linear.values()), default=4 * config.hidden_size),
        layers=len(blocks),
        heads=config.num_attention_heads,
        vocabulary=config.vocab_size,
        window=getattr(config, "window_size", 0) or 0,
        local_layers=list(getattr(config, "attention_layers", [])).count("local"),
        linear=linear,
        other=sum(p.numel() for p in model.parameters()) - in_blocks,
        buffers=sum(b.numel() * b.element_size() for b in model.buffers()),
    )


# --- what it takes ----------------------------------------------------------------------------------------------------


def plan_phase(run: Run, phase: str, args: Any, net: Network | None = None) -> PhasePlan:
    """The predicted steps of a phase with the sizes in `args`.

    Args:
        run: its configuration and device count.
        phase: base, sft, reward or ppo.
        args: the trainer's configuration.
        net: of the model, where it is known already.
    """
    net = net or network(run)
    steps = {"base": _of_base, "sft": _of_sft, "reward": _of_reward, "ppo": _of_ppo}[phase](run, args, net)
    rows, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
    return PhasePlan(phase, run.device.type, steps, rows, accumulation, _rollout_rows(args) if phase == "ppo" else None)


def _rollout_rows(args: Any) -> int:
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    return min(args.local_rollout_forward_batch_size, batch)


def _how(run: Run, phase: str, args: Any, net: Network) -> How:
    lora, targets = run.config.lora, run.config.lora.target_modules
    return How(
        precision="fp32" if phase == "base" else run.config.model.precision,
        autocast=phase != "ppo" and bool(args.bf16),
        lora=phase in lora.phases,
        rank=lora.r,
        targets=tuple(net.linear) if targets == "all-linear" else tuple(targets),
        dropout=0.0 if phase == "ppo" else lora.dropout,
        checkpointing=bool(args.activation_checkpointing),
        device=run.device.type,
    )


def _held(net: Network, how: How, args: Any) -> Held:
    trained = net.adapter(how.rank, how.targets) if how.lora else net.weights
    a_weight = how.adapter_bytes if how.lora else 4 if how.precision == "fp32" else 2
    moments = 0 if str(args.optim).rpartition(".")[2].lower() == "sgd" else 2
    return Held(net.bytes(how.precision), 0.0, trained, a_weight, how.lora, moments)


def _of_base(run: Run, args: Any, net: Network) -> dict[str, Parts]:
    how, tokens, rows = _how(run, "base", args, net), run.config.base.block_tokens, args.per_device_train_batch_size
    logits = Logits.whole(net, rows * tokens, how)
    several = args.gradient_accumulation_steps > 1
    return {"update": memory.update(net, how, _held(net, how, args), rows, tokens, logits, several=several, head=True)}


def _of_sft(run: Run, args: Any, net: Network) -> dict[str, Parts]:
    how, reply = _how(run, "sft", args, net), run.config.data.max_response_tokens
    held, tokens, rows = (
        _held(net, how, args),
        run.config.data.max_prompt_tokens + reply,
        args.per_device_train_batch_size,
    )
    several, at_once = args.gradient_accumulation_steps > 1, args.per_device_eval_batch_size
    logits = Logits.of_sft(net, rows * reply)
    return {
        "update": memory.update(net, how, held, rows, tokens, logits, several=several, head=not how.lora),
        "evaluate": memory.read(net, how, held, at_once, tokens, Logits.of_sft(net, at_once * reply)),
    }


def _of_reward(run: Run, args: Any, net: Network) -> dict[str, Parts]:
    how, data = _how(run, "reward", args, net), run.config.data
    held, tokens = _held(net, how, args), data.max_prompt_tokens + data.max_response_tokens
    rows, several = 2 * args.per_device_train_batch_size, args.gradient_accumulation_steps > 1
    return {
        "update": memory.update(net, how, held, rows, tokens, Logits(), several=several, head=False),
        "evaluate": memory.read(net, how, held, 2 * args.per_device_eval_batch_size, tokens, Logits()),
    }


def _of_ppo(run: Run, args: Any, net: Network) -> dict[str, Parts]:
    how, prompt, response = _how(run, "ppo", args, net), run.config.data.max_prompt_tokens, args.response_length
    held, tokens, rows = _held_by_ppo(run, net, how, args), prompt + response, args.per_device_train_batch_size
    at_once, head = _rollout_rows(args), not how.lora
    trained = Logits.chunked(net, rows * response, how)
    scored = Logits.chunked(net, at_once * response, how)
    return {
        "rollout": memory.decode(net, how, held, at_once, prompt, response),
        "score": memory.read(net, how, held, at_once, tokens, scored),
        "update": memory.update(net, how, held, rows, tokens, trained, several=rows > 1, head=head),
    }


def _held_by_ppo(run: Run, net: Network, how: How, args: Any) -> Held:
    """With the reference (the SFT adapter, or without LoRA a copy of all weights), the reward model and the critic."""
    settings, lora = run.config.ppo, run.config.lora
    adapter = net.adapter(how.rank, how.targets)
    own = _held(net, how, args)
    networks, adapters = own.weights, 0.0
    if not how.lora:
        networks += own.weights
    elif "sft" in lora.phases:
        adapters += 4 * adapter
    shared = how.lora and "reward" in lora.phases and ("sft" in lora.phases or run.config.reward.init == "sft")
    if shared and uses_model(settings.rewards):
        adapters += 4 * adapter
    elif uses_model(settings.rewards):
        networks += own.weights + (4 * adapter if "reward" in lora.phases else 0)
    trained = own.trained + (adapter if settings.value == "adapter" else 0)
    best = own.trained * own.trained_bytes if settings.eval_prompts else 0.0
    return Held(networks, adapters, trained, own.trained_bytes, own.adapters, own.moments, best)
