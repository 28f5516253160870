"""A real server in this process: a tiny model, a store, a service, waitress on a free port.

with served(tmp_path / "run", model, tokenizer) as world:
    requests.get(f"{world.url}health")
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import torch

from rlhf.chat.engine import Engine
from rlhf.chat.feedback import FILE, FeedbackStore
from rlhf.chat.guardrails import Guardrails
from rlhf.chat.http.server import Server, bind
from rlhf.chat.service import ChatService
from rlhf.chat.web import create_app
from rlhf.config import Shape
from rlhf.models import from_scratch
from rlhf.registry import Registry
from tests.conftest import small_config
from tests.phases.helpers import ListData

TOKEN = "a-token-of-the-tests"
QUICK = {"requests_per_minute": 1_000_000}
"""Guardrails for tests that send more than a person would."""


@dataclass
class World:
    """What runs."""

    service: ChatService
    app: Any
    url: str
    port: int

    @property
    def engine(self) -> Engine:
        return self.service.engine

    def post(self, path: str, body: Any, **headers: str) -> requests.Response:
        """A JSON request by somebody who knows the token; the answer may be a stream."""
        sent = {"Authorization": f"Bearer {TOKEN}"} | headers
        return requests.post(self.url.rstrip("/") + path, json=body, headers=sent, stream=True, timeout=60)

    @contextmanager
    def standstill(self) -> Iterator[None]:
        """Within it, the engine does nothing: what is asked for waits."""
        over, begun = threading.Event(), threading.Event()

        def stand() -> None:
            begun.set()
            over.wait(60)

        thread = threading.Thread(target=self.engine._on_thread, args=(stand,))
        thread.start()
        begun.wait(60)
        try:
            yield
        finally:
            over.set()
            thread.join()


def talkative(tokenizer: Any) -> Any:
    """A random model that says something else to every prompt, and does not end a reply by itself."""
    torch.manual_seed(0)
    shape = Shape(hidden_size=32, num_layers=2, num_heads=2, window_size=8, max_position_embeddings=64)
    model = from_scratch(shape, tokenizer).eval()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(10)
        model.transformer.wpe.weight.mul_(10)
        model.transformer.wte.weight[tokenizer.all_special_ids] = 0  # as an output, too: never the likeliest
    return model


@contextmanager
def served(folder: Path, model: Any, tokenizer: Any, **sections: dict[str, Any]) -> Iterator[World]:
    """Serve a model as the run's SFT version; keyword arguments are laid over the sections of the configuration."""
    model.save_pretrained(folder / "sft")
    tokenizer.save_pretrained(folder / "sft")
    given: dict[str, Any] = {"serve": {"port": 0}, "guardrails": QUICK}
    for name, section in sections.items():
        given[name] = given.get(name, {}) | section
    config = small_config(**given)
    with ExitStack() as stack:
        engine = stack.enter_context(Engine.of(config, {"sft": folder / "sft"}))
        store = stack.enter_context(FeedbackStore(folder / FILE))
        guardrails, prompts = Guardrails(config.guardrails), ListData().prompts("train")
        service = ChatService(folder, config, engine, store, Registry(folder), guardrails, prompts=prompts)
        stack.callback(service.close)
        app = create_app(service, config, TOKEN)
        server = Server(app, stack.enter_context(bind(config.serve)), config.serve)
        thread = threading.Thread(target=server.run)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.stop)
        yield World(service, app, server.url, server.port)


def wait_until(true: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether it became true in time."""
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return true()
