"""A small world for conversations: few prompts, a random model, and rewards that can be counted by hand."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import GPTNeoForSequenceClassification

from rlhf.config import Shape, save_config
from rlhf.env import World, make_world
from rlhf.models import from_scratch
from rlhf.tokenizer import load_tokenizer
from tests.conftest import TEXTS, small_config

PROMPTS = ("The cat", "What is two plus three?", "Paris")
CONTEXT = 64
"""The model's positions."""


@cache
def small() -> tuple[Any, Any]:
    """A random model that does not say the same to every prompt, and its tokenizer."""
    tokenizer = load_tokenizer("train", vocab_size=300, texts=lambda: TEXTS, max_length=CONTEXT)
    torch.manual_seed(0)
    shape = Shape(hidden_size=32, num_layers=2, num_heads=2, window_size=8, max_position_embeddings=CONTEXT)
    model = from_scratch(shape, tokenizer).eval().requires_grad_(False)
    model.transformer.wte.weight.mul_(10)
    model.transformer.wpe.weight.mul_(10)
    return model, tokenizer


def letters(completions: list[str], **columns: list[Any]) -> list[float]:
    """The letters "a" of a reply."""
    return [float(completion.count("a")) for completion in completions]


def small_world(**changes: Any) -> World:
    """Replies of six tokens at most, worth the letters "a" in them; keyword arguments go to `make_world`."""
    model, tokenizer = small()
    made = dict(model=model, tokenizer=tokenizer, prompts=PROMPTS, reward=letters, max_reply_tokens=6)
    return make_world(**{**made, **changes})


def spell(text: str) -> list[int]:
    """The token of each letter of a text."""
    return [int(small()[1].convert_tokens_to_ids(letter)) for letter in text]


END = int(small()[1].eos_token_id)
"""The end of sequence."""


def play(env: Any, actions: list[Any]) -> list[Any]:
    """Take actions one after the other; what each step gave but the observation."""
    return [env.step(action)[1:] for action in actions]


def made_run(folder: Path, **sections: Any) -> tuple[Any, Any]:
    """A run as its phases leave it: the models are random. The reward model, and the tokenizer."""
    model, tokenizer = small()
    config = small_config(**sections)
    torch.manual_seed(1)
    settings = copy.deepcopy(model.config)
    settings.num_labels = 1
    judge = GPTNeoForSequenceClassification(settings)
    for name, network in (("sft", model), ("reward", judge)):
        network.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        save_config(config, folder / name)
    return judge, tokenizer
