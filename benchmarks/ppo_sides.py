"""PPO by one of two trainers on random weights and prompts of a given size, timed.

In a process of its own; `benchmarks.ppo_vs_trl` starts it.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPTNeoForSequenceClassification,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig

from benchmarks.machine import DTYPES
from benchmarks.memory import forget_peak, held_mb, peak_mb, peak_rss_mb
from benchmarks.stock import in_one_piece, stock_trainer
from reward_model import RewardModel
from rlhf.allocator import keep_freed_memory
from rlhf.backbone import Backbone, SharedRewardModel
from rlhf.baseline import ReturnBaseline, reader
from rlhf.config import Config, PPOSection, Shape, parse_config
from rlhf.models import from_scratch, trainable_model
from rlhf.ppo_trainer import RLHFTrainer
from rlhf.rewards.core import Scores
from rlhf.stopwatch import now

TARGETS = ["q_proj", "v_proj"]
"""Layers with an adapter."""


def _size(default: int, text: str) -> int:
    return field(default=default, metadata={"help": f"{text} ({default})"})


@dataclass(frozen=True)
class Job:
    """The size of the work. Lengths in tokens."""

    hidden: int = _size(768, "width of the model")
    layers: int = _size(12, "its layers")
    heads: int = _size(12, "its attention heads")
    vocab: int = _size(50257, "vocabulary")
    batch: int = _size(8, "episodes an update")
    prompt: int = _size(64, "tokens of a prompt")
    response: int = _size(64, "tokens of a reply")
    updates: int = _size(2, "counted updates")
    epochs: int = _size(4, "PPO epochs")
    minibatches: int = _size(1, "optimizer steps an epoch")
    rank: int = _size(8, "of the LoRA adapters")
    window: int = _size(256, "of local attention")
    micro_batch: int = _size(4, "sequences at a time in our update")
    trl_micro_batch: int = _size(0, "the same in TRL's; 0: all")
    rollout_batch: int = _size(0, "sequences sampled at a time; 0: all")
    dtype: str = "fp32"


def run_side(side: str, job: dict[str, Any], folder: str) -> dict[str, Any]:
    keep_freed_memory()  # as main.py does; for the stock trainer, too
    return {"ours": run_ours, "trl": run_trl}[side](Job(**job), Path(folder))


# --- the same weights, tokenizer and prompts for both -----------------------------------------------------------------


def make_models(job: Job, folder: Path) -> None:
    """A random GPT-Neo as `folder/policy`, a reward model as `folder/reward`, both with a tokenizer of bare numbers."""
    words = {f"w{number}": number for number in range(job.vocab - 2)}
    words |= {"<pad>": job.vocab - 2, "<end>": job.vocab - 1}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), pad_token="<pad>", eos_token="<end>",
        padding_side="left", model_max_length=job.prompt + job.response,
    )  # fmt: skip
    torch.manual_seed(0)
    policy = from_scratch(
        Shape(
            hidden_size=job.hidden, num_layers=job.layers, num_heads=job.heads, window_size=job.window,
            max_position_embeddings=max(2048 if job.hidden >= 512 else 256, job.prompt + job.response),
        ),
        tokenizer,
    )  # fmt: skip
    policy.config.num_labels = 1
    reward = GPTNeoForSequenceClassification(policy.config)
    for model, name in ((policy, "policy"), (reward, "reward")):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def prompt_rows(job: Job) -> Dataset:
    ids = torch.randint(job.vocab - 2, (4 * job.batch, job.prompt), generator=torch.Generator().manual_seed(0))
    return Dataset.from_list([{"input_ids": row} for row in ids.tolist()])


def arguments(job: Job, folder: Path, batches: dict[str, int]) -> PPOConfig:
    return PPOConfig(
        output_dir=str(folder / "out"), use_cpu=not torch.cuda.is_available(), report_to="none", bf16=False,
        num_mini_batches=job.minibatches, num_ppo_epochs=job.epochs, total_episodes=job.batch * (job.updates + 1),
        response_length=job.response, stop_token=None, temperature=1.0, learning_rate=1e-4,
        local_rollout_forward_batch_size=job.rollout_batch or job.batch, gradient_checkpointing=False,
        num_sample_generations=0, disable_tqdm=True, save_strategy="no", logging_steps=1, **batches,
    )  # fmt: skip


def in_micro_batches(job: Job, size: int) -> dict[str, int]:
    return {"per_device_train_batch_size": size, "gradient_accumulation_steps": job.batch // size}


# --- measuring --------------------------------------------------------------------------------------------------------


class Clock(TrainerCallback):
    """Notes when each update ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *given: Any, **named: Any) -> None:
        self.ends.append(now())

    def seconds_per_update(self) -> float:
        """The first update warms up and does not count."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


class Watch(Clock):
    """Notes, too, how much memory training takes beyond what stood there before it.

    Args:
        phases: seconds of the parts of the update that has just ended.
    """

    def __init__(self, phases: Callable[[], dict[str, float]] = dict) -> None:
        super().__init__()
        self.phases: list[dict[str, float]] = []
        self._read_phases = phases
        self._before = 0.0

    def on_train_begin(self, *given: Any, **named: Any) -> None:
        forget_peak()
        self._before = held_mb()

    def on_step_end(self, *given: Any, **named: Any) -> None:
        super().on_step_end()
        self.phases.append(dict(self._read_phases()))

    def result(self, job: Job) -> dict[str, Any]:
        """The first update warms up and counts for memory alone."""
        seconds, counted = self.seconds_per_update(), self.phases[1:]
        found = {
            "episodes_per_s": job.batch / seconds,
            "seconds_per_update": seconds,
            "peak_rss_mb": peak_rss_mb(),
            "working_mb": peak_mb() - self._before,
            "phases": {name: statistics.mean(part[name] for part in counted) for name in counted[0]},
        }
        return found | ({"peak_gpu_mb": peak_mb()} if torch.cuda.is_available() else {})


# --- the two sides ----------------------------------------------------------------------------------------------------


def run_ours(job: Job, folder: Path) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = parse_config(
        {
            "model": {"name": str(folder / "policy"), "precision": job.dtype},
            "lora": {"phases": ["sft", "reward", "ppo"], "r": job.rank, "alpha": 2 * job.rank, "dropout": 0.0,
                     "target_modules": TARGETS},
            "data": {"demonstrations": ["classroom"], "preferences": ["classroom"]},
        }
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    backbone = Backbone(folder / "policy", config, tokenizer, device)
    rewards = RewardModel(
        SharedRewardModel(backbone, reward_head(folder, backbone, config, tokenizer)), tokenizer.pad_token_id
    )
    read = reader(rewards, job.rollout_batch or job.batch)

    def score(prompts: list[list[int]], replies: list[list[int]]) -> Scores:
        found, features = read(prompts, replies)
        return Scores(found, found.unsqueeze(1), features)

    watch = Watch(lambda: trainer.stopwatch.seconds)
    trainer = RLHFTrainer(
        arguments(job, folder, in_micro_batches(job, min(job.micro_batch, job.batch // job.minibatches))),
        PPOSection(eval_prompts=0), tokenizer, backbone,
        score, prompt_rows(job), baseline=ReturnBaseline(), exact_decoding=job.dtype == "fp32", callbacks=[watch],
    )  # fmt: skip
    trainer.train()
    return watch.result(job)


def reward_head(folder: Path, backbone: Backbone, config: Config, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Of a reward model as the pipeline makes it: an adapter of the same rank and a head, on the same base."""
    made: Any = trainable_model(str(folder / "policy"), config, "reward", tokenizer, backbone.device)
    made.save_pretrained(folder / "reward_adapter", save_embedding_layers=False)
    del made
    return backbone.add_reward_adapter(folder / "reward_adapter")


def run_trl(job: Job, folder: Path) -> dict[str, Any]:
    dtype = DTYPES[job.dtype]
    value, reward = (
        AutoModelForSequenceClassification.from_pretrained(folder / "reward", num_labels=1, dtype=dtype)
        for _ in range(2)
    )
    size = job.trl_micro_batch
    watch = Watch()
    stock_trainer(
        arguments(job, folder, in_micro_batches(job, size) if size else in_one_piece(job.batch)),
        AutoTokenizer.from_pretrained(folder / "policy"),
        AutoModelForCausalLM.from_pretrained(folder / "policy", dtype=dtype),
        reward, value, prompt_rows(job),
        LoraConfig(task_type="CAUSAL_LM", r=job.rank, lora_alpha=2 * job.rank, lora_dropout=0.0,
                   target_modules=TARGETS),
        [watch],
    ).train()  # fmt: skip
    return watch.result(job)
