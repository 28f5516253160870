"""Phase serve: chat, duels and a monitor in the browser, and an OpenAI-compatible API.

python main.py --phase serve
python main.py --phase serve --set serve.port=8000
RLHF_TOKEN=… python main.py --phase serve --set serve.host=0.0.0.0 serve.trusted_hosts=[my-machine]
"""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from rlhf.chat.engine import Engine
from rlhf.chat.feedback import FILE, FeedbackStore
from rlhf.chat.guardrails import Guardrails
from rlhf.chat.http.security import choose_token, is_loopback, trusted_hosts
from rlhf.chat.http.server import Server, bind
from rlhf.chat.service import ChatService
from rlhf.chat.serving.scorer import Scorer
from rlhf.chat.web import create_app
from rlhf.config import SourceSpec
from rlhf.data.jsonl import SOURCE as JSONL
from rlhf.errors import UserError
from rlhf.records import Prompt
from rlhf.registry import Registry
from rlhf.run import Run

log = logging.getLogger(__name__)


def run_phase(run: Run) -> dict[str, float]:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        UserError: nothing to serve yet, the port in use, an open address without a token, a damaged store.
    """
    settings = run.config.serve
    token, drawn = choose_token(settings)
    leave_a_core()
    with bind(settings) as listener, service(run) as chat:
        server = Server(create_app(chat, run.config, token), listener, settings)
        address = f"{server.url}?token={token if drawn else 'YOUR-TOKEN'}"
        chat.watch()
        server.run(lambda: print(described(run, chat), f"open {address}   (Ctrl-C stops)", sep="\n", flush=True))
    print("stopped; what people said and judged is in", run.folder / FILE, flush=True)
    return {}


def leave_a_core() -> None:
    """Have networks compute on all cores but one, unless OMP_NUM_THREADS says on how many.

    Each pass waits for the slowest of its threads, and one that shares its core with the server's own threads is slow:
    on two cores, ten chats at once take 1.9 times as long as one this way, and 2.8 times on both.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), cores - 1)))


@contextmanager
def service(run: Run) -> Iterator[ChatService]:
    """The service of a run, with everything that it needs; closed when the block is left."""
    with ExitStack() as stack:
        registry = Registry(run.folder)
        registry.live()  # refuse before anything is loaded where nothing could answer
        engine = stack.enter_context(_engine(run, registry))
        store = FeedbackStore(run.folder / FILE)
        stack.callback(store.close)
        guardrails = Guardrails(run.config.guardrails, run.device)
        scorer = Scorer(run.config, engine.tokenizer, run.device)
        prompts = duel_prompts(run)
        chat = ChatService(run.folder, run.config, engine, store, registry, guardrails, scorer, prompts)
        stack.callback(chat.close)
        yield chat


def _engine(run: Run, registry: Registry) -> Engine:
    """An engine with the live version, or the SFT version where that cannot be loaded. The service adds the others."""
    live = registry.live()
    try:
        return Engine.of(run.config, {live.name: registry.path(live)})
    except UserError as error:
        fallback = registry.fallback()
        if fallback.name == live.name:
            raise
        log.error("the live version %s cannot be loaded: %s", live.name, error)
        return Engine.of(run.config, {fallback.name: registry.path(fallback)})


def duel_prompts(run: Run) -> list[Prompt]:
    """What people are asked to judge replies to; none, and a word of it, where the data of the run is not there.

    Raises:
        UserError: the file of serve.duel_prompts is not there or holds no prompts.
    """
    path = run.config.serve.duel_prompts
    if path:
        return JSONL.prompts(SourceSpec(source="jsonl", path=path))
    try:
        return run.data.prompts("train")
    except UserError as error:
        log.warning("Duels have no prompts of their own, people type them: %s", str(error).splitlines()[0])
        return []


def described(run: Run, chat: ChatService) -> str:
    """What is served, in a few lines."""
    live = chat.registry.live().name
    others = [name for name in chat.engine.versions if name != live]
    challengers = f"; beside it {', '.join(others)}" if others else ""
    settings = run.config.serve
    lines = [f"serving {run.folder}: {live} is live{challengers}", f"feedback goes to {run.folder / FILE}"]
    if not is_loopback(settings.host):
        names = ", ".join(trusted_hosts(settings))
        lines.append(f"other machines may call it as {names}; more names: serve.trusted_hosts. There is no TLS here.")
    return "\n".join(lines)
