"""A run folder with tiny random versions, and a service on it with the real engine, store and registry."""

import resource
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import GPTNeoForSequenceClassification

from rlhf.chat.engine import Engine
from rlhf.chat.feedback import FeedbackStore
from rlhf.chat.guardrails import Guardrails
from rlhf.chat.service import ChatService
from rlhf.chat.serving.scorer import Scorer
from rlhf.config import Config, Shape
from rlhf.models import from_scratch, init_reward_head
from rlhf.records import Prompt, ask, prompt_id
from rlhf.registry import Registry, Version
from tests.conftest import small_config

SHAPE = Shape(hidden_size=32, num_layers=2, num_heads=2, window_size=8, max_position_embeddings=2048)
"""Room for replies that go on until they are stopped."""
PROMPTS = tuple(
    Prompt(prompt_id(ask(text)), ask(text), "", "lists") for text in ("A cat?", "Two plus three?", "Paris?")
)


def save_version(folder: Path, tokenizer: Any, seed: int, *, endless: bool = True) -> Path:
    """A random model that says much the same whatever it is asked; `endless`: it never ends by itself."""
    torch.manual_seed(seed)
    model = from_scratch(SHAPE, tokenizer)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(10)
        model.transformer.wpe.weight.mul_(30)
        if endless:  # with this bias a hidden state sums to its width, so a row of -10 gives a logit of -320
            model.transformer.ln_f.bias.fill_(1.0)
            ends = [tokenizer.eos_token_id, *(tokenizer.convert_tokens_to_ids(list(tokenizer.extra_special_tokens)))]
            model.transformer.wte.weight[ends] = -10.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_reward(folder: Path, tokenizer: Any) -> Path:
    """A random reward model."""
    torch.manual_seed(3)
    config = from_scratch(SHAPE, tokenizer).config
    model = GPTNeoForSequenceClassification(config.__class__(**config.to_dict() | {"num_labels": 1}))
    with torch.no_grad():
        model.transformer.wte.weight.mul_(10)
    init_reward_head(model)
    model.save_pretrained(folder)
    return folder


def chat_config(**sections: Any) -> Config:
    """The tiny configuration, with lenient guardrails."""
    return small_config(**{"guardrails": {"requests_per_minute": 60_000, "words": False}} | sections)


def add_challenger(folder: Path, tokenizer: Any, name: str = "v1", seed: int = 7) -> Registry:
    """Another version beside what the run has, registered as a candidate."""
    registry = Registry(folder)
    save_version(folder / "versions" / name, tokenizer, seed)
    registry.register(
        Version(name, f"versions/{name}", None, registry.live().name, "candidate", "", data={}, config=None, metrics={})
    )
    return registry


class Gate:
    """Holds the engine before its next pass through a version's network until it is opened."""

    def __init__(self, engine: Engine, version: str) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        with engine._fleet.role(version) as model:
            self.hooks = [each.register_forward_pre_hook(self.wait) for each in (model, model.base_model)]

    def wait(self, *_: Any) -> None:
        self.reached.set()
        assert self.open.wait(60)

    def gone(self) -> None:
        self.open.set()
        for hook in self.hooks:
            hook.remove()


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow: a write fails as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def service_on(
    folder: Path, config: Config, *, rewards: bool = False, prompts: Sequence[Prompt] = PROMPTS, store: Any = None
):
    """A service on a run folder; closed at the end."""
    registry = Registry(folder)
    live = registry.live()
    kept = store or FeedbackStore(folder / "feedback.sqlite")
    with Engine.of(config, {live.name: registry.path(live)}) as engine:
        scorer = Scorer(config, engine.tokenizer, torch.device("cpu")) if rewards else None
        service = ChatService(folder, config, engine, kept, registry, Guardrails(config.guardrails), scorer, prompts)
        try:
            yield service
        finally:
            service.close()
    if store is None:
        kept.close()
