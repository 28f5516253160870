"""A tiny world for the phase tests: data from lists, a tiny "pretrained" GPT-Neo with GPT-2's kind of tokenizer."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoConfig, GPTNeoForCausalLM, PreTrainedTokenizerFast

from rlhf.config import Config, parse_config
from rlhf.data.source import Judge, Sampler
from rlhf.records import Demonstration, Preference, Prompt, ask, prompt_id
from rlhf.run import Run, Split
from tests.conftest import SMALL

WORDS = ["red", "blue", "cat", "dog", "sun", "moon", "tree", "fish", "bird", "star"]
TEXTS = [f"The {a} and the {b} are here. What is a {a}?" for a in WORDS for b in WORDS]
ROWS = {"train": WORDS[:8], "validation": WORDS[4:], "test": WORDS[2:6]}
END_OF_TEXT = "<|endoftext|>"


def demonstration(word: str) -> Demonstration:
    prompt = ask(f"What is a {word}?")
    return Demonstration(prompt_id(prompt), prompt, f"A {word} is here.", f"about {word[0]}", "lists")


def preference(word: str) -> Preference:
    row = demonstration(word)
    kind, rejected = ("short", "A") if len(word) % 2 else ("wrong", "The the the the")
    return Preference(row.id, row.prompt, row.completion, rejected, row.source, kind, row.category, margin=0.5)


def prompt(word: str, suite: str = "in_distribution") -> Prompt:
    row = demonstration(word)
    return Prompt(row.id, row.prompt, row.category, row.source, suite, row.completion)


@dataclass
class ListData:
    """`rlhf.run.Data` from lists; remembers the sampler that was handed in, and for which splits."""

    gold: Judge | None = None
    sampler: Sampler | None = None
    texts: list[str] | None = None
    sampled: set[Split] = field(default_factory=set)

    def demonstrations(self, split: Split) -> list[Demonstration]:
        return [demonstration(word) for word in ROWS[split]]

    def preferences(self, split: Split, sampler: Sampler | None = None) -> list[Preference]:
        if sampler:
            self.sampler = sampler
            self.sampled.add(split)
        return [preference(word) for word in ROWS[split]]

    def extra_preferences(self) -> dict[str, list[Preference]]:
        return {"people": [preference(word) for word in WORDS]}

    def prompts(self, split: Split) -> list[Prompt]:
        return [prompt(word) for word in ROWS[split]]

    def ood(self, limit: int) -> dict[str, list[Prompt]]:
        return {"shouted": [Prompt("x", ask("WHAT IS A CAT?"), "about c", "lists", "shouted")] * min(limit, 3)}

    def text(self) -> list[str]:
        return self.texts or TEXTS

    def judge(self) -> Judge | None:
        return self.gold


SHORT: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 4,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
}
"""A few short steps in any training phase."""


def tiny_config(**sections: Any) -> Config:
    """All phases in a few steps each; keyword arguments are laid over the sections."""
    values: dict[str, Any] = SMALL | {
        "data": SMALL["data"] | {"max_prompt_tokens": 40},
        "base": {k: v for k, v in SHORT.items() if k != "gradient_checkpointing"}
        | {"block_tokens": 32, "max_steps": 4},
        "sft": SHORT | {"max_steps": 3},
        "reward": SHORT | {"max_steps": 3},
        "ppo": {k: v for k, v in SHORT.items() if k != "max_steps"}
        | {"total_episodes": 16, "gradient_accumulation_steps": 2, "num_mini_batches": 2, "num_ppo_epochs": 1}
        | {"eval_steps": 1, "eval_prompts": 4},
        "test": {"prompts": 4, "pairs": 4, "bootstrap": 100, "samples": 4, "batch_size": 4},
    }
    for name, section in sections.items():
        values[name] = values[name] | section if isinstance(section, dict) and name in values else section
    return parse_config(values)


def tiny_run(folder: Path, *, resume: bool = False, gold: Judge | None = None, **sections: Any) -> Run:
    """A run on `ListData` with `tiny_config`."""
    return Run(tiny_config(**sections), folder, ListData(gold), resume, f"--output {folder}")


def save_pretrained_gpt_neo(folder: Path, hidden_size: int = 64) -> None:
    """What a hub folder of GPT-Neo holds: weights and a byte-level BPE whose only special token is <|endoftext|>."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=320, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, unk_token=END_OF_TEXT
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = GPTNeoForCausalLM(
        GPTNeoConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            num_layers=2,
            num_heads=2,
            attention_types=[[["global", "local"], 1]],
            window_size=16,
            max_position_embeddings=64,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    model.save_pretrained(folder)


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of a result's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
