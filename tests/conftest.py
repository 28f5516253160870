"""Shared fixtures: a small trained tokenizer, a small random GPT-Neo, a small configuration."""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from typing import Any

import hypothesis
import pytest
import torch

from rlhf.config import Config, Shape, parse_config

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")

TEXTS = ["The capital of France is Paris.", "A cat is an animal.", "What is two plus three? It is five."] * 3


@pytest.fixture(scope="session", autouse=True)
def few_threads():
    """Tests run side by side: one thread each."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    from rlhf.tokenizer import load_tokenizer

    return load_tokenizer("train", vocab_size=300, texts=lambda: TEXTS, max_length=64)


@pytest.fixture
def shape() -> Shape:
    return Shape(hidden_size=32, num_layers=2, num_heads=2, window_size=8, max_position_embeddings=64)


@pytest.fixture
def model(shape, tokenizer):
    from rlhf.models import from_scratch

    torch.manual_seed(0)
    return from_scratch(shape, tokenizer).eval()


@pytest.fixture
def lively(model):
    """A random model that does not say the same to every prompt."""
    with torch.no_grad():
        model.transformer.wte.weight.mul_(10)
        model.transformer.wpe.weight.mul_(10)
    return model


@pytest.fixture
def start(tmp_path, model, tokenizer):
    folder = tmp_path / "start"
    with torch.no_grad():  # fresh embeddings are so small that no hidden state could make any token likely
        model.transformer.wte.weight.mul_(10)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


SMALL: dict[str, Any] = {
    "model": {
        "shape": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 128},
        "vocab_size": 300,
        "device": "cpu",
    },
    "lora": {"r": 4, "alpha": 8, "dropout": 0.0, "phases": ["ppo"]},
    "data": {
        "demonstrations": ["classroom"],
        "preferences": ["classroom"],
        "max_prompt_tokens": 32,
        "max_response_tokens": 8,
    },
}
"""The sections of a tiny model's configuration."""


def small_config(**sections: Any) -> Config:
    """A configuration of a tiny model; keyword arguments replace whole sections."""
    return parse_config(SMALL | sections)


@pytest.fixture
def config() -> Config:
    return small_config()
